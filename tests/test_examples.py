"""Each example runs and reaches its known figure; those that train run shortened here, and in full in the long form."""

import importlib.util
from pathlib import Path

import distributed
import numpy as np
import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def quick(thorough):
    return not thorough


def test_expression(tmp_path):
    assert load("a1_expression").main(tmp_path) == (6.0, (2.0, 5.0))
    picture = (tmp_path / "expression.svg").read_text()
    assert "∂e/∂a = 2" in picture
    assert "∂e/∂b = 5" in picture


def test_delayed_program(tmp_path):
    assert load("a2_delayed_program").main(tmp_path) == (14, 36, 4.0, "the sum of squares is 14")
    picture = (tmp_path / "delayed.svg").read_text()
    assert all(text in picture for text in ("cube", "(1)", "(2)", "(3)", "sum_list"))
    assert "total" in (tmp_path / "fed.svg").read_text()


def test_until_accurate(quick):
    error, accuracy = load("a3_until_accurate").main(quick)
    assert error < (1e-2 if quick else 1e-3)
    assert accuracy >= (0.93 if quick else 0.97)


def test_network_picture(tmp_path):
    assert load("a4_network_picture").main(tmp_path) == 64 * 128 + 128 + 128 * 32 + 32 + 32 * 10 + 10
    assert all(name in (tmp_path / "network-blocks.svg").read_text() for name in ("dense_1", "dense_2", "dense_3"))
    assert (tmp_path / "network-neurons.svg").stat().st_size > 1000


@pytest.mark.timeout(1200)  # in the long form
def test_tables(quick):
    """The bounds are exact; with a hundredth of luck for the share of episodes, and what a hundred episodes scatter."""
    results = load("c1_tables").main(quick)
    assert results["best"] == pytest.approx(0.7442, abs=1e-4)
    assert results["reached"] >= (0.5 if quick else 0.72)
    assert results["QLearning, greedy"] == -13
    assert results["SARSA, greedy"] < -13
    assert results["QLearning"] == pytest.approx(results["edge, exact"], abs=20 if quick else 6)
    assert results["ExpectedSARSA"] == pytest.approx(results["best, exact"], abs=6)
    assert results["QLearning"] < results["SARSA"] < results["best, exact"] + 3


@pytest.mark.timeout(1800)  # in the long form
def test_cart_pole(quick):
    """A random policy holds the pole for 22 steps; in full four of five seeds are to reach 475, and all together 450."""
    returns = list(load("c3_cart_pole").main(quick).values())
    if quick:
        assert returns[0] > 60
    else:
        assert sum(value >= 475 for value in returns) >= 4
        assert np.mean(returns) >= 450


@pytest.mark.timeout(1800)  # in the long form
def test_anomalies(quick):
    """Above principal components and one-line rules by ranges: in full by a tenth on two generated series, and below what knows them."""
    results = load("b8_anomalies").main(quick)
    for name in ("sensors",) if quick else ("sensors", "payments"):
        others = [results[f"{name}, {other}"] for other in ("components", "from the mean", "from the row before")]
        assert max(others) + (0.05 if quick else 0.1) < results[f"{name}, network"] < results[f"{name}, bound"]


@pytest.mark.cluster  # in the long form
@pytest.mark.timeout(1200)
def test_resumes(quick):
    """In full at least nine tenths of what the generator's own order reaches; an order by chance reaches a tenth."""
    results = load("e2_resumes").main(quick)
    assert (0.3 if quick else 0.9 * results["bound"]) < results["value"] < 1


@pytest.mark.timeout(2400)  # in the long form
def test_unsupervised(quick):
    """In full the bars: machines by the exact pseudo-likelihood, few labels by paired means of ten splits."""
    results = load("b6_unsupervised").main(quick)
    assert results["torn, autoencoder"] < 0.9 * results["torn, principal components"]
    bars = {"binary": -13.6} if quick else {"binary": -13.6, "grey": -17.7}
    peers = {form: max(results[f"{form}, BernoulliRBM {rate}"] for rate in (0.06, 0.1, 0.2)) for form in bars}
    for form, bar in bars.items():
        for kind in ("CD-1", "PCD"):
            assert results[f"{form}, {kind}"] > (peers[form] if quick else max(bar, peers[form]))
    gains = {
        count: results[f"{count} labels, spread labels"] - results[f"{count} labels, labels alone"]
        for count in (50, 100, 1000)[: 1 if quick else 3]
    }
    assert gains[50] >= 0.03
    if not quick:
        assert gains[100] >= 0.01
        assert gains[1000] >= -0.005
        for count in (50, 100, 200, 1000):
            assert results[f"{count} labels, stack, fine-tuned"] >= results[f"{count} labels, the same from scratch"]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_pendulum():
    """Five seeds are to get -155, and at most 17 % less than what is possible; see tests/rl for a task that is learnt in a second."""
    results = load("c4_pendulum").main()
    assert results["mean"] >= max(-155, 1.17 * results["best possible"])


