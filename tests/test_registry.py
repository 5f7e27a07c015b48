from functools import partial
from types import SimpleNamespace

import pytest

from dagtrain.errors import UnknownNameError
from dagtrain.registry import Registry


def double(x):
    return 2 * x


def test_values_are_entered_under_their_own_names():
    table = Registry("function")
    assert table.add(double) is double
    table.add(SimpleNamespace(name="other"))
    assert list(table) == ["double", "other"]
    assert table.find("double") is double


@pytest.mark.parametrize(("name", "says"), [("duble", "mean 'double'"), ("Thrice", "is .double. and once more"), (3, "unknown function 3")])
def test_a_name_that_is_unknown(name, says):
    table = Registry("function", {"thrice": "'double' and once more"})
    table.add(double)
    with pytest.raises(UnknownNameError, match=says):
        table.find(name)


@pytest.mark.parametrize("name", ["double", "Double", "Twice", "DOUBLE_loss"])
def test_aliases(name):
    table = Registry("function", {"twice": "'double'", "doubled": "'double', of the first argument"})
    table.add(double)
    assert table.find(name) is double
    with pytest.raises(UnknownNameError, match="of the first argument"):
        table.find("doubled")


def test_the_entry_whose_function_it_is():
    table = Registry("loss")
    entry = table.add(SimpleNamespace(name="double", function=double))
    assert table.entry_of(double) == table.entry_of(partial(double, x=1)) == ("double", entry)
    assert table.entry_of(print) == ("print", None)
    assert table.entry_of(SimpleNamespace()) == ("loss", None)

    def other(x):
        return x

    other.__name__ = "double"
    assert table.entry_of(other) == ("double", None)
