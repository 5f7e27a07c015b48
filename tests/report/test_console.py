"""The console: output on a terminal and in a log."""

import io
import re

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError
from dagtrain.report import Reporter

INFO = {
    "engine": "scheduler",
    "workers": 2,
    "shards": 8,
    "parameters": 9610,
    "samples": 1437,
    "dashboard": "http://127.0.0.1:8787/status",
    "epochs": 2,
}
ROWS = [
    {
        "epoch": 1,
        "epochs": 2,
        "loss": 1.5,
        "accuracy": 0.5,
        "val_loss": 1.25,
        "val_accuracy": 0.625,
        "seconds": 0.25,
        "samples_per_second": 5748.0,
    },
    {
        "epoch": 2,
        "epochs": 2,
        "loss": 0.5,
        "accuracy": 0.75,
        "val_loss": 1.5,
        "val_accuracy": 0.5,
        "seconds": 0.5,
        "samples_per_second": 2874.0,
    },
]
LINES = """\
scheduler engine, 2 workers, 8 shards, 9,610 parameters, 1,437 samples
dashboard: http://127.0.0.1:8787/status
epoch       loss   accuracy   val_loss  val_accuracy       time  samples/s
  1/2     1.5000*    0.5000*    1.2500*       0.6250*    0.25 s      5,748
  2/2     0.5000*    0.7500*    1.5000        0.5000     0.50 s      2,874
*                   the best so far
accuracy            0.9750
fingerprint         3f2a
samples per second  2,874
"""


class Terminal(io.StringIO):
    """A stream that is a terminal, and its screen."""

    def isatty(self):
        return True

    def screen(self):
        lines = [""]
        for piece in re.findall(r"\r|\n|\x1b\[\d+m|[^\r\n\x1b]+", self.getvalue()):
            if piece == "\n":
                lines.append("")
                column = 0
            elif piece == "\r":
                column = 0
            elif piece[0] != "\x1b":
                column = 0 if len(lines[-1]) == 0 else column
                lines[-1] = lines[-1][:column] + piece + lines[-1][column + len(piece) :]
                column += len(piece)
        return "\n".join(line.rstrip() for line in lines)