@pytest.mark.timeout(3600)  # in the long form
def test_pictures(quick, tmp_path):
    """One split in the quick form; in full the mean of five, and larger coloured pictures."""
    results = load("pictures").main(quick, folder=tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"activations.png", "filters.png", "occlusion.png", "shares.png"}
    assert results["grey"] >= (0.975 if quick else 0.99)
    assert results["coloured"] >= (0.4 if quick else 0.95)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_googlenet():
    """The short form, which memorises a few pictures, is in tests/train/test_convolution.py."""
    results = load("googlenet").main()
    assert min(accuracy[-1] for accuracy in results.values()) >= 0.95


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_shallow_and_deep_digits(seed, quick):
    results = load("b1_digits").main(seed, verbose=0, quick=quick)
    assert results.keys() == {"shallow", "deep"}
    assert min(results.values()) >= (0.95 if quick else 0.97)


def test_shallow_and_deep_digits_on_two_workers(local_cluster, quick):
    """Workers give the bits, and so the accuracy, of this process."""
    main = load("b1_digits").main
    alone = main(verbose=0, quick=quick)
    with local_cluster(2) as cluster, distributed.Client(cluster):
        assert main(verbose=0, quick=quick) == alone
        assert cluster.scheduler.transition_counter > 0  # the workers did the work


def test_same_bits():
    example = load("same_bits")
    inline = example.train("inline", epochs=2, threads=1)
    assert example.train("inline", epochs=2, threads=4) == inline
    assert example.train("inline", epochs=1, threads=1) != inline


@pytest.mark.cluster
@pytest.mark.fault
@pytest.mark.filterwarnings("default")  # a killed worker leaves open sockets, of which Python warns
def test_same_bits_on_clusters(settings_of_dask, quick):
    results = load("same_bits").main(quick)
    assert len(results) == (6 if quick else 8)
    assert len(set(results.values())) == 1


@pytest.mark.cluster
@pytest.mark.fault
@pytest.mark.filterwarnings("default")  # as above
def test_lanes(settings_of_dask, tmp_path, quick):
    alone, lanes, events = load("lanes").main(tmp_path, quick)
    assert lanes == alone
    assert "was lost" in str(events[0])
    picture = (tmp_path / "lanes.svg").read_text()
    assert all(text in picture for text in ("rank 0", "rank 1", "blocks 2–3", "partial sums"))


def test_stop_and_go_on(quick):
    whole, in_pieces, attempts, same = load("stop_and_go_on").main(quick)
    assert whole == in_pieces
    assert attempts > 2
    assert same


def test_cost_function():
    results = load("cost_function").main()
    np.testing.assert_allclose(results["forgiving"], (2, -1), atol=0.05)
    assert abs(results["squared"][1] + 1) > 0.5


def test_graph_model(quick):
    results = load("graph_model").main(quick)
    assert results["kind"] >= (0.93 if quick else 0.95)
    assert results["features"] >= (0.9 if quick else 0.93)
    assert results["bright"] < (0.004 if quick else 0.001)  # their variance is 0.0012


def test_contrastive_divergence(quick):
    results = load("contrastive_divergence").main(quick)
    assert results["error"] < results["bound"]


@pytest.mark.timeout(3600)  # in the long form
def test_memory(quick):
    results = load("memory").main(quick)
    assert max(results["adding LSTM"], results["adding GRU"]) < 0.01
    assert results["adding RNN"] > 0.1
    if not quick:
        assert min(results["copying LSTM"], results["copying GRU"]) >= 0.99
        assert results["copying RNN"] < 0.6


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("sentences", [(20_000, 8, 0.01), (100_000, 4, 0.0025)])
def test_next_words_cost_little_more_than_the_entropy(sentences):
    count, epochs, bound = sentences
    _, results = load("next_word").train(count, epochs)
    assert -0.001 < results["excess"] <= bound


def test_next_word():
    results = load("next_word").main(quick=True)
    assert -0.005 < results["excess"] <= 0.04
    assert results["ranked"][:5] == results["true"][:5]
    assert set(results["ranked"][:7]) == set(results["true"])


@pytest.mark.timeout(1200)  # in the long form
def test_next_character(quick):
    results = load("next_character").main(quick)
    assert -0.005 < results["excess"] <= (1.5 if quick else 0.01)  # 8 where nothing is learnt
    assert quick or all(abs(results["letters"].get(letter, 0) - share) < 0.06 for letter, share in results["true"].items())


@pytest.mark.timeout(600)  # in the long form
def test_diabetes(quick):
    means = load("diabetes").main(quick)
    assert means["network"] >= means["ridge"] - 0.01
    assert means["network"] >= means["theirs"]


@pytest.mark.timeout(600)  # in the long form
def test_number_words_alone_and_on_two_workers(local_cluster, quick):
    main = load("number_words").main
    alone = main(quick)
    assert min(alone["likeliest"], alone["beam"]) >= (0.9 if quick else 0.98)
    with local_cluster(2) as cluster, distributed.Client(cluster):
        assert main(quick) == alone


