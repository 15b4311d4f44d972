"""The nodes that compute each token by itself, around the products with constant weights."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import onnx_ir as ir

from burnish.optimizer.analysis.tokens.layout import Axis, Dims, Layout
from burnish.optimizer.analysis.tokens.operators import (
    ELEMENTWISE,
    NORMS,
    REDUCTIONS,
    SOFTMAXES,
    VIEWS,
    axes_of,
)
from burnish.optimizer.analysis.tokens.padded import Facts


class Kind(Enum):
    """How an operand goes along with packed tokens."""

    TOKEN = "a row of its own for each token"
    POSITION = "a row for each position, shared by the sequences"
    ROW = "a row for each sequence, shared by its tokens"
    SHARED = "the same for all tokens"


Kinds = tuple[Kind | None, ...]
"""By operand; None for one that is left out."""

Region = dict[ir.Node, Kinds]
"""Nodes in order, with their operands' kinds."""

PRODUCTS = {"MatMul", "Gemm"}


def leading(dims: Dims | None) -> int:
    """How many axes run over tokens: 2 for [batch, sequence, ...], 1 for [tokens, ...], else 0."""
    if dims is None:
        return 0
    count = 2 if dims[:2] == (Axis.BATCH, Axis.SEQUENCE) else int(dims[:1] == (Axis.TOKENS,))
    return count if all(isinstance(dim, int) for dim in dims[count:]) else 0


def find(model: ir.Model, layout: Layout, facts: Facts) -> Region:
    """The largest set of nodes that may be computed on real tokens only.

    Values whose padded rows the mask makes constants (so that a pooling skips them) stay outside,
    and so do views at the rim, where they cost nothing.
    """
    candidates: Region = {}
    for node in model.graph:
        kinds = _kinds(node, layout)
        if kinds is not None and not any(output in facts for output in node.outputs):
            candidates[node] = kinds
    after = _after_products(candidates)
    before: set[ir.Node] = set()
    for node in reversed(candidates):
        if node.op_type in PRODUCTS or any(user in before for user in _users(node)):
            before.add(node)
    region = {node: kinds for node, kinds in candidates.items() if node in after | before}
    for node in list(reversed(region)):
        if node.op_type in VIEWS and not any(user in region for user in _users(node)):
            del region[node]
    for node in list(region):
        source = node.inputs[0]
        if node.op_type in VIEWS and (source is None or source.producer() not in region):
            del region[node]
    return region


def _after_products(candidates: Region) -> set[ir.Node]:
    found: set[ir.Node] = set()
    for node in candidates:
        makers = {value.producer() for value in node.inputs if value is not None}
        if node.op_type in PRODUCTS or makers & found:
            found.add(node)
    return found


def _users(node: ir.Node) -> list[ir.Node]:
    return [use.node for output in node.outputs for use in output.uses()]


def _kinds(node: ir.Node, layout: Layout) -> Kinds | None:
    """The kinds of a node's operands where it computes each token by itself; else None."""
    if node.domain != "" or not node.inputs:
        return None
    lead = 0
    for output in node.outputs:
        dims = layout.dims(output)
        lead = leading(dims)
        if not lead or dims is None or len(dims) == lead:
            return None
    kinds = _by_operator(node, layout, lead)
    return kinds if kinds is not None and Kind.TOKEN in kinds else None


def _by_operator(node: ir.Node, layout: Layout, lead: int) -> Kinds | None:
    operator, dims = node.op_type, layout.dims(node.inputs[0])
    rest = node.inputs[1:]
    if operator in ELEMENTWISE:
        return _broadcast(node.inputs, node.outputs[0], layout, lead)
    if operator == "Expand":
        kinds = _broadcast(node.inputs[:1], node.outputs[0], layout, lead)
        return (*kinds, None) if kinds is not None else None
    if operator == "Gather" and not leading(dims):
        return _lookup(node, layout, dims)
    if operator in VIEWS:
        return (Kind.TOKEN, *(None for _ in rest)) if leading(dims) else None
    if dims is None or leading(dims) != lead or any(_varies(value, layout) for value in rest):
        same = operator == "Concat" and all(leading(layout.dims(item)) == lead for item in rest)
        if not same:
            return None
    assert dims is not None
    if not _stays(node, layout, lead, len(dims)):
        return None
    kind = Kind.TOKEN if operator == "Concat" else Kind.SHARED
    return (Kind.TOKEN, *(kind if value is not None else None for value in rest))


def _stays(node: ir.Node, layout: Layout, lead: int, rank: int) -> bool:
    """Whether an operator leaves the axes over tokens alone."""
    operator = node.op_type
    if operator == "MatMul":
        weight = layout.dims(node.inputs[1])
        return weight is not None and len(weight) == 2 and rank > lead
    if operator == "Gemm":
        return lead == 1 and not node.attributes.get_int("transA", 0)
    if operator == "Transpose":
        permutation = node.attributes.get_ints("perm", ())
        return tuple(permutation[:lead]) == tuple(range(lead))
    if operator == "Gather":
        return node.attributes.get_int("axis", 0) % rank >= lead
    if operator in NORMS and any(output.uses() for output in node.outputs[1:]):
        return False
    if operator in (*NORMS, *SOFTMAXES, *REDUCTIONS, "Split", "Concat", "Slice"):
        axes = axes_of(node, layout, rank)
        return axes is not None and all(axis >= lead for axis in axes)
    return False


def _varies(value: ir.Value | None, layout: Layout) -> bool:
    """Whether an operand may have axes whose size is not fixed."""
    dims = layout.dims(value)
    return value is not None and (dims is None or not all(isinstance(dim, int) for dim in dims))


def _lookup(node: ir.Node, layout: Layout, dims: Dims | None) -> Kinds | None:
    """Rows of a table for each token's id."""
    table, ids = node.inputs
    if _varies(table, layout) or node.attributes.get_int("axis", 0) != 0 or dims is None:
        return None
    indices = layout.dims(ids)
    alone = indices is not None and len(indices) == leading(indices)
    return (Kind.SHARED, Kind.TOKEN) if alone and leading(indices) else None


def _broadcast(
    inputs: Sequence[ir.Value | None],
    result: ir.Value,
    layout: Layout,
    lead: int,
) -> Kinds | None:
    rank, kinds = len(layout.dims(result) or ()), []
    for value in inputs:
        dims = layout.dims(value)
        kind = _operand(dims, rank, lead) if dims is not None else None
        if kind is None and value is not None:
            return None
        kinds.append(kind)
    return tuple(kinds)


def _operand(dims: Dims, rank: int, lead: int) -> Kind | None:
    """The kind of an operand that is broadcast with a result of this rank."""
    missing = rank - len(dims)
    if missing < 0:
        return None
    head, rest = dims[: max(lead - missing, 0)], dims[max(lead - missing, 0) :]
    if not all(isinstance(dim, int) for dim in rest):
        return None
    if all(dim == 1 for dim in head):
        return Kind.SHARED
    return {
        (Axis.BATCH, Axis.SEQUENCE): Kind.TOKEN,
        (Axis.TOKENS,): Kind.TOKEN if lead == 1 else None,
        (1, Axis.SEQUENCE): Kind.POSITION,
        (Axis.SEQUENCE,): Kind.POSITION,
        (Axis.BATCH, 1): Kind.ROW,
    }.get(head)
