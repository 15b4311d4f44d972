"""Token-wise layers run on real tokens only; where tokens mix, the padded layout comes back."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer import roles
from burnish.optimizer.analysis.products import label
from burnish.optimizer.analysis.tokens import padded, region, spill
from burnish.optimizer.analysis.tokens.layout import Layout
from burnish.optimizer.contract import ROUNDING, Context, Outcome, Padding, Pass, Phase, Refusal
from burnish.optimizer.errors import UnsupportedModel
from burnish.passes.restructure.packing import Packer

LEAST_OPSET = 13
"""Axes of Unsqueeze as an input, and a softmax over one axis."""


@dataclass(frozen=True)
class Pack(Pass):
    """Pack the real tokens of padded batches for all layers that compute each token by itself.

    Before:
        Products, normalizations and activations on `[batch, sequence, features]`, with a mask
        input `[batch, sequence]` that says which tokens are real.
    After:
        The same on `[1, tokens, features]`, where `tokens` are the real ones and one that stands
        in for all padded ones. Before attention, and wherever else tokens mix, a `GatherND`
        brings the padded layout back, and another packs what comes out. Padded rows of outputs
        are zero.
    Refuses when:
        No mask input has symbolic sizes, nothing hides padded keys from an attention, or padded
        rows would change anything but padded rows: a mean over all positions, a token taken at a
        computed place, an operator that is not known to keep tokens apart. A token taken at a
        fixed place (the first one, say) is computed whether it is real or not.
    Numerics:
        Rounding at real tokens. In a sequence without any, the answer is as undefined as it was.
    """

    name = "pack"
    phase = Phase.RESTRUCTURE
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, for each mask input whose layers can be packed."""
        masks = _masks(model)
        if isinstance(masks, str):
            return Outcome(0, (Refusal("inputs", masks),), detail=masks)
        packed, refusals, padding, said = 0, [], [], []
        for mask in masks:
            found = _packed(model, mask)
            if isinstance(found, Refusal):
                refusals.append(found)
                continue
            count, rows = found
            packed += count
            padding += rows
            if count:
                said.append(f"{count} products on real tokens of {mask.name}")
        return Outcome(
            packed, tuple(refusals), detail=", ".join(said), padding=tuple(padding)
        )


def _masks(model: ir.Model) -> list[ir.Value] | str:
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


def _packed(model: ir.Model, mask: ir.Value) -> tuple[int, list[Padding]] | Refusal:
    """Pack along one mask: the products that now run on real tokens, and the rows left zero."""
    layout = Layout(model, mask)
    facts = padded.find(model, layout, mask)
    nodes = region.find(model, layout, facts)
    products = [node for node in nodes if node.op_type in region.PRODUCTS]
    if not products:
        return Refusal(mask.name or "", "no products run on tokens along this mask alone")
    try:
        spilled = spill.follow(model, layout, facts, nodes)
    except spill.Leak as leak:
        return Refusal(leak.node, leak.reason)
    rows = []
    for value in model.graph.outputs:
        axes = spilled.axes.get(value, frozenset())
        if not all(layout.aligned(value, axis) for axis in axes):
            return Refusal(
                _maker(value), f"padded rows reach output {value.name}, whose rows are no tokens"
            )
        selected = tuple(sorted(spilled.selected))
        for axis in sorted(axes):
            batch = layout.batch(value)
            whole = batch is None or batch == axis
            rows.append(
                Padding(value.name or "", mask.name or "", axis if whole else batch, axis, selected)
            )
    Packer(model, layout, mask, spilled).rewrite(nodes, rows)
    return len(products), rows


def _maker(value: ir.Value) -> str:
    node = value.producer()
    return label(node) if node is not None else value.name or ""
