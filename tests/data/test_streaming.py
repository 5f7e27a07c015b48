"""Data five times the allowed memory is opened, evaluated and predicted, partition by partition."""

import subprocess
import sys

import pytest

MIB = 1 << 20

PROGRAM = """
import sys
from pathlib import Path
import dask, dask.array as da, numpy as np
import dagtrain as dt
from dagtrain.data import open_source
from dagtrain.engines.engine import InlineEngine

budget = int(sys.argv[1])
COLUMNS = 128
chunk = budget // 16 // (4 * COLUMNS)
parts = 5 * 16

def load(i):
    x = np.random.default_rng(i).random((chunk, COLUMNS), "f4")
    return x, (x[:, 0] > x[:, 1]).astype("i8")

def peak():
    # Not `getrusage`, which includes the parent's memory at the start of this program.
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])

def data(parts, form):
    loaded = [dask.delayed(load)(i) for i in range(parts)]
    if form == "pairs":
        return loaded, None
    shapes = ((chunk, COLUMNS), "f4"), ((chunk,), "i8")
    return [da.concatenate([da.from_delayed(p[k], shape, dtype=dtype) for p in loaded]) for k, (shape, dtype) in enumerate(shapes)]

def reset_peak():
    Path("/proc/self/clear_refs").write_text("5")  # restart the peak at the current memory
    return peak()

model = dt.nn.Sequential([dt.nn.Dense(8, "relu"), dt.nn.Dense(2)])
trainer = dt.Trainer(model, loss="cross_entropy", engine="inline", threads=2)
with dask.config.set(scheduler="threads", num_workers=2):
    for form in ("arrays", "pairs"):
        x, y = data(2, form)
        trainer.fit(x, y, batch_size=chunk, verbose=0)
        trainer.evaluate(x, y)
        x, y = data(parts, form)
        before = reset_peak()
        trainer.evaluate(x, y)
        print(form, "evaluated", peak() - before)
        before = reset_peak()
        outputs = trainer.predict(x if form == "arrays" else [pair[0] for pair in x])
        dask.compute(*[dask.delayed(np.sum)(part) for part in outputs.to_delayed().ravel()])
        print(form, "predicted", peak() - before)
assert parts * chunk * COLUMNS * 4 == 5 * budget
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_data_five_times_the_budget_streams(thorough):
    budget = (64 if thorough else 16) * MIB
    process = subprocess.run([sys.executable, "-c", PROGRAM, str(budget)], capture_output=True, text=True, timeout=100, check=False)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert len(lines) == 4
    assert [line for line in lines if int(line.split()[-1]) >= budget] == []
