import numpy as np
import pytest

from dagtrain.cli.expression import FUNCTIONS, parse, parse_value
from dagtrain.errors import ArgumentError

from ..each import each


def value(text, **values):
    return parse(text, {name: np.array(v, float) for name, v in values.items()}).output.compute()


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("(a+b)*(b+1)", {"a": 2, "b": 1}, 6),
        ("2 - 3 * a ** 2 / 4", {"a": 2}, -1),
        ("-a + +b", {"a": 2, "b": 1}, -1),
        ("-2**2", {}, -4),
        ("2**-1", {}, 0.5),
        ("2**3**2", {}, 512),
        ("maximum(a, 3) + np.exp(0)", {"a": 2}, 4),
        ("sum(x @ [1, 2])", {"x": [[1, 2], [3, 4]]}, 16),
        ("cos(pi)", {}, -1),
        ("7 // 2 + 7 % 4 + -7 % 4", {}, 7),
        ("max(x) - min(x)", {"x": [1, 5, 2]}, 4),
        ("np.linalg.norm(x) + numpy.exp(0) + math.cos(0)", {"x": [3, 4]}, 7),
        ("abs(a) + pow(a, 2)", {"a": -3}, 12),
    ],
)
def test_value(text, values, expected):
    assert value(text, **values) == pytest.approx(expected)


def test_overflow_and_division_by_zero_are_infinite():
    with np.errstate(all="ignore"):
        assert value("9**9**9") == np.inf
        assert value("1/a", a=0) == np.inf


@each(FUNCTIONS)
def test_function_can_be_called(name):
    arguments = FUNCTIONS[name][1]
    a = 1.5 if name == "arccosh" else 0.5
    names = ["a", "b"][:arguments]
    assert np.isfinite(value(f"{name}({', '.join(names)})", **dict(zip(names, ([a], [0.25]), strict=False)))).all()


@pytest.mark.parametrize(
    ("text", "words", "pointed_at"),
    [
        ("(a + foo(b))", "no function foo", "foo"),
        ("a + tan_h(b)", "did you mean tanh", "tan_h"),
        ("a ^ 2", "write **", "a ^ 2"),
        ("1 + q", "q has no value", "q"),
        ("a < 2", "comparison", "a < 2"),
        ("a if b else 1", "condition", "a if b else 1"),
        ("a.T", "dot", "a.T"),
        ("a[0]", "subscript", "a[0]"),
        ("(lambda: 1)()", "only functions", "lambda: 1"),
        ("tanh", "call it", "tanh"),
        ("tanh(a, b)", "takes 1 argument", "tanh(a, b)"),
        ("max(a, b)", "of two values: maximum", "max(a, b)"),
        ("os.sin(a)", "only functions", "os.sin"),
        ("sum(a, axis=0)", "no named arguments", "axis=0"),
        ("1j * a", "real number", "1j"),
        ("'text'", "real number", "'text'"),
        ("αβγ + q", "q has no value", "q"),
        ("a + [1, 2] @ [1, 2, 3]", "matmul", "[1, 2] @ [1, 2, 3]"),
        ("__import__('os').system('true')", "only functions", "__import__('os').system"),
    ],
)
def test_error_shows_the_place(text, words, pointed_at):
    with pytest.raises(ArgumentError) as caught:
        parse(text, {"a": np.array(1.0), "b": np.array(1.0), "αβγ": np.array(1.0)})
    message, line, marks = str(caught.value).splitlines()
    assert words in message
    start = marks.index("^")
    assert line[start : start + marks.count("^")] == pointed_at


@pytest.mark.parametrize("text", ["(a", "1 +", "a b", "a;b", "a = 1"])
def test_invalid_expressions_are_marked(text):
    with pytest.raises(ArgumentError, match=r"\^"):
        parse(text, {"a": np.array(1.0)})


def test_empty_expression():
    with pytest.raises(ArgumentError, match="empty"):
        parse("  ", {})


@pytest.mark.parametrize("text", ["(" * 5000 + "1" + ")" * 5000, "-" * 100_000 + "1", "+".join(["1"] * 100_000)])
def test_deep_nesting_is_an_argument_error(text):
    with pytest.raises(ArgumentError, match=r"nested|no expression"):
        parse(text, {})


def test_value_that_is_not_used():
    with pytest.raises(ArgumentError, match="c has a value, but"):
        parse("a", {"a": np.array(1.0), "c": np.array(1.0)})


@pytest.mark.parametrize("text", ["a", "a=", "=1", "a=x", "a=[1,[2,3]]", "a='s'", "a=True", "a=1j", "a=[]", "1=2", "a=__import__('os')"])
def test_invalid_values(text):
    with pytest.raises(ArgumentError):
        parse_value(text)


def test_intermediate_results_have_the_letters_that_follow():
    assert list(parse("(a+b)*(b+1)", {"a": np.array(2.0), "b": np.array(1.0)}).names) == ["c", "d", "e"]
    assert list(parse("y*z+1", {"y": np.array(2.0), "z": np.array(1.0)}).names) == ["a", "b"]


def test_too_many_results_have_no_names():
    assert parse("+".join(["a*a"] + ["a"] * 40), {"a": np.array(1.0)}).names == {}
