"""GELU, quick GELU and SiLU, however they are spelled, get one form each."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.activation.activations import QUICK, sigmoid_product
from burnish.optimizer.analysis.activation.functions import (
    Likeness,
    is_cubic,
    likenesses,
    multiplies_its_argument,
)
from burnish.optimizer.analysis.matching import made_by, replace
from burnish.optimizer.analysis.products import label
from burnish.optimizer.analysis.shapes import describe
from burnish.optimizer.constants import Constants
from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase, Refusal

SINCE = 20
"""The operator set that `Gelu` came with."""

ANCHORS = {
    "Erf": ("GELU",),
    "Tanh": ("GELU (tanh)", "SiLU", "quick GELU"),
    "Sigmoid": ("SiLU", "quick GELU", "GELU (tanh)"),
    "Exp": ("SiLU", "quick GELU", "GELU (tanh)"),
    "Swish": ("SiLU", "quick GELU"),
}
"""The operators that activations are found from, and which ones."""


@dataclass(frozen=True)
class Gelu(Pass):
    """Write each activation in one form.

    It is known by its values: what depends on an `Erf`, `Tanh`, `Sigmoid` or `Exp` and on one
    other value alone is evaluated at points, and compared with the activation.

    Before:
        `0.5 * x * (1 + Erf(x / sqrt(2)))`; `0.5 * x * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 *
        x^3)))`; `x / (1 + Exp(-x))`, with operands in any order and constants folded anywhere.
    After:
        `Gelu(x)`, `Gelu<approximate = "tanh">(x)`, `x * Sigmoid(1.702 * x)`, `x * Sigmoid(x)`;
        times a constant where the exporter had moved one into a later operator.
    Refuses when:
        The function is another one by more than six digits of its constants (three in half
        types). The model's operator set is older than 20, which GELU needs.
    Numerics:
        Rounding.
    """

    name = "gelu"
    phase = Phase.RECOVER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        opset, done, refusals = model.opset_imports.get("", 0), 0, []
        nodes = ir.traversal.RecursiveGraphIterator(model.graph)
        anchors = [node for node in nodes if node.domain == "" and node.op_type in ANCHORS]
        constants = Constants()
        describe(model, (value for node in anchors for value in (*node.inputs, *node.outputs)))
        for node in anchors:
            if node.graph is None:
                continue
            found = likenesses(node, ANCHORS[node.op_type])
            if not found or not found[0].within:
                if _is_activation(node):
                    refusals.append(Refusal(label(node), _unlike(found)))
                continue
            if _has_its_form(found[0]):
                continue
            if found[0].name.startswith("GELU") and opset < SINCE:
                reason = f"Gelu came with operator set {SINCE}, and this one is older"
                refusals.append(Refusal(label(node), reason))
                continue
            _write(found[0], constants)
            done += 1
        return Outcome(done, tuple(refusals), detail=f"{done} activations")


def _is_activation(anchor: ir.Node) -> bool:
    """Whether a node that is in no known activation looks as if it were in one."""
    if anchor.op_type == "Tanh":
        return is_cubic(anchor)
    if anchor.op_type == "Exp":
        return False
    return anchor.op_type != "Sigmoid" or multiplies_its_argument(anchor)


def _unlike(found: list[Likeness]) -> str:
    if not found:
        return "what depends on it is no function of one value"
    nearest = min(found, key=lambda like: like.error)
    producer = nearest.value.producer()
    where = label(producer) if producer is not None else nearest.value.name
    return (
        f"the nearest form is {nearest.name}, from which {where} differs by {nearest.error:.2g} "
        f"at {nearest.point:g}"
    )


def _has_its_form(found: Likeness) -> bool:
    """Whether the activation is `Mul(x, Sigmoid(x))` or `Mul(x, Sigmoid(Mul(x, 1.702)))`."""
    node = made_by(found.value, "Mul")
    kind, source = sigmoid_product(node) if node is not None else ("", None)
    return kind in ("silu", "quick-gelu") and source is found.argument and found.factor == 1.0


def _write(found: Likeness, constants: Constants) -> None:
    x, producer = found.argument, found.value.producer()
    assert producer is not None and isinstance(producer.graph, ir.Graph)
    graph, kind = producer.graph, x.dtype or ir.DataType.FLOAT
    nodes: list[ir.Node] = []

    def add(operator: str, *inputs: ir.Value, **attributes: str) -> ir.Value:
        nodes.append(ir.node(operator, inputs, attributes))
        nodes[-1].outputs[0].type, nodes[-1].outputs[0].shape = x.type, x.shape
        return nodes[-1].outputs[0]

    if found.name == "GELU":
        result = add("Gelu", x)
    elif found.name == "GELU (tanh)":
        result = add("Gelu", x, approximate="tanh")
    else:
        quick = found.name == "quick GELU"
        inner = add("Mul", x, constants.number(graph, "quick", QUICK, kind)) if quick else x
        result = add("Mul", x, add("Sigmoid", inner))
    if found.factor != 1.0:
        add("Mul", result, constants.number(graph, "factor", found.factor, kind))
    replace(found.value, *nodes)
