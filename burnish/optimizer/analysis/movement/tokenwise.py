"""Operators that compute each row of a value by itself, whichever row it is."""

from __future__ import annotations

import math

import onnx_ir as ir

from burnish.optimizer.analysis.movement.moves import Moves
from burnish.optimizer.analysis.movement.slabs import Slabs
from burnish.optimizer.analysis.tokens.operators import ELEMENTWISE, NORMS, SOFTMAXES


def rowwise(node: ir.Node, moves: Moves) -> list[ir.Value] | None:
    """The operands whose rows a node computes its result's rows from, each from the same ones.

    None where it does not work so: rows are along the last axis, and all else is constant.
    """
    if node.domain != "" or not node.inputs or node.inputs[0] is None:
        return None
    first, result = moves.slabs(node.inputs[0]), moves.slabs(node.outputs[0])
    if first is None or result is None or len(first.shape) < 2 or len(result.shape) < 2:
        return None
    others = [value for value in node.inputs[1:] if value is not None]
    if node.op_type in ELEMENTWISE:
        return _elementwise(node, moves, result)
    if not all(map(_constant, others)) or not _same_rows(first, result):
        return None
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return None
    last = len(first.shape) - 1
    if node.op_type == "MatMul":
        good = len(_shape(others[0])) == 2
    elif node.op_type == "Gemm":
        flat = len(others) < 2 or math.prod(_shape(others[1])[:-1]) == 1
        good = node.attributes.get_int("transA", 0) == 0 and flat
    elif node.op_type in NORMS or node.op_type in SOFTMAXES:
        good = node.attributes.get_int("axis", -1) in (-1, last)
    else:
        good = False
    return [node.inputs[0]] if good else None


def _elementwise(node: ir.Node, moves: Moves, result: Slabs) -> list[ir.Value] | None:
    found = []
    for value in node.inputs:
        if value is None:
            continue
        if _constant(value):
            if math.prod(_shape(value)[:-1]) != 1:
                return None
        elif moves.slabs(value) == result:
            found.append(value)
        else:
            return None
    return found or None


def _same_rows(first: Slabs, second: Slabs) -> bool:
    return first.lead == second.lead and first.rows == second.rows


def _constant(value: ir.Value) -> bool:
    return value.const_value is not None and value.producer() is None


def _shape(value: ir.Value) -> tuple[int, ...]:
    assert value.const_value is not None
    return tuple(int(size) for size in value.const_value.shape.numpy())
