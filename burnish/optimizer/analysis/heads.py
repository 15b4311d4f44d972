"""Heads split off from the last axis of a value, and merged into it again."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.matching import only_reader, rank, written_size

HEADS_INSIDE = (0, 2, 1, 3)
"""Permutation between [batch, sequence, heads, size] and [batch, heads, sequence, size]."""


@dataclass(frozen=True)
class Split:
    """A value [batch, sequence, heads * size] behind one with its heads apart."""

    source: ir.Value
    heads: int
    size: int


def split_heads(value: ir.Value) -> Split | None:
    """The value whose last axis was split into heads, which then became the second axis."""
    transpose = value.producer()
    if transpose is None or transpose.op_type != "Transpose":
        return None
    if transpose.attributes.get_ints("perm", ()) != HEADS_INSIDE or transpose.inputs[0] is None:
        return None
    reshape = transpose.inputs[0].producer()
    if reshape is None or reshape.op_type != "Reshape" or reshape.inputs[0] is None:
        return None
    source, apart = reshape.inputs[0], reshape.outputs[0]
    if rank(source) != 3 or rank(apart) != 4 or source.shape is None or apart.shape is None:
        return None
    heads, length = apart.shape[2], apart.shape[3]
    if not (isinstance(heads, int) and isinstance(length, int)):
        return None
    if source.shape[2] != heads * length or not _same_rows(source, apart):
        return None
    return Split(source, heads, length)


def merged_heads(value: ir.Value) -> ir.Value | None:
    """What an attention's result [batch, heads, sequence, size] becomes once heads are merged."""
    transpose = only_reader(value)
    if transpose is None or transpose.op_type != "Transpose":
        return None
    if transpose.attributes.get_ints("perm", ()) != HEADS_INSIDE:
        return None
    apart = transpose.outputs[0]
    reshape = only_reader(apart)
    if reshape is None or reshape.op_type != "Reshape" or apart.shape is None:
        return None
    merged = reshape.outputs[0]
    heads, length = apart.shape[2], apart.shape[3]
    if rank(merged) != 3 or merged.shape is None:
        return None
    if not (isinstance(heads, int) and isinstance(length, int)):
        return None
    same = merged.shape[2] == heads * length and _same_rows(apart, merged)
    return merged if same else None


def _same_rows(first: ir.Value, second: ir.Value) -> bool:
    """Whether two values with equally many elements after the first two axes agree in those two.

    That one of the two has the same size is enough.
    """
    return any(written_size(first, axis) == written_size(second, axis) for axis in (0, 1))