@pytest.mark.timeout(2400)  # in the long form
def test_captions(quick, tmp_path):
    results = load("captions").main(quick, folder=tmp_path)
    likeliest, drawn = results["likeliest"], results["drawn"]
    assert likeliest["grammatical"] >= (0.9 if quick else 0.995)
    assert quick or likeliest["true"] >= 0.95
    assert drawn["forms"] == 6
    assert drawn["grammatical"] >= (0.4 if quick else 0.95)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_texts_are_learnt_to_the_same_bits_on_two_workers(local_cluster):
    examples = [load(name).main for name in ("next_word", "captions")]
    alone = [main(quick=True)["fingerprint"] for main in examples]
    with local_cluster(2) as cluster, distributed.Client(cluster):
        assert [main(quick=True)["fingerprint"] for main in examples] == alone


@pytest.mark.timeout(2400)  # in the long form
def test_speech(quick, tmp_path):
    """An LSTM on recordings knows strangers' phones better than a deep network on frames; in full that beats logistic regression."""
    results = load("b7_speech").main(quick, None if quick else str(tmp_path / "speech.png"))
    accuracy = {name.removesuffix(", new voices"): value for name, value in results["accuracies"].items()}
    if quick:
        assert accuracy["LSTM"] > 0.6  # the most frequent phone: 0.14
        assert accuracy["deep, a frame"] > 0.5
    else:
        assert (tmp_path / "speech.png").stat().st_size > 10_000
        assert accuracy["deep, a frame"] > accuracy["logistic regression"] + 0.03
        assert accuracy["LSTM"] >= accuracy["deep, a frame"] + 0.05
        assert accuracy["LSTM"] > accuracy["deep, 11 frames"]


@pytest.mark.timeout(900)  # in the long form
def test_callers(quick, tmp_path):
    results = load("e3_callers").main(quick, str(tmp_path / "callers.png"))
    assert (tmp_path / "callers.png").stat().st_size > 10_000
    assert results["value"] < (0.7 if quick else 0.5) * results["constant"]
    assert quick or results["value"] <= 1.15 * results["bound"]  # 1.06 and 1.09 with two seeds: the threshold scatters
    assert results["confusion"].sum() == (100 if quick else 4000)


def test_sound_is_learnt_to_the_same_bits_on_two_workers(local_cluster):
    speech, callers = load("b7_speech"), load("e3_callers")
    recordings = speech.padded(*speech.draw(2, 2, 2, 1, 1), 200)
    calls = callers.draw(6, 1, (2, 3))[:2]

    def learn():
        trainers = speech.train(speech.on_sequences(8, 1, 0.1), recordings, 2, 2, 1e-2, 0), callers.network(*calls, 2, 0)
        return [trainer.history.fingerprint for trainer in trainers]

    alone = learn()
    with local_cluster(2) as cluster, distributed.Client(cluster):
        assert learn() == alone
        assert cluster.scheduler.transition_counter > 0


@pytest.mark.timeout(300)  # in the long form
def test_credit(quick):
    """Few applicants leave the short form further from the process."""
    results = load("e1_credit").main(quick)
    assert results["AUC, network"] >= results["AUC, process"] - (0.035 if quick else 0.01)
    assert results["Brier, network"] <= results["Brier, process"] * (1.12 if quick else 1.05)
    assert results["AUC, network"] > results["AUC, gradient boosting"] > results["AUC, logistic regression"]
    assert results["Brier, network"] < results["Brier, gradient boosting"]
    assert results["first reasons"] >= (0.55 if quick else 0.8)
    assert results["gap"] < 0.01


@pytest.mark.timeout(600)  # in the long form
def test_fraud(quick):
    """By chance the precision is 0.01. The short form has an eighth of the frauds to learn from."""
    results = load("e4_fraud").main(quick)
    assert results["precision, network"] >= (0.5 if quick else 0.8) * results["precision, process"]
    assert results["precision, network"] > results["precision, gradient boosting"] > results["precision, logistic regression"]
    assert results["recall, network"] > results["recall, gradient boosting"]
    assert results["log loss"] < min(results["log loss before"] - 0.01, 1.2 * results["log loss, process"])
    assert results["cost, network"] < (1.25 if quick else 1.1) * results["cost, process"] < 0.4 * results["cost, none"]


def test_tables_are_learnt_to_the_same_bits_on_two_workers(local_cluster):
    trains = [load(name).train for name in ("e1_credit", "e4_fraud")]
    alone = [train(900, 0, 1, partition=400).history.fingerprint for train in trains]
    with local_cluster(2) as cluster, distributed.Client(cluster):
        assert [train(900, 0, 1, partition=400).history.fingerprint for train in trains] == alone
        assert cluster.scheduler.transition_counter > 0


def test_every_example_is_tested():
    text = Path(__file__).read_text()
    assert [path.stem for path in FOLDER.glob("*.py") if f'load("{path.stem}")' not in text] == []


@pytest.mark.timeout(600)  # in the long form
def test_shifted_digits(quick):
    results = load("shifted_digits").main(quick)
    assert results["plain, in place"] >= (0.93 if quick else 0.97)
    assert results["plain, shifted"] <= 0.55
    assert results["augmented, shifted"] >= (0.7 if quick else 0.82)
    assert results["augmented, in place"] >= (0.82 if quick else 0.94)
