"""Operators that work element by element."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.masks import logic, terms
from burnish.optimizer.analysis.masks.bounds import lower, upper
from burnish.optimizer.analysis.masks.functions import call, quotient
from burnish.optimizer.analysis.masks.logic import number
from burnish.optimizer.analysis.masks.tensors import Tensor, Unsupported, elementwise
from burnish.optimizer.analysis.masks.terms import Term

BOOL = ir.DataType.BOOL
HALF = {ir.DataType.FLOAT16: "half", ir.DataType.BFLOAT16: "bfloat16"}
NARROW = {
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-(1 << 15), (1 << 15) - 1),
    ir.DataType.UINT16: (0, (1 << 16) - 1),
}
SHORT = {ir.DataType.FLOAT16: np.float16, ir.DataType.BFLOAT16: ml_dtypes.bfloat16}


Operator = Callable[[ir.Node, list[Tensor]], Tensor]
"""The output of an operator from its inputs, those that are left out passed over."""


def unary(function: Callable[[Term], Term], dtype: ir.DataType | None = None) -> Operator:
    """An operator of one tensor."""

    def evaluate(node: ir.Node, tensors: list[Tensor]) -> Tensor:
        return elementwise(function, tensors[:1], dtype or tensors[0].dtype)

    return evaluate


def binary(function: Callable[..., Term], dtype: ir.DataType | None = None) -> Operator:
    """An operator of two or more tensors, folded from the left."""

    def evaluate(node: ir.Node, tensors: list[Tensor]) -> Tensor:
        result = tensors[0]
        for other in tensors[1:]:
            result = elementwise(function, [result, other], dtype or result.dtype)
        return result

    return evaluate


def divide(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Div: whole numbers are truncated."""
    if tensors[0].dtype is ir.DataType.UNDEFINED:
        raise Unsupported("Div of a type that is not known")
    whole = tensors[0].dtype.is_integer()
    return elementwise(
        quotient if whole else lambda left, right: call("div", left, right),
        tensors,
        tensors[0].dtype,
    )


def modulo(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Mod, with the sign of the divisor or (fmod) of the dividend."""
    name = "fmod" if node.attributes.get_int("fmod", 0) else "mod"
    return elementwise(lambda left, right: call(name, left, right), tensors, tensors[0].dtype)


def select(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Where."""
    return elementwise(terms.where, tensors, tensors[1].dtype)


def clip(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Clip between bounds that are inputs."""
    low, high = (node.inputs[place] if len(node.inputs) > place else None for place in (1, 2))
    if node.attributes:
        raise Unsupported("Clip of an old operator set")
    result, rest = tensors[0], list(tensors[1:])
    for bound, name in ((low, "max"), (high, "min")):
        if bound is not None:
            result = elementwise(_binary_call(name), [result, rest.pop(0)], result.dtype)
    return result


def _binary_call(name: str) -> Callable[..., Term]:
    return lambda left, right: call(name, left, right)


def cast(node: ir.Node, tensors: list[Tensor]) -> Tensor:
    """Cast, CastLike."""
    source = tensors[0]
    if node.op_type == "CastLike":
        target = tensors[1].dtype
    else:
        target = ir.DataType(node.attributes.get_int("to", 0))
    return elementwise(lambda item: converted(item, source.dtype, target), [source], target)


def converted(item: Term, source: ir.DataType, target: ir.DataType) -> Term:
    """An element in another type."""
    if target is BOOL:
        return logic.truth(item)
    item = number(item)
    if target.is_integer():
        item = call("trunc", item)
        if target in NARROW:
            low, high = NARROW[target]
            if lower(item) < low or upper(item) > high:
                raise Unsupported("Cast to a type that may not hold the number")
        return item
    if target in SHORT and source is not target:
        return _rounded(item, target)
    if target not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, *SHORT):
        raise Unsupported(f"Cast to {target.name}")
    return item


def _rounded(item: Term, target: ir.DataType) -> Term:
    """A number in 16 bits; what an input holds (whole numbers, 0 and 1 as a rule) is kept."""
    if item.op == "const":
        with np.errstate(over="ignore"):
            return terms.const(float(np.float64(item.value).astype(SHORT[target])))
    if terms.two_valued(item):
        return terms.where(item.args[0], *(_rounded(part, target) for part in item.args[1:]))
    return item if item.op == "lookup" else call(HALF[target], item)


def _exclusive(left: Term, right: Term) -> Term:
    return logic.negation(logic.equal(left, right))


OPERATORS: dict[str, Operator] = {
    "Identity": unary(lambda item: item),
    "Cast": cast,
    "CastLike": cast,
    "Neg": unary(terms.negated),
    "Abs": unary(lambda item: call("abs", item)),
    "Sign": unary(lambda item: call("sign", item)),
    "Floor": unary(lambda item: call("floor", item)),
    "Ceil": unary(lambda item: call("ceil", item)),
    "Round": unary(lambda item: call("round", item)),
    "Sqrt": unary(lambda item: call("sqrt", item)),
    "Log": unary(lambda item: call("log", item)),
    "Exp": unary(lambda item: call("exp", item)),
    "Not": unary(logic.negation),
    "Add": binary(terms.add),
    "Sub": binary(terms.minus),
    "Mul": binary(terms.times),
    "Div": divide,
    "Mod": modulo,
    "Pow": binary(lambda left, right: call("pow", left, right)),
    "Min": binary(lambda left, right: call("min", left, right)),
    "Max": binary(lambda left, right: call("max", left, right)),
    "Sum": binary(terms.add),
    "Equal": binary(logic.equal, BOOL),
    "Less": binary(logic.less, BOOL),
    "LessOrEqual": binary(logic.less_or_equal, BOOL),
    "Greater": binary(lambda left, right: logic.less(right, left), BOOL),
    "GreaterOrEqual": binary(lambda left, right: logic.less_or_equal(right, left), BOOL),
    "And": binary(logic.both, BOOL),
    "Or": binary(logic.either, BOOL),
    "Xor": binary(_exclusive, BOOL),
    "Where": select,
    "Clip": clip,
}
"""How the output of an operator follows from its inputs."""
