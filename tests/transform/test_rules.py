"""Every rewrite rule keeps the promise of its kind; the cases are made from the rule's own text."""

from __future__ import annotations

import itertools
import re
import warnings
from typing import Any

import numpy as np
import pytest

import dagtrain as dt
from dagtrain.errors import ArgumentError, ExecutionError, GraphError, UnknownNameError
from dagtrain.graph import Graph, Tensor, constant
from dagtrain.ops import find
from dagtrain.transform import APPROXIMATE, EXACT, STABLE, Rule, RuleSet
from dagtrain.transform.conditions import CONDITIONS
from dagtrain.transform.patterns import Apply, Letter, Number, Pattern, build, number_of, parse, same_number
from dagtrain.transform.rules import APPROXIMATIONS, SIMPLIFICATIONS, STABILISATIONS

from ..each import each

RULES = list(dict.fromkeys((*STABILISATIONS, *SIMPLIFICATIONS, *APPROXIMATIONS)))
SHAPES = [(3, 4), (3, 4), (4,), (3, 1), (1, 4), (1,), ()]
NUMBERS = [2.0, 0.5, -4.0, 3.0, 0.1, -1.0]
SAME: dict[str, Any] = {"strides": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
CHOICES: dict[tuple[str, str], list[Any]] = {
    ("broadcast_to", "shape"): [(3, 4), (2, 3, 4), (3, 1), (1, 4)],
    ("reshape", "shape"): [(3, 4), (12,), (1, 3, 4), (4,), (1, 4), (1,), (), (2, 6), (3,), (3, 1)],
    ("transpose", "axes"): [(0, 1), (1, 0)],
    ("flip", "axis"): [(0,), (1,), (0, 1)],
    ("softmax", "axis"): [0, 1],
    ("log_softmax", "axis"): [0, 1],
    ("cast", "dtype"): ["<f8", "<f4", "<i8", "<i4", "|b1", "|u1"],
    ("take_along_axis_transpose", "axis"): [0, 1],
    ("take_along_axis_transpose", "shape"): [(3, 4), (5, 4), (3, 5)],
    ("layer_norm", "epsilon"): [0.1, 2.0],
    ("layer_norm", "center"): [True, False],
    ("gelu", "approximate"): [True, False],
    **{(op, name): [value] for op in ("conv", "conv_by_input") for name, value in SAME.items()},
    ("conv_by_input", "lengths"): [(8, 4)],
    ("keepdims", ""): [True, False],
    ("axis", ""): [(0,), (1,), (0, 1)],
}
NAMES = {
    "layer_norm": ["epsilon", "center"],
    "gelu": ["approximate"],
    "broadcast_to": ["shape"],
    "reshape": ["shape"],
    "flip": ["axis"],
    "softmax": ["axis"],
    "log_softmax": ["axis"],
    "cast": ["dtype"],
    "conv": [*SAME],
    "conv_by_input": ["lengths", *SAME],
}
EINSUMS = {"a": ["td,sd->ts"], "b": ["ij,jk->ik"]}  # those of attention
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 5e-324, -1e-310, 1e-45, 1.7e308, -3e38, 0.3, -2.5, 7.0])


def choices(op: str, name: str) -> list[Any]:
    return CHOICES.get((op, name)) or CHOICES[name, ""]


