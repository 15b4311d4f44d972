"""Lookup tables in few bits: which `Gather`s read rows that are worth it."""

from __future__ import annotations

from collections.abc import Callable, Collection

import onnx_ir as ir

from burnish.optimizer.analysis.products import is_finite, label, shape_of
from burnish.optimizer.contract import Refusal

SMALLEST_TABLE = 16 << 10
"""Elements below which a lookup table stays as it is."""

PRODUCTS = ("MatMul", "Gemm", "Transpose")
"""Operators besides the lookups that a quantized table may serve."""


def find(model: ir.Model, keep: Collection[str]) -> tuple[list[ir.Node], list[Refusal]]:
    """The `Gather`s of rows from constant float32 tables, and why others stay as they are.

    Args:
        model: is not changed.
        keep: outputs of those that stay to keep to the budget.
    """
    found, refusals = [], []
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if not _reads_rows(node):
            continue
        reason = _why_not(node, keep)
        if reason:
            refusals.append(Refusal(label(node), reason))
        else:
            found.append(node)
    return found, refusals


def _reads_rows(node: ir.Node) -> bool:
    """Whether a node takes rows of a float32 table that is large enough."""
    source = node.inputs[0] if node.inputs else None
    if node.op_type != "Gather" or node.domain != "" or source is None:
        return False
    tensor = source.const_value
    return (
        tensor is not None
        and source.producer() is None
        and tensor.dtype is ir.DataType.FLOAT
        and len(shape_of(source)) == 2
        and node.attributes.get_int("axis", 0) == 0
        and tensor.size >= SMALLEST_TABLE
    )


def _why_not(node: ir.Node, keep: Collection[str]) -> str:
    source = node.inputs[0]
    assert source is not None
    if _scales_activations(node):
        return "its rows multiply activations"
    if not is_finite(source):
        return "its table holds NaN or infinity"
    if any(use.node.op_type not in ("Gather", *PRODUCTS) for use in source.uses()):
        return "its table is used in float elsewhere"
    return "kept in fp32 to stay within the budget" if node.outputs[0].name in keep else ""


def _scales_activations(node: ir.Node) -> bool:
    """Whether rows that were looked up are factors, as those of a rotary embedding are."""
    stack = [node.outputs[0]]
    while stack:
        for use in stack.pop().uses():
            if use.node.op_type == "Mul":
                other = use.node.inputs[1 - use.idx]
                # A normalization multiplies the rows by what it makes of themselves.
                if other is not None and not _is_made_of(other, node.outputs[0]):
                    return True
            elif use.node.op_type in ("Unsqueeze", "Reshape", "Cast", "Slice", "Transpose"):
                stack.append(use.node.outputs[0])
    return False


def _is_made_of(value: ir.Value, source: ir.Value) -> bool:
    """Whether a value depends on another one, or on nothing but constants."""
    stack, seen, given = [value], set(), False
    while stack:
        current = stack.pop()
        if current is source:
            return True
        if current in seen or current.const_value is not None:
            continue
        seen.add(current)
        maker = current.producer()
        given |= maker is None
        stack += [item for item in maker.inputs if item is not None] if maker is not None else []
    return not given


def rewrite(
    nodes: list[ir.Node], in_float: Collection[ir.Value], rewrite_one: Callable[[ir.Node], None]
) -> tuple[int, list[Refusal]]:
    """Rewrite the lookups but those whose table a product needs in float; how many."""
    done, refusals = 0, []
    for node in nodes:
        assert node.inputs[0] is not None
        if node.inputs[0] in in_float:
            refusals.append(Refusal(label(node), "its table is also a product's weight in fp32"))
        else:
            rewrite_one(node)
            done += 1
    return done, refusals
