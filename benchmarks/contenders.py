"""The contenders of step.py, each written as its documentation recommends for speed.

Those of single steps have their batches in the library's own arrays before the measurement. Those of whole loops shuffle and cut the data.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
from problem import BETAS, EPSILON, LEARNING_RATE, SIZES, Maker, Problem

__all__ = ["CONTENDERS", "LOOPS"]


class Dagtrain:
    """The step that `Trainer` runs inline: as many shards as cores, each on a thread of its own with one BLAS thread."""

    def __init__(self, problem: Problem, cores: int) -> None:
        import dagtrain as dt
        from dagtrain.backends.blas import one_blas_thread
        from dagtrain.engines.inline import StepRunner

        def prepare(sizes: tuple[int, ...], rows: int) -> Any:
            layers = [dt.nn.Dense(n, "relu") for n in sizes[1:-1]]
            model = dt.nn.Sequential([*layers, dt.nn.Dense(sizes[-1])])
            objective = dt.step.ModelObjective(model, "cross_entropy", [])
            optimizer = dt.optim.adam(LEARNING_RATE, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON)
            columns = dt.data.Columns.of(dt.Spec(sizes[:1], np.dtype("f4")), dt.Spec((), np.dtype("i8")))
            program = dt.step.Program(objective, optimizer, columns, seed=0)
            return program, StepRunner(program.for_workers([rows]), program.first_state(), cores, cores)

        rows, remainder = divmod(problem.batch_size, cores)
        if remainder:
            raise SystemExit(f"a batch of {problem.batch_size} cannot be cut into {cores} equal shards")
        prepare((4, 3, 2), 2)  # for all contenders, imports and lookups that happen once do not count as compilation
        start = time.perf_counter()
        self.program, self.runner = prepare(SIZES, rows)
        self.compile_seconds: float | None = time.perf_counter() - start
        self.one_blas_thread = one_blas_thread
        cuts = [slice(s * rows, (s + 1) * rows) for s in range(cores)]
        self.batches = [[(x[c], y[c]) for c in cuts] for x, y in problem.batches]
        first = {f"dense_{i}": {"kernel": kernel, "bias": bias} for i, (kernel, bias) in enumerate(problem.weights, 1)}
        self.first = self.program.first_state()
        self.first.parameters = self.program.layout.pack(first)

    def reset(self) -> None:
        self.runner.state.assign(self.first)

    def run(self, first: int, count: int) -> float:
        batches, step = self.batches, self.runner.step
        with self.one_blas_thread(), np.errstate(all="ignore"):
            for i in range(first, first + count):
                sums = step(batches[i % len(batches)])
        return float(sums[0])


class PyTorch:
    """Eager modules, Adam in its fused form."""

    compile_seconds: float | None = None

    def __init__(self, problem: Problem, cores: int) -> None:
        import torch
        from torch import nn

        torch.set_num_threads(cores)
        linear = [nn.Linear(m, n) for m, n in itertools.pairwise(SIZES)]
        self.torch, self.linear, self.problem = torch, linear, problem
        self.model: Any = nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2])
        self.objective: Any = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=EPSILON, fused=True)
        self.batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in problem.batches]

    def loss(self, x: Any, y: Any) -> Any:
        return self.objective(self.model(x), y)

    def reset(self) -> None:
        with self.torch.no_grad():
            for layer, (kernel, bias) in zip(self.linear, self.problem.weights, strict=True):
                layer.weight.copy_(self.torch.from_numpy(kernel.T.copy()))
                layer.bias.copy_(self.torch.from_numpy(bias))
        for state in self.optimizer.state.values():
            for slot in state.values():
                slot.zero_()

    def run(self, first: int, count: int) -> float:
        batches, optimizer, loss = self.batches, self.optimizer, self.loss
        for i in range(first, first + count):
            value = loss(*batches[i % len(batches)])
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
        return float(value.detach())


class CompiledPyTorch(PyTorch):
    """Model and loss compiled by torch.compile (forward and backward pass), Adam in its fused form."""

    def __init__(self, problem: Problem, cores: int) -> None:
        super().__init__(problem, cores)
        self.loss = self.torch.compile(super().loss, fullgraph=True, dynamic=False)  # type: ignore[method-assign]  # the point of this class
        self.reset()
        start = time.perf_counter()
        self.run(0, 1)
        self.compile_seconds = time.perf_counter() - start


class Jax:
    """One jitted function for the whole step; weights and optimizer state are donated, so they are updated in place."""

    def __init__(self, problem: Problem, cores: int) -> None:
        import jax
        import jax.numpy as jnp

        def loss(weights: Any, x: Any, y: Any) -> Any:
            for kernel, bias in weights[:-1]:
                x = jax.nn.relu(x @ kernel + bias)
            logits = x @ weights[-1][0] + weights[-1][1]
            picked = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)
            return -jnp.mean(picked)

        def step(weights: Any, first: Any, second: Any, count: Any, x: Any, y: Any) -> Any:
            value, gradient = jax.value_and_grad(loss)(weights, x, y)
            (b1, b2), count = BETAS, count + 1
            first = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, first, gradient)
            second = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, second, gradient)
            scale1, scale2 = 1 / (1 - b1**count), 1 / (1 - b2**count)
            weights = jax.tree.map(
                lambda w, m, v: w - LEARNING_RATE * (m * scale1) / (jnp.sqrt(v * scale2) + EPSILON), weights, first, second
            )
            return weights, first, second, count, value

        self.jax, self.problem = jax, problem
        self.batches = [(jnp.asarray(x), jnp.asarray(y, jnp.int32)) for x, y in problem.batches]
        jax.jit(lambda v: v + 1)(jnp.zeros(3)).block_until_ready()  # start-up of the backend is not compilation
        self.reset()
        start = time.perf_counter()
        self.step = jax.jit(step, donate_argnums=(0, 1, 2, 3)).lower(*self.state, *self.batches[0]).compile()
        self.compile_seconds: float | None = time.perf_counter() - start

    def reset(self) -> None:
        copy = self.jax.numpy.array
        weights = [(copy(kernel), copy(bias)) for kernel, bias in self.problem.weights]
        zeros = [[(copy(np.zeros_like(k)), copy(np.zeros_like(b))) for k, b in self.problem.weights] for _ in range(2)]
        self.state = (weights, *zeros, copy(np.float32(0)))

    def run(self, first: int, count: int) -> float:
        batches, step, state = self.batches, self.step, self.state
        for i in range(first, first + count):
            *state, value = step(*state, *batches[i % len(batches)])
        self.state = self.jax.block_until_ready(tuple(state))
        return float(value)


class ScikitLearn:
    """MLPClassifier.partial_fit, one batch a call."""

    compile_seconds: float | None = None

    def __init__(self, problem: Problem, cores: int) -> None:
        from sklearn.neural_network import MLPClassifier

        x, y = problem.batches[0]
        self.problem, self.batches = problem, problem.batches
        self.classifier = MLPClassifier(
            SIZES[1:-1],
            batch_size=len(x),
            alpha=0.0,
            shuffle=False,
            learning_rate_init=LEARNING_RATE,
            beta_1=BETAS[0],
            beta_2=BETAS[1],
            epsilon=EPSILON,
        )
        self.classifier.partial_fit(x, y, classes=np.arange(SIZES[-1]))

    def reset(self) -> None:
        # partial_fit draws its own first weights, and its optimizer holds the same arrays: so fill them in place.
        classifier = self.classifier
        for kernel, bias, (first_kernel, first_bias) in zip(classifier.coefs_, classifier.intercepts_, self.problem.weights, strict=True):
            kernel[...], bias[...] = first_kernel, first_bias
        optimizer = classifier._optimizer
        optimizer.t = classifier.t_ = 0
        for slot in (*optimizer.ms, *optimizer.vs):
            slot[...] = 0

    def run(self, first: int, count: int) -> float:
        batches, fit = self.batches, self.classifier.partial_fit
        for i in range(first, first + count):
            fit(*batches[i % len(batches)])
        return float(self.classifier.loss_)


CONTENDERS: dict[str, Maker] = {
    "dagtrain": Dagtrain,
    "PyTorch": PyTorch,
    "torch.compile": CompiledPyTorch,
    "JAX": Jax,
    "scikit-learn": ScikitLearn,
}


class Fit:
    """`Trainer.fit` inline, with all that it does beside the steps: shuffled batches, the ledger, finite values, the history."""

    compile_seconds: float | None = None

    def __init__(self, problem: Problem, cores: int) -> None:
        self.problem, self.cores = problem, cores

    def reset(self) -> None:
        import dagtrain as dt

        layers = [*(dt.nn.Dense(n, "relu") for n in SIZES[1:-1]), dt.nn.Dense(SIZES[-1])]
        optimizer = dt.optim.adam(LEARNING_RATE, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON)
        model = dt.nn.Sequential(layers, input_shape=SIZES[:1])
        self.trainer = dt.Trainer(model, loss="cross_entropy", optimizer=optimizer, engine="inline", threads=self.cores)
        self.trainer.load_weights({f"dense_{i}": {"kernel": k, "bias": b} for i, (k, b) in enumerate(self.problem.weights, 1)})

    def run(self, first: int, count: int) -> float:
        history = self.trainer.fit(*self.problem.data, epochs=count, batch_size=self.problem.batch_size, verbose=0)
        return history.history["loss"][-1]


class PyTorchLoop(PyTorch):
    """The plain loop of PyTorch's tutorials: shuffled rows, a step, the running loss."""

    def __init__(self, problem: Problem, cores: int) -> None:
        super().__init__(problem, cores)
        self.x, self.y = map(self.torch.from_numpy, problem.data)

    def run(self, first: int, count: int) -> float:
        for _ in range(count):
            total, order = 0.0, self.torch.randperm(len(self.x))
            for rows in order.split(self.problem.batch_size):
                value = self.loss(self.x[rows], self.y[rows])
                self.optimizer.zero_grad(set_to_none=True)
                value.backward()
                self.optimizer.step()
                total += value.item() * len(rows)
        return total / len(self.x)


LOOPS: dict[str, Maker] = {"dagtrain": Fit, "PyTorch": PyTorchLoop}
"""Whole loops: a contender's `run` does epochs in the place of steps."""