def example(rule: Rule, rng: np.random.Generator, dtype: str, shapes: list[tuple[int, ...]] = SHAPES) -> Tensor:
    """A random tensor of the rule's form."""
    bound: dict[str, Any] = {}

    def fill(pattern: Pattern, parent: str) -> None:
        if isinstance(pattern, Letter) and pattern.name not in bound:
            bound[pattern.name] = operand(pattern.name, parent)
        if isinstance(pattern, Apply):
            for name, value in pattern.attributes:
                if isinstance(value, Letter) and value.name not in bound:
                    options = EINSUMS[value.name] if pattern.op == "einsum" else choices(pattern.op, name)
                    bound[value.name] = options[rng.integers(len(options))]
            if pattern.rest is not None and pattern.rest not in bound:
                options = {name: choices(pattern.op, name) for name in NAMES.get(pattern.op, ["axis", "keepdims"])}
                bound[pattern.rest] = {name: values[rng.integers(len(values))] for name, values in options.items()}
            for inner in pattern.operands:
                fill(inner, pattern.op)

    def operand(letter: str, parent: str, shapes: list[tuple[int, ...]] = shapes) -> Tensor:
        if f"above_zero({letter})" in rule.when or f"number({letter})" in rule.when:
            return constant(np.array(rng.choice(NUMBERS), dtype))
        near = re.search(rf"near\({letter}, ([0-9.]+)\)", rule.when)
        if near:
            return constant(np.array(float(near[1]), dtype))
        if f"half({letter}, x)" in rule.when:
            fill(Letter("x"), parent)
            return bound["x"] * 0.5
        if f"score({letter})" in rule.when:
            return constant(np.array(rng.choice([-3.0, -100.0, -np.inf] if dtype[0] == "f" else [3, 4]), dtype))
        if parent in ("matmul", "einsum"):
            shapes = [(3, 4), (4, 3), (2, 3, 4)] if parent == "matmul" else [(3, 4)]
        if parent in ("conv", "conv_by_input"):
            shapes = [(3, 3, 32, 32)] if letter == "k" else [(16, 8, 4, 32), (18, 8, 4, 32)]
        shape = shapes[rng.integers(len(shapes))]
        if parent in ("where", "logical_not") and letter in ("c", "x") and (parent == "logical_not" or letter == "c"):
            return dt.input(letter, shape, bool)
        if parent == "take_along_axis_transpose" and letter == "i":
            return dt.input(letter, shape, np.int64)
        leaf = dt.input(letter, shape, dtype)
        return np.exp(leaf) if f"positive({letter})" in rule.when else leaf

    fill(rule.parsed_pattern, "")
    with_attributes = rule.parsed_pattern
    root = constant(np.zeros((), dtype))
    return build(with_attributes, bound, root, CONDITIONS, lambda node: node)


def rewritten_examples(rule: Rule, count: int, dtypes: list[str], seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Pairs of a tensor of the rule's form and the rule's result."""
    rng = np.random.default_rng(seed)
    table = RuleSet([rule])
    pairs: list[tuple[Tensor, Tensor]] = []
    for attempt in range(100 * count):
        try:
            before = example(rule, rng, dtypes[attempt % len(dtypes)])
            graph = Graph.of(before)
            if not axes_exist(graph):
                continue
            run(graph, [values(rng, leaf, "benign") for leaf in graph.inputs.values()])
        except (GraphError, IndexError, ValueError, OverflowError):  # this form cannot have these shapes and dtypes
            continue
        after = table.apply(before, lambda node: node)
        if after is not before:
            pairs.append((before, after))
            if len(pairs) == count:
                break
    return pairs


def axes_exist(graph: Graph) -> bool:
    axes = [(node.attribute("axis"), node.inputs[0].ndim) for node in graph.nodes if node.attribute("axis") is not None]
    return all(max(axis if isinstance(axis, tuple) else (axis,)) < ndim for axis, ndim in axes)


def values(rng: np.random.Generator, leaf: Tensor, source: str) -> Any:
    if leaf.dtype.kind == "b":
        return rng.random(leaf.shape) > 0.5
    if leaf.dtype.kind in "iu":
        low, high = (0, 3) if leaf.name == "i" else (0, 100) if leaf.dtype.kind == "u" or source == "natural" else (-100, 100)
        return rng.integers(low, high, leaf.shape).astype(leaf.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if source in ("special", "natural"):
            return rng.choice(SPECIAL, leaf.shape).astype(leaf.dtype)
        low, high = {"benign": (0.5, 2.0), "wide": (-60.0, 60.0), "middle": (-3.0, 3.0)}[source]
        return rng.uniform(low, high, leaf.shape).astype(leaf.dtype)


def run(graph: Graph, arrays: list[Any], wide: bool = False) -> tuple[Any, ...]:
    """All outputs; with `wide`, in extended precision throughout."""

    def widened(array: Any) -> Any:
        return array.astype(np.longdouble) if wide and array.dtype.kind == "f" else array

    values = {leaf: widened(np.asarray(a)) for leaf, a in zip(graph.inputs.values(), arrays, strict=True)}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node not in values:
                if node.op == "constant":
                    values[node] = widened(node.value)
                elif wide and node.op == "cast":
                    values[node] = values[node.inputs[0]]
                else:
                    value = find(node.op).kernel(*(values[i] for i in node.inputs), **dict(node.attributes))
                    values[node] = value if node.spec.parts else np.asarray(value)
    return tuple(values[t] for t in graph.outputs.values())


def same_bits(a: Any, b: Any) -> bool:
    """Equal bits, except for the bits of a NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind not in "fc":
        return bool((a == b).all())
    return bool((((a == b) & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))).all())


