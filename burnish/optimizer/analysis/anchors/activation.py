"""Activations: a gate computed from the very value that it multiplies."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import Anchor, Flow, given, number, readers, source

OPERATORS = {
    "Gelu", "FastGelu", "BiasGelu", "QuickGelu", "QLinearGelu", "Relu", "LeakyRelu", "PRelu",
    "Elu", "Selu", "Celu", "HardSwish", "Swish", "Silu", "Mish",
}  # fmt: skip
"""Activations that are one operator."""

GATES = {"Erf": (1,), "Tanh": (3,), "Sigmoid": (1, 3)}
"""Functions that gate: the degrees of the polynomial of the gated value that they are of."""

POLYNOMIAL = ("Cast", "Identity", "Reshape", "Neg", "Add", "Sub", "Sum", "Mul", "Div", "Pow")

FARTHEST = 7
"""Nodes between a polynomial and its variable."""

MOST = 24
"""Values that are looked at between a gate and its product with the gated value."""


def activations(flow: Flow) -> Iterator[Anchor]:
    """The activations of a model, in order.

    A Tanh that is no part of a gelu, or a Sigmoid that gates another value, is none.
    """
    for node in flow.nodes:
        if node.op_type in OPERATORS:
            yield Anchor("activation", node, node.op_type, found=True)
        elif node.op_type in GATES and node.domain == "" and flow.is_data(given(node, 0)):
            gated = _gated(flow, node.outputs[0], given(node, 0), GATES[node.op_type])
            if gated is not None:
                yield _anchor(node, *gated)
        elif (spelled := _spelled_sigmoid(flow, node)) is not None:
            result, argument = spelled
            gated = _gated(flow, result, argument, GATES["Sigmoid"])
            if gated is not None:
                product, degree = gated
                form = "x * Sigmoid(x)" if degree == 1 else "Gelu"
                parts = tuple(filter(None, (result.producer(), product)))
                yield Anchor("activation", node, form, parts=parts)


def _anchor(node: ir.Node, product: ir.Node, degree: int) -> Anchor:
    if node.op_type != "Sigmoid" or degree == 3:
        return Anchor("activation", node, "Gelu", parts=(product,))
    argument = given(node, 0)
    before = argument.producer() if argument is not None else None
    plain = [argument]
    if before is not None and before.op_type == "Mul":
        plain += [value for value in before.inputs if number(value) is None]
    found = node.outputs[0] in product.inputs and any(value in plain for value in product.inputs)
    return Anchor("activation", node, "x * Sigmoid(x)", found, (product,))


def _gated(
    flow: Flow, value: ir.Value, argument: ir.Value | None, degrees: tuple[int, ...]
) -> tuple[ir.Node, int] | None:
    """The product of a gate with the value in its argument, and the argument's degree in that."""
    near, seen = [value], {value}
    for current in near:  # grows while it is walked
        for node, index in current.uses():
            other = given(node, 1 - index) if node.op_type == "Mul" else None
            for variable in _roots(other) if flow.is_data(other) else ():
                degree = _degree(flow, argument, variable, {})
                if degree is not None and degree in degrees:
                    return node, degree
            onward = node.op_type in ("Cast", "Add", "Sub", "Mul", "Div", "Identity", "Reshape")
            if onward and len(near) < MOST and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                near.append(node.outputs[0])
    return None


def _roots(value: ir.Value | None) -> Iterator[ir.Value]:
    """A value, and what it is a constant multiple or a cast of, step by step."""
    for _ in range(FARTHEST):
        if value is None:
            return
        yield value
        node = value.producer()
        if node is None or node.op_type not in ("Cast", "Identity", "Mul", "Div", "Reshape"):
            return
        inputs = [item for item in node.inputs if item is not None and number(item) is None]
        if not inputs or (len(inputs) > 1 and node.op_type != "Reshape"):
            return
        value = inputs[0]


def _degree(
    flow: Flow,
    value: ir.Value | None,
    variable: ir.Value,
    known: dict[ir.Value, int | None],
    steps: int = 0,
) -> int | None:
    """The degree of a value as a polynomial of `variable`; None where it is none."""
    if value is variable:
        return 1
    if value is None or not flow.is_data(value):
        return 0
    if value not in known:
        known[value] = None
        node = value.producer()
        if node is not None and steps < FARTHEST and node.op_type in POLYNOMIAL:
            parts = [_degree(flow, item, variable, known, steps + 1) for item in node.inputs]
            known[value] = _combined(node, parts)
    return known[value]


def _combined(node: ir.Node, parts: list[int | None]) -> int | None:
    """The degree of a node's result, from those of its inputs."""
    known = [part for part in parts if part is not None]
    if not known or len(known) < len(parts):
        return None
    if node.op_type in ("Cast", "Identity", "Reshape", "Neg"):
        return known[0]
    if node.op_type in ("Add", "Sub", "Sum"):
        return max(known)
    if node.op_type == "Mul":
        return sum(known)
    if node.op_type == "Div":
        return known[0] if known[1:] == [0] else None
    exponent = number(given(node, 1)) if node.op_type == "Pow" else None
    return int(known[0] * exponent) if exponent in (2.0, 3.0) else None


def _spelled_sigmoid(flow: Flow, node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """Result and argument of `1 / (1 + Exp(-x))` that begins with the `Exp` `node`."""
    if node.op_type != "Exp" or not flow.is_data(given(node, 0)):
        return None
    argument = source(given(node, 0), ("Cast",))
    for adder, index in readers(node.outputs[0], "Add"):
        if number(given(adder, 1 - index)) != 1.0 or argument is None:
            continue
        for divider, place in readers(adder.outputs[0], "Div", "Reciprocal"):
            if divider.op_type == "Reciprocal":
                return divider.outputs[0], argument
            if place == 1 and number(given(divider, 0)) == 1.0:
                return divider.outputs[0], argument
    return None
