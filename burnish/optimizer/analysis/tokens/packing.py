"""What token packing would do to a model, or why it may not be done."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer import roles
from burnish.optimizer.analysis.products import label
from burnish.optimizer.analysis.tokens import padded, region, spill
from burnish.optimizer.analysis.tokens.layout import Layout
from burnish.optimizer.analysis.tokens.selections import Leak
from burnish.optimizer.contract import Refusal
from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.undefined import Padding

LEAST_OPSET = 13
"""Axes of Unsqueeze as an input, and a softmax over one axis."""


@dataclass(frozen=True)
class Packing:
    """A region that may run on real tokens only.

    Attributes:
        mask: the input [batch, sequence] that says which tokens are real.
        layout: the axes of all values.
        region: the nodes, with their operands' kinds.
        spill: where padded rows will hold something else.
        padding: rows of outputs that become zero.
    """

    mask: ir.Value
    layout: Layout
    region: region.Region
    spill: spill.Spill
    padding: list[Padding]

    @property
    def products(self) -> list[ir.Node]:
        """The region's products with constant weights."""
        return [node for node in self.region if node.op_type in region.PRODUCTS]


def masks(model: ir.Model) -> list[ir.Value] | str:
    """The inputs that may say which tokens are real, or why there is none."""
    if model.opset_imports.get("", 0) < LEAST_OPSET:
        return f"the operator set is older than {LEAST_OPSET}"
    try:
        slots = roles.slots(model)
    except UnsupportedModel as error:
        return error.message
    inputs = {value.name: value for value in model.graph.inputs}
    found = [
        inputs[slot.port.name]
        for slot in slots
        if slot.role is roles.Role.MASK and len(slot.port.shape or ()) == 2
    ]
    if not found:
        return "no input [batch, sequence] says which tokens are real"
    open_ = [mask for mask in found if _is_open(mask)]
    return open_ or f"the batch or the length of {found[0].name} is fixed or has no name"


def _is_open(mask: ir.Value) -> bool:
    sizes = [
        dim.value for dim in mask.shape or () if not isinstance(dim, int) and dim.value is not None
    ]
    return len(set(sizes)) == 2 and all(size.isidentifier() for size in sizes)


def plan(model: ir.Model, mask: ir.Value) -> Packing | Refusal:
    """What packing along one mask would do, or why it may not be done."""
    layout = Layout(model, mask)
    facts = padded.find(model, layout, mask)
    nodes = region.find(model, layout, facts)
    if not any(node.op_type in region.PRODUCTS for node in nodes):
        return Refusal(mask.name or "", "no products run on tokens along this mask alone")
    try:
        spilled = spill.follow(model, layout, facts, nodes)
    except Leak as leak:
        return Refusal(leak.node, leak.reason)
    rows = []
    for value in model.graph.outputs:
        axes = spilled.axes.get(value, frozenset())
        if not all(layout.aligned(value, axis) for axis in axes):
            return Refusal(
                _maker(value), f"padded rows reach output {value.name}, whose rows are no tokens"
            )
        for axis in sorted(axes):
            batch = layout.batch(value)
            first = axis if batch is None else batch
            rows.append(Padding(value.name or "", mask.name or "", first, axis))
    return Packing(mask, layout, nodes, spilled, rows)


def _maker(value: ir.Value) -> str:
    node = value.producer()
    return label(node) if node is not None else value.name or ""
