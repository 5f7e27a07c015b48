"""The objective of a model with losses and metrics, of one output or several.

outputs ──▶ heads: loss and metrics each ──▶ one sum and one weight, the parts of all figures
layers  ──▶ what they add to the loss
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from dagtrain.data.columns import Columns
from dagtrain.errors import ArgumentError, DagtrainError, UnknownNameError
from dagtrain.graph import Spec, Tensor, scope, spec_of
from dagtrain.nn import activations
from dagtrain.nn.layer import Applied, Layer
from dagtrain.nn.losses import Loss
from dagtrain.nn.metrics import Metric
from dagtrain.nn.model import Model
from dagtrain.nn.tracing import First, first_pass
from dagtrain.ops import as_tensor
from dagtrain.ops.elementwise import cast
from dagtrain.ops.random import derive, key
from dagtrain.ops.shape import stack
from dagtrain.step.figures import Figure, figures_of
from dagtrain.step.heads import (
    ONE_ARRAY,
    WITHOUT_NAMES,
    Head,
    Parts,
    by_output,
    heads_of,
    loss_of,
    output_of,
    penalties_of,
    ratio,
    source_of,
    target_of,
    weighted_total,
)
from dagtrain.step.layout import VectorLayout
from dagtrain.step.objective import Differentiated, Forward, check_weight, pair, row_of, rows_of
from dagtrain.step.statistics import in_evaluation
from dagtrain.trace import flatten, trace_nested
from dagtrain.trace.tree import leaves, map_leaves

__all__ = ["ModelObjective"]


class ModelObjective(Differentiated):
    """A model, a loss and metrics; for several outputs, dicts of them by the names of the outputs."""

    def __init__(self, model: Layer, loss: Any, metric_list: Any, loss_weights: Any = None) -> None:
        self.model = model
        outputs = model.outputs if isinstance(model, Model) and isinstance(model.outputs, Mapping) else {}
        arguments = {"loss": loss, "metrics": metric_list, "loss_weights": loss_weights}
        longest = max(len(value) if isinstance(value, list | tuple) else 0 for value in arguments.values())
        names = [*outputs, *((model.auxiliary or ()) if isinstance(model, Model) and longest > len(outputs) else ())]
        self.heads = heads_of(*(by_output(what, value, names) for what, value in arguments.items()))
        self._traces: dict[tuple[Any, ...], First] = {}
        if isinstance(model, Model):
            self._check_names(model)

    def _check_names(self, model: Model) -> None:
        if isinstance(model.outputs, list | tuple) and len(model.outputs) > 1:
            raise ArgumentError(WITHOUT_NAMES)
        names = [*(model.outputs if isinstance(model.outputs, Mapping) else ()), *(model.auxiliary or ())]
        if not self.heads[0].name and len(names) > 1:
            raise ArgumentError(f"the model has the outputs {', '.join(names)}: give a loss by name for each that has one: loss={{...}}.")
        for head in self.heads:
            if head.name and head.name not in names:
                raise UnknownNameError.of("output of the model with a loss", head.name, names)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The loss of each head."""
        return tuple(head.loss for head in self.heads)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics of all heads."""
        return tuple(metric for head in self.heads for metric in head.metrics)

    @property
    def targets(self) -> str | dict[str, str] | None:
        """How y is checked."""
        if len(self.heads) == 1 and not self.heads[0].name:
            return self.heads[0].loss.targets
        return {head.name: head.loss.targets for head in self.heads if head.takes_targets}

    @property
    def takes_targets(self) -> bool:
        """Whether any loss compares an output with y."""
        return any(head.takes_targets for head in self.heads)

    @property
    def known_x(self) -> Any:
        """The spec of a row of the inputs that the model declares, or a dict of them by name; None where it declares none."""
        specs = self.model.known_inputs
        if specs is None:
            return None
        rows = [Spec(spec.shape[1:], self.dtype if spec.dtype.kind == "f" else spec.dtype) for spec in specs]
        return rows[0] if len(rows) == 1 else dict(zip(self.model.input_names, rows, strict=True))

    @property
    def known_columns(self) -> Columns | None:
        """The columns of rows as far as they are known without data; y is left out where a loss takes targets of any kind."""
        x = self.known_x
        if x is None:
            return None
        outputs, auxiliary = self._specs(x)
        main, targets = self._main(outputs), {}
        for head in self.heads:
            spec = output_of_specs(head, outputs, auxiliary)
            if head.loss.targets == "classes":
                targets[head.name] = Spec(spec.shape[1:-1], np.dtype(np.int64))
            elif head.loss.targets == "pairs":
                targets[head.name] = Spec(spec.shape[1:-1], self.dtype)
            elif head.loss.targets == "any":
                return Columns.of(x)
            elif head.takes_targets:
                targets[head.name] = Spec(spec.shape[1:], self.dtype)
        own = {name: spec for name, spec in targets.items() if name in main or len(main) != 1}
        return Columns.of(x, own.get("", own)) if own else Columns.of(x)

    def _specs(self, x: Any) -> tuple[Any, dict[str, Spec]]:
        """The specs of the outputs and of the auxiliary ones."""
        first = self._traced(x)
        if isinstance(first.call.outputs, list | tuple) and len(first.call.outputs) == 1:
            raise ArgumentError(f"the model returns a {type(first.call.outputs).__name__} of one output: return the array itself.")
        twice = first.shared.auxiliary.keys() & (first.call.outputs.keys() if isinstance(first.call.outputs, dict) else set())
        if twice:
            raise ArgumentError(f"the model has an output and an auxiliary output of the name {min(twice)!r}: rename one of them.")
        return map_leaves(spec_of, first.call.outputs), {name: spec_of(value) for name, value in first.shared.auxiliary.items()}

    def initial(self, seed: int, x: Any) -> tuple[Any, Any]:
        """The model's own initialisation, from the seed alone."""
        first = derive(key(seed), 0)
        try:
            return self._traced(x).draw(first)
        except DagtrainError:
            raise
        except Exception:  # of an initialiser: `init` draws it for the layer that asks for it, which its error names
            return self.model.init(first, rows_of(x, 1), dtype=self.dtype)

    # ---- what the model has, by a trace in training

    def _traced(self, x: Any) -> First:
        cache_key = tuple(flatten(x, "x")[0].items())
        if cache_key not in self._traces:
            self._traces[cache_key] = first_pass(self.model, key(0), (rows_of(x, 1),), self.dtype, allocate=False)
        return self._traces[cache_key]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_traces": {}}  # tensors and layers by identity: another process traces anew

    def _main(self, outputs: Any) -> list[str]:
        """The names of the heads whose outputs exist in evaluation too."""
        return [head.name for head in self.heads if not head.name or (isinstance(outputs, dict) and head.name in outputs)]

    def training_only(self, x: Any) -> set[str]:
        """The names of the heads whose outputs exist in training alone."""
        return {head.name for head in self.heads} - set(self._main(self._specs(x)[0]))

    @property
    def target_names(self) -> list[str]:
        """The names of the outputs that losses compare with y, in the model's own order where it declares one, auxiliary ones last."""
        model, heads = self.model, [head.name for head in self.heads if head.name and head.takes_targets]
        order = [*model.outputs, *(model.auxiliary or ())] if isinstance(model, Model) and isinstance(model.outputs, Mapping) else heads
        return [name for name in order if name in heads]

    def labels(self, x: Any) -> dict[str, tuple[int | None, int]]:
        """For each head with class labels the number of classes, and the axes of the labels."""
        outputs, auxiliary = self._specs(x)
        specs = {head.name: output_of_specs(head, outputs, auxiliary) for head in self.heads if head.loss.targets == "classes"}
        return {name: (spec.shape[-1], spec.ndim - 1) for name, spec in specs.items() if spec.ndim > 1}

    def frozen(self, x: Any) -> frozenset[str]:
        """Dotted names of the parameters that layers keep from training."""
        return frozenset(self._traced(x).shared.frozen)

    def reductions(self, x: Any) -> Mapping[str, str]:
        """How the layers ask for their states to be reduced."""
        return self._traced(x).shared.reductions

    def figures(self, x: Any) -> tuple[Figure, ...]:
        """The loss; of several outputs the loss of each; the penalty; the metrics."""
        outputs, auxiliary = self._specs(x)
        specs = {head.name: output_of_specs(head, outputs, auxiliary) for head in self.heads}
        return figures_of(self.heads, self._main(outputs), specs, penalty=bool(self._traced(x).shared.losses))

    def description(self, describe: Callable[[Any, str], Any]) -> dict[str, Any]:
        """The model, and the loss and metrics of each output."""
        return {
            "kind": "model",
            "model": describe(self.model, ""),
            "loss": _by_output({head.name: describe(head.loss, "the loss") for head in self.heads}),
            "metrics": _by_output({head.name: [describe(metric, "the metrics") for metric in head.metrics] for head in self.heads}),
            "loss_weights": {head.name: head.factor for head in self.heads if head.name},
        }

    # ---- one shard

    def _applied(
        self, parameters: Any, statistics: Any, x: Any, key: Tensor | None, training: bool, fixed: Collection[str] | None = None
    ) -> Applied:
        if not training:
            statistics = in_evaluation(statistics, self.reductions(row_of(x)))
        return self.model.run(parameters, statistics, x, key=key if training else None, training=training, fixed=fixed)

    def _losses(self, applied: Applied, y: Any, sample_weight: Any) -> dict[str, Parts]:
        """Sum and weight of the loss of each head that has an output here."""
        parts, main = {}, self._main(applied.outputs)
        for head in self.heads:
            output = self._output(head, applied)
            if output is not None:
                weight = _weight_of(head, main, y, sample_weight)
                with scope(f"loss_{head.name}" if head.name else "loss"), _named(head):
                    parts[head.name] = loss_of(head.loss, output, target_of(head, main, y), weight, applied.parts)
        return parts

    def _check_evaluated(self, trained: Any, evaluated: Any) -> None:
        """Raise ArgumentError for outputs with losses that the model gives in training alone, but not as auxiliary ones."""
        lost = sorted({*self._main(trained)} - {*self._main(evaluated)})
        if lost and lost[0]:
            raise ArgumentError(
                f"the model returns the output {lost[0]!r}, which has a loss, in training alone: return it always, or give it by "
                f"c.auxiliary({lost[0]!r}, value) in training, and evaluation leaves it out."
            )
        if isinstance(trained, dict) != isinstance(evaluated, dict):
            kinds = ("a dict of outputs" if isinstance(outputs, dict) else "one output" for outputs in (trained, evaluated))
            raise ArgumentError(f"the model returns {' in training, and '.join(kinds)} outside: return the same outputs always.")
        if not self._main(evaluated):
            names = ", ".join(head.name for head in self.heads)
            raise ArgumentError(
                f"the losses are for {names} alone, which exist in training alone: to evaluate, give another output a loss."
            )

    def _output(self, head: Head, applied: Applied) -> Tensor | None:
        if head.name in applied.auxiliary:
            return as_tensor(applied.auxiliary[head.name])
        output: Tensor | None = output_of(head, applied.outputs)
        return output

    def forward(
        self,
        parameters: Any,
        statistics: Any,
        x: Any,
        y: Any,
        sample_weight: Any,
        key: Tensor,
        scales: Tensor | None = None,
        training: bool = True,
        fixed: Collection[str] = (),
    ) -> Forward:
        """Apply the model, then the losses and the metrics."""
        applied = self._applied(parameters, statistics, x, key, training, fixed)
        rows = leaves(x)[0].shape[0]
        first = self._traced(row_of(x))
        shared = first.shared
        if not training:
            self._check_evaluated(first.call.outputs, applied.outputs)
        losses, main = self._losses(applied, y, sample_weight), self._main(applied.outputs)
        if applied.losses and not shared.losses:
            raise ArgumentError(f"a layer adds the loss {next(iter(applied.losses))!r} outside training alone: add it in training too.")
        numbers, by_sample = penalties_of(applied.losses, rows)
        several = len(self.heads) > 1 or bool(shared.losses)  # a layer may add to the loss in training alone
        loss = Parts(0.0, 0.0)  # in evaluation each of several losses is a figure of its own
        if training or not several:
            with scope("loss"):
                factors = {head.name: head.factor for head in self.heads}
                loss = weighted_total(losses, by_sample, list(numbers.values()), factors, rows, scales)
        parts: list[Tensor] = []
        if several:
            with scope("sums"):
                parts += [pair(*losses.get(head.name, (0.0, 0.0))) for head in self.heads]
                if shared.losses:
                    parts.append(pair(sum([*(p.total for p in by_sample.values()), *(n * rows for n in numbers.values())]), rows))
        kept: list[Tensor] = []
        for head in self.heads:
            output = self._output(head, applied)
            for metric in head.metrics:
                with scope(head.titled(metric.name, len(self.heads) > 1)):
                    if output is None:
                        parts.append(as_tensor(np.zeros(metric.size(spec_of(shared.auxiliary[head.name])))))
                        continue
                    compared = output, target_of(head, main, y), _weight_of(head, main, y, sample_weight)
                    parts.append(as_tensor(metric.parts_of(*compared)))
                    if metric.rows is not None and not training:
                        kept.append(as_tensor(metric.rows_of(*compared)))
        return Forward(loss, parts, kept, applied.state)

    def weights(self, parameters: Any, statistics: Any, x: Any, y: Any, sample_weight: Any, key: Tensor) -> dict[str, Tensor]:
        """The weight of each loss, then of each penalty by sample."""
        applied = self._applied(parameters, statistics, x, key, True)
        weights = self._weights(applied, x, y, sample_weight)
        check_weight(weights, [*leaves(parameters), *leaves(statistics), key])
        return {"weights": stack([cast(as_tensor(weight), np.float64) for weight in weights])}

    def _weights(self, applied: Applied, x: Any, y: Any, sample_weight: Any) -> list[Any]:
        by_sample = penalties_of(applied.losses, leaves(x)[0].shape[0])[1]
        return [parts.weight for parts in (self._losses(applied, y, sample_weight) | by_sample).values()]

    def kept(self, x: Any, fixed: Collection[str]) -> frozenset[str]:
        """The states that no layer updates, such as those of a `BatchNorm` with a frozen parameter."""
        first, names = self._traced(x), list[str]()
        states, updates = first.shared.states, first.shared.updates
        if not fixed and all(updates.get(path, state) is not state for path, state in states.items()):
            return frozenset()

        def collect(parameters: Any, statistics: Any, x: Any) -> Any:
            after = flatten(self._applied(parameters, statistics, x, as_tensor(key(0)), True, fixed).state)[0]
            names.extend(name for name, before in flatten(statistics)[0].items() if after[name] is before)
            return 0.0

        trace_nested(collect, VectorLayout.of(first.parameters, self.dtype).specs, map_leaves(spec_of, first.state), rows_of(x, 2))
        return frozenset(names)

    def weight_count(self, columns: Columns) -> int:
        """See `Objective.weight_count`."""
        if len(self.heads) == 1 and not self._traced(columns.x).shared.losses:
            return 0
        weights: list[Any] = []

        def collect(parameters: Any, statistics: Any, x: Any, y: Any, sample_weight: Any) -> Any:
            applied = self._applied(parameters, statistics, x, as_tensor(key(0)), True)
            weights.extend(self._weights(applied, x, y, sample_weight))
            return 0.0

        first = self._traced(columns.x)
        parameters, statistics = VectorLayout.of(first.parameters, self.dtype).specs, map_leaves(spec_of, first.state)
        trace_nested(collect, parameters, statistics, *columns.of_rows(2))
        return len(weights) if any(np.isnan(ratio(weights[0], weight)) for weight in weights) else 0

    # ---- outputs

    def outputs(self, parameters: Any, statistics: Any, x: Any) -> dict[str, Any]:
        """The model's outputs, as in evaluation."""
        applied = self._applied(parameters, statistics, x, None, training=False)
        return {"outputs": map_leaves(as_tensor, applied.outputs)}

    def probabilities(self, parameters: Any, statistics: Any, x: Any) -> dict[str, Any]:
        """Softmax or sigmoid of the outputs, each by the link of its loss; others stay as they are."""
        outputs = self.outputs(parameters, statistics, x)["outputs"]
        links = {head.name: head.loss.link for head in self.heads if head.loss.link in ("softmax", "sigmoid")}
        if not links:
            names = ", ".join(repr(loss.name) for loss in self.losses)
            raise ArgumentError(f"outputs trained by the loss {names} stand for no probabilities: leave out probabilities=True.")
        if isinstance(outputs, dict):
            only = links.get("", "linear")
            return {"outputs": {name: activations.find(links.get(name, only))(value) for name, value in outputs.items()}}
        return {"outputs": activations.find(links[""])(outputs)}