def check(rule: Rule, count: int = 8) -> None:
    """Raise AssertionError unless the rule keeps the promise of its kind on every example."""
    exact_dtypes = ["f8", "f4", "f8", "i8", "f4", "u1", "f2", "?"]
    pairs = rewritten_examples(rule, count, exact_dtypes if rule.kind == EXACT else ["f4"])
    assert len(pairs) >= 5, f"{rule}: the rule did not apply to its own form"
    rng = np.random.default_rng(1)
    for before, after in pairs:
        assert after.spec == before.spec
        names = {n.name: n for n in Graph.of(before, after).nodes if n.op == "input"}
        graph = Graph(names, {"before": before, "after": after})  # type: ignore[arg-type]
        powers = any(node.op == "power" for node in graph.nodes)  # integers have no negative powers
        sources = {
            EXACT: ["natural", "natural"] if powers else ["special", "wide", "special"],
            STABLE: ["middle", "wide", "wide"],
            APPROXIMATE: ["benign"],
        }[rule.kind]
        for source in sources:
            arrays = [values(rng, leaf, source) for leaf in names.values()]
            old, new = run(graph, arrays)
            if rule.kind == EXACT:
                assert same_bits(old, new), f"{rule}: {old} became {new} for {arrays}"
            elif rule.kind == APPROXIMATE:
                np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6, err_msg=str(rule))
            else:
                check_stable(rule, graph, arrays, old, new, source)


def check_stable(rule: Rule, graph: Graph, arrays: list[Any], old: Any, new: Any, source: str) -> None:
    truth_old, truth_new = run(graph, arrays, wide=True)
    if source == "middle":
        with np.errstate(all="ignore"):
            exact = 1e-15 if "near(" not in rule.when else 2e-6  # of a number as the dtype can hold it, and of the number itself
            np.testing.assert_allclose(truth_new, truth_old, rtol=exact, atol=1e-17, err_msg=f"{rule} is not an equation")
    with np.errstate(all="ignore"):
        unit = np.spacing(scale(rule, arrays, truth_new).astype(old.dtype)).astype(np.longdouble)
        representable = np.isfinite(truth_new.astype(old.dtype))
        off_old, off_new = np.abs(old - truth_new), np.abs(new - truth_new)
        good = (off_new <= off_old + 4 * unit) | ~np.isfinite(off_old) | (old == new)
    assert good[representable].all(), f"{rule}: errors {off_old} became {off_new} for {arrays}"
    assert np.isfinite(new)[representable & np.isfinite(old)].all(), f"{rule}: {old} became {new} for {arrays}"


def scale(rule: Rule, arrays: list[Any], truth: Any) -> Any:
    """The scale of errors: each element itself, or the largest element where terms of different sizes are added."""
    if not any(word in rule.pattern for word in ("sum", "mean", "norm", "erf", "softmax", " + s)", " - s)", " - h", "(g - ")):
        return np.abs(truth)
    return np.maximum(max(np.abs(a).max(initial=0) for a in [*arrays, truth]), np.abs(truth))


@pytest.mark.slow
@each(pytest.param(rule, id=str(rule)) for rule in RULES)
def test_rule_keeps_its_promise(rule: Rule, thorough: bool) -> None:
    check(rule, 40 if thorough else 8)


def of_every_kind(rng: np.random.Generator, leaf: Tensor, special: bool) -> Any:
    """Values of a leaf: small ones, or the special ones of its dtype."""
    if leaf.dtype.kind == "b" or leaf.name == "i" or not special:
        small = {"b": [False, True], "u": [0, 1, 2, 3], "i": [0, 1, 2] if leaf.name == "i" else [-3, -1, 0, 1, 2]}
        choice = small.get(leaf.dtype.kind, [0.5, 1.25, 2.0, 0.75] if leaf.dtype.kind == "f" else [0.5 + 1j, 2 - 0.5j, 1.25, 1j])
    elif leaf.dtype.kind in "iu":
        choice = [np.iinfo(leaf.dtype).min, np.iinfo(leaf.dtype).max, 0, 1, 3]
    else:
        parts = np.where(np.abs(SPECIAL) > 6e4, 6e4, SPECIAL)
        choice = parts if leaf.dtype.kind == "f" else [complex(a, b) for a in parts for b in parts[::3]]
    return rng.choice(np.array(choice, leaf.dtype), leaf.shape)


def outcome(graph: Graph, arrays: list[Any]) -> Any:
    """The value, or the error."""
    try:
        return run(graph, arrays)[0]
    except Exception as error:
        return error


