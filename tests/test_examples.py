"""Each example runs, and its figure is what is known of it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def test_plain_loop_until_accurate():
    iterations, error = load("a3_until_accurate").plain_loop(tolerable=1e-2)
    assert error < 1e-2
    assert 10 < iterations < 20_000


def test_trainer_until_accurate():
    epochs, accuracy = load("a3_until_accurate").with_trainer()
    assert accuracy >= 0.97
    assert epochs < 40


def test_network_picture(tmp_path):
    assert load("a4_network_picture").main(tmp_path) == 64 * 128 + 128 + 128 * 32 + 32 + 32 * 10 + 10
    assert all(name in (tmp_path / "network-blocks.svg").read_text() for name in ("dense_1", "dense_2", "dense_3"))
    assert (tmp_path / "network-neurons.svg").stat().st_size > 1000


@pytest.mark.parametrize("seed", [0, 1])
def test_shallow_and_deep_digits(seed):
    found = load("b1_digits").main(seed, verbose=0)
    assert found.keys() == {"shallow", "deep"}
    assert min(found.values()) >= 0.97


def test_same_bits():
    example = load("same_bits")
    inline = example.train("inline", epochs=2, threads=1)
    assert example.train("inline", epochs=2, threads=4) == inline
    assert example.train("inline", epochs=1, threads=1) != inline


@pytest.mark.cluster
@pytest.mark.filterwarnings("default")  # a killed worker leaves sockets behind that Python complains of
def test_same_bits_on_clusters():
    found = load("same_bits").main()
    assert len(found) == 8
    assert len(set(found.values())) == 1


@pytest.mark.cluster
@pytest.mark.filterwarnings("default")  # as above
def test_lanes(tmp_path):
    alone, lanes, events = load("lanes").main(tmp_path)
    assert lanes == alone
    assert "was lost" in str(events[0])
    picture = (tmp_path / "lanes.svg").read_text()
    assert all(text in picture for text in ("lane 0", "lane 1", "blocks 2–3", "partial sums"))


def test_stop_and_go_on():
    whole, in_pieces, attempts, same = load("stop_and_go_on").main()
    assert whole == in_pieces
    assert attempts > 2
    assert same


def test_cost_function():
    found = load("cost_function").main()
    np.testing.assert_allclose(found["forgiving"], (2, -1), atol=0.05)
    assert abs(found["squared"][1] + 1) > 0.5


def test_every_example_is_tested():
    text = Path(__file__).read_text()
    assert [path.stem for path in FOLDER.glob("*.py") if f'load("{path.stem}")' not in text] == []
