import json
from itertools import pairwise

import pytest

COMMAND = ["plan-scale", "--parameters", "65536", "--compute", "1", "--batch-size", "64", "--shards", "64", "--jitter", "0"]


def test_tables_and_sentences_for_each_network(command):
    result = command(*COMMAND)
    assert result.exit_code == 0, result.output
    head, strong, weak = result.stdout.split("\n\nStrong scaling")[0], *result.stdout.split("scaling, ")[1:]
    assert "65,536 parameters (262 kB), 64 samples a step in 64 shards" in head
    assert "at most 1 of them update" in head
    assert "1 Gb/s" in strong
    assert "100 Gb/s: each worker is used to half or more up to" in weak
    assert "128" in strong
    assert "64 idle" in strong  # the last line: nothing changes after it
    assert " 256 " not in strong


def test_json_has_every_point(command):
    output = json.loads(command(*COMMAND, "--gigabits", "10", "--most", "16", "--json").stdout)
    assert [(s["network"], s["weak"]) for s in output["scaling"]] == [("10 Gb/s", False), ("10 Gb/s", True)]
    strong = output["scaling"][0]["rows"]
    assert [row["workers"] for row in strong] == [1, 2, 4, 8, 16]
    assert strong[0]["efficiency"] == 1
    assert strong[0]["seconds"] == pytest.approx(64e-3, rel=0.05)
    assert all(a["efficiency"] > b["efficiency"] for a, b in pairwise(strong))


@pytest.mark.slow
def test_a_model_is_measured_on_this_machine(command):
    output = json.loads(command("plan-scale", "--layers", "6,5,2", "--batch-size", "16", "--shards", "2", "--json").stdout)
    assert output["work"]["parameters"] == 6 * 5 + 5 + 5 * 2 + 2
    assert output["work"]["sample"] > 0


def test_measured_channels_are_used(command, tmp_path):
    file = tmp_path / "channels.json"
    file.write_text(json.dumps({"channels": {"socket": {"latency": 1.0, "bandwidth": 2e9}, "shared": {"latency": 1e-6}}}))
    output = json.loads(command(*COMMAND, "--channels", str(file), "--most", "2", "--json").stdout)
    assert output["scaling"][0]["rows"][1]["seconds"] > 2  # two messages of a second each
    file.write_text("{}")
    result = command(*COMMAND, "--channels", str(file))
    assert result.exit_code == 2
    assert "does not hold what benchmarks/channels.py --json writes" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["digits", "--layers", "4,2"], "give one of them"),
        (["--parameters", "10"], "add --compute MILLISECONDS"),
        (["--layers", "4"], "as in --layers 784,256,10"),
        (["--batch-size", "4", "--shards", "8"], "8 shards are more than the 4 samples"),
    ],
)
def test_wrong_options_are_named(command, options, words):
    result = command("plan-scale", *options)
    assert result.exit_code == 2
    assert words in result.stderr
