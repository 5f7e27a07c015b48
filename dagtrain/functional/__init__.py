"""Functions of arrays made into other functions: compiled ones, derivatives."""

from dagtrain.functional.check import gradcheck
from dagtrain.functional.compiled import Compiled, compile, plain
from dagtrain.functional.gradients import grad, value_and_grad

__all__ = ["Compiled", "compile", "grad", "gradcheck", "plain", "value_and_grad"]
