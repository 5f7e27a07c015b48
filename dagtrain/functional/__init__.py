"""Functions of arrays made into other functions: compiled ones, derivatives, functions of many rows."""

from dagtrain.functional.check import gradcheck
from dagtrain.functional.compiled import Compiled, plain
from dagtrain.functional.gradients import grad, value_and_grad
from dagtrain.functional.jacobians import hessian, jacobian
from dagtrain.functional.products import hvp, jvp, vjp
from dagtrain.functional.specialised import compile
from dagtrain.functional.vmap import vmap

__all__ = ["Compiled", "compile", "grad", "gradcheck", "hessian", "hvp", "jacobian", "jvp", "plain", "value_and_grad", "vjp", "vmap"]