def output_of_specs(head: Head, outputs: Any, auxiliary: Mapping[str, Spec]) -> Spec:
    """The spec of the output of a head."""
    if head.name in auxiliary:
        return auxiliary[head.name]
    if isinstance(outputs, dict):
        name = head.name or next(iter(outputs))
        if name not in outputs:
            raise UnknownNameError.of("output of the model with a loss", name, [*outputs, *auxiliary])
        spec: Spec = outputs[name]
        return spec
    if not isinstance(outputs, Spec):
        raise ArgumentError(WITHOUT_NAMES)
    if head.name:
        raise ArgumentError(ONE_ARRAY.format(head.name))
    return outputs


def _weight_of(head: Head, main: Sequence[str], y: Any, sample_weight: Any) -> Any:
    """The sample weights of a head: those of its column of y, or those of all."""
    if not isinstance(sample_weight, dict):
        return sample_weight
    if not head.takes_targets:
        return sample_weight.get(head.name)
    return sample_weight.get(source_of(head, main, list(y)) if head.name else next(iter(sample_weight)))


@contextmanager
def _named(head: Head) -> Iterator[None]:
    """Name the output in errors of its loss."""
    try:
        yield
    except DagtrainError as error:
        raise type(error)(f"the output {head.name!r}: {error}" if head.name else str(error)) from error


def _by_output(descriptions: dict[str, Any]) -> Any:
    """The description of the only output without a name, else all by name."""
    return descriptions.get("", {"by_output": descriptions})