class Clock:
    """A clock that tests set."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def run(reporter, clock=None):
    reporter.start(INFO)
    for row in ROWS:
        for i in range(1, 7):
            if clock:
                clock.now += 1.0
            reporter.step(i, 6, 0.8)
        reporter.epoch(row)
    reporter.finish({"accuracy": 0.975, "fingerprint": "3f2a", "val_loss": None, "samples_per_second": 2874.0})


@pytest.mark.parametrize("verbose", [1, 2])
def test_without_a_terminal_there_are_plain_lines_only(verbose):
    stream = io.StringIO()
    run(Reporter(verbose, stream))
    assert stream.getvalue() == LINES


def test_silence_writes_nothing():
    stream = Terminal()
    run(Reporter(0, stream))
    assert stream.getvalue() == ""


def test_the_bar_leaves_nothing_behind_on_a_terminal():
    stream, clock = Terminal(), Clock()
    run(Reporter(1, stream, clock), clock)
    assert stream.screen() == re.sub(r"\n\* .*", "", LINES).replace("*", " ").replace(" \n", "\n")
    assert "epoch 2/2 [===========>            ] 3/6  loss 0.8000" in stream.getvalue()


def test_the_best_values_are_green_on_a_terminal():
    stream = Terminal()
    run(Reporter(1, stream))
    assert re.findall(r"\x1b\[32m(.*?)\x1b\[0m", stream.getvalue()) == ["1.5000", "0.5000", "1.2500", "0.6250", "0.5000", "0.7500"]
    assert "*" not in stream.getvalue()


def test_no_color_is_respected(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    run(Reporter(1, stream))
    assert "\x1b" not in stream.getvalue()
    assert stream.screen() == LINES


def test_a_terminal_without_abilities_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    run(Reporter(1, stream))
    assert stream.getvalue() == LINES


def test_the_plain_table_is_plain_on_a_terminal_too():
    stream = Terminal()
    run(Reporter(2, stream))
    assert stream.getvalue() == LINES


def test_the_bar_is_drawn_twenty_times_a_second_at_most_and_when_full():
    stream, clock = Terminal(), Clock()
    reporter = Reporter(1, stream, clock)
    for i in range(1, 1001):
        clock.now += 0.001
        reporter.step(i, 1000, 0.5)
    assert 18 <= stream.getvalue().count("\r") <= 22
    assert stream.screen().endswith("1000/1000  loss 0.5000")


def test_a_bar_wider_than_the_terminal_is_cut():
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    reads, writes = pty.openpty()
    termios.tcsetwinsize(writes, (5, 20))
    with open(reads, "rb", buffering=0) as screen, open(writes, "w") as stream:
        Reporter(1, stream).step(3, 6, 0.5)
        stream.flush()
        assert len(screen.read(1000).decode().strip("\r\n")) == 19


def test_a_shorter_bar_covers_a_longer_one():
    stream, clock = Terminal(), Clock()
    reporter = Reporter(1, stream, clock)
    reporter.step(1, 6, 0.5)
    clock.now = 1.0
    reporter.step(2, 6)
    assert stream.screen() == "epoch 1 [=======>                ] 2/6"


def test_a_long_epoch_writes_a_line_a_minute_to_a_log():
    stream, clock = io.StringIO(), Clock()
    reporter = Reporter(1, stream, clock)
    reporter.start({"epochs": 3})
    for i in range(1, 151):
        clock.now += 1.0
        reporter.step(i, 150, 0.5)
    assert stream.getvalue() == "epoch 1/3 step  60/150  loss 0.5000\nepoch 1/3 step 120/150  loss 0.5000\n"


def test_a_resumed_run_continues_the_count_of_epochs():
    stream = Terminal()
    reporter = Reporter(1, stream)
    reporter.start({"epoch": 4, "epochs": 9})
    reporter.step(1, 2)
    assert stream.screen().startswith("epoch 5/9 [")


def test_closing_removes_the_bar():
    stream = Terminal()
    reporter = Reporter(1, stream)
    reporter.step(1, 2, 0.5)
    reporter.close()
    reporter.close()
    assert stream.screen() == ""


def test_columns_that_come_and_go_are_kept_in_place():
    stream = io.StringIO()
    reporter = Reporter(2, stream)
    for row in ({"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5, "val_loss": 2.0}, {"epoch": 3, "loss": 2.0}):
        reporter.epoch(row)
    assert stream.getvalue() == (
        "epoch       loss\n    1     1.0000*\nepoch       loss   val_loss\n    2     0.5000*    2.0000*\n    3     2.0000\n"
    )


def test_values_of_any_size_keep_the_columns_aligned():
    stream = io.StringIO()
    reporter = Reporter(2, stream)
    for i, loss in enumerate((1.0, 1e9, -1e-9, float("nan"), float("inf"), -12345.6), 1):
        reporter.epoch({"epoch": i, "epochs": 100, "loss": loss, "seconds": 10.0**i, "samples_per_second": 10.0**i})
    lines = stream.getvalue().splitlines()
    assert len({len(line) for line in lines}) == 1


def test_each_run_of_a_reporter_has_a_table_of_its_own():
    stream = io.StringIO()
    reporter = Reporter(2, stream)
    for _ in "ab":
        reporter.start({})
        reporter.epoch({"epoch": 1, "loss": 1.0})
    assert stream.getvalue() == "epoch       loss\n    1     1.0000*\n" * 2


def test_standard_output_is_the_default(capsys):
    Reporter().epoch({"epoch": 1, "loss": 1.0})
    assert capsys.readouterr().out == "epoch       loss\n    1     1.0000*\n"


def test_other_levels_are_refused():
    with pytest.raises(ArgumentError, match="verbose is 0"):
        Reporter(3)


def test_an_event_is_a_line_where_it_happens():
    stream = Terminal()
    reporter = Reporter(stream=stream)
    reporter.start(INFO)
    reporter.step(1, 6, 2.0)
    reporter.event("1.2 s, step 40: a worker was lost")
    reporter.step(6, 6, 2.0)
    assert "1.2 s, step 40: a worker was lost" in stream.screen()
    stream = io.StringIO()
    Reporter(stream=stream).event("a worker was lost")
    assert stream.getvalue() == "a worker was lost\n"
    silent = io.StringIO()
    Reporter(verbose=0, stream=silent).event("a worker was lost")
    assert not silent.getvalue()


def test_events_of_a_fit_are_written_once(capsys):
    trainer = dt.Trainer(dt.nn.Sequential([dt.nn.Dense(2)]), loss="cross_entropy", engine="inline")
    trainer.fit(np.eye(4), np.array([0, 1, 0, 1]), epochs=5, callbacks=[dt.callbacks.Target("loss", 9.0)])
    lines = capsys.readouterr().out.splitlines()
    (event,) = [line for line in lines if "Target: loss is" in line]
    assert re.fullmatch(r"\d+\.\d s, step 1: Target: loss is \d.*, after 1 epoch", event)
    assert lines.index(event) == len(lines) - 3, "before the last lines: what a star means, and the fingerprint"