@pytest.mark.slow
@pytest.mark.timeout(600)  # the long form, also where others compute
@each(pytest.param(rule, id=str(rule)) for rule in RULES if rule.kind != APPROXIMATE)
def test_rule_keeps_value_and_error_for_every_kind_of_number(rule: Rule, thorough: bool) -> None:
    table, rng = RuleSet([rule]), np.random.default_rng(0)
    for dtype in ("?", "i1", "u1", "f2", "c8", *(("i8", "u8", "f4", "c16") if thorough else ())):
        for shapes in [[(3, 4)], [(4,)], SHAPES] * (5 if thorough else 1):
            try:
                before = example(rule, rng, dtype, shapes)
                after = table.apply(before, lambda node: node)
            except (GraphError, IndexError, ValueError, OverflowError, TypeError):  # this form cannot have these shapes and dtypes
                continue
            if after is before or not axes_exist(Graph.of(before)):
                continue
            leaves = {str(n.name): n for n in Graph.of(before, after).nodes if n.op == "input"}
            for special in (False, True):
                arrays = [of_every_kind(rng, leaf, special) for leaf in leaves.values()]
                old, new = (outcome(Graph(leaves, {"y": t}), arrays) for t in (before, after))
                if isinstance(old, Exception) or isinstance(new, Exception):
                    assert type(old) is type(new), f"{old!r} became {new!r} for {arrays}"
                elif rule.kind == EXACT:
                    pairs = [(old.real, new.real), (old.imag, new.imag)] if old.dtype.kind == "c" else [(old, new)]
                    assert all(same_bits(a, b) for a, b in pairs), f"{old} became {new} for {arrays}"
                elif not special or old.dtype.kind in "biu":
                    np.testing.assert_allclose(new, old, *((1e-2, 2e-3) if old.dtype == np.float16 else (1e-5, 1e-6)))


def test_negative_powers_of_integers_are_errors_with_rewrites_too() -> None:
    with pytest.raises(ExecutionError, match="negative integer powers"):
        dt.compile(lambda n: n**-1)(np.array([1, 2]))


@pytest.mark.parametrize(
    "wrong",
    [
        Rule("x * 0", "0", EXACT),
        Rule("x + 0", "x", EXACT),
        Rule("-(x - y)", "y - x", EXACT),
        Rule("x - 0", "-x", EXACT),
        Rule("x + (-y)", "y - x", EXACT),
        Rule("log(1 + x)", "x", STABLE),
        Rule("log1p(x)", "log(1 + x)", STABLE),
        Rule("softplus(x)", "log(1 + exp(x))", STABLE),
        Rule("log_softmax(x, **a)", "log(softmax(x, **a))", STABLE),
        Rule("exp(x) * exp(y)", "exp(x - y)", APPROXIMATE),
    ],
    ids=str,
)
def test_wrong_rule_is_caught(wrong: Rule) -> None:
    with pytest.raises(AssertionError):
        check(wrong)


@pytest.mark.slow
def test_rule_without_use_is_caught() -> None:
    with pytest.raises(AssertionError, match="did not apply"):
        check(Rule("x - 0", "x", EXACT, "vector(x) and filled(x) and whole(x) and positive(x)"))


def test_number_is_a_constant_of_any_dtype() -> None:
    for dtype in ("f4", "f8", "i2", "u8"):
        assert number_of(constant(np.array(1, dtype))) == 1
    assert number_of(constant(np.ones((2, 3)))) == 1
    assert number_of(np.broadcast_to(constant(np.float32(3)), (2, 2))) == 3
    assert number_of(constant(np.array([1.0, 2.0]))) is None
    assert number_of(constant(np.array([0.0, -0.0]))) is None
    assert number_of(dt.array(1.0)) is None


def test_zero_and_minus_zero_are_apart() -> None:
    assert same_number(0.0, 0)
    assert not same_number(-0.0, 0.0)
    assert same_number(-0.0, -0.0)
    assert not same_number(np.nan, np.nan)


@pytest.mark.parametrize(("text", "error"), [("x if y else z", ArgumentError), ("xy + 1", ArgumentError), ("soft(x)", UnknownNameError)])
def test_unreadable_rule_is_an_error(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse(text)


def test_text_is_read_and_never_evaluated() -> None:
    with pytest.raises((ArgumentError, UnknownNameError)):
        parse("__import__('os')")


def test_pattern_reads_like_algebra() -> None:
    assert parse("-x") == Apply("negative", (Letter("x"),))
    assert parse("-1") == Number(-1)
    assert parse("sum(x, axis=k, **a)") == Apply("sum", (Letter("x"),), (("axis", Letter("k")),), "a")


def test_every_pair_of_rules_is_distinct() -> None:
    for one, other in itertools.combinations(RULES, 2):
        assert (one.pattern, one.when) != (other.pattern, other.when) or one.kind != other.kind, f"{one} and {other}"
