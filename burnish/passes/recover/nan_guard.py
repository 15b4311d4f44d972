"""The guard against rows without keys moves from the n x n softmax to the n x d result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase, Refusal
from burnish.optimizer.model import add_initializer

HIDING = -1e30
"""A number that hides a key where it is added to its score."""

LOWEST = np.finfo(np.float32).min
"""Hides a key as well as -inf does, but leaves a row without keys defined."""


@dataclass(frozen=True)
class NanGuard(Pass):
    """Guard the attention's result by the mask instead of its probabilities by `IsNaN`.

    Before:
        `p = Softmax(scores + Where(mask, 0, -inf))`, `g = Where(IsNaN(p), 0, p)`, `y = g @ v`.
    After:
        `y = Softmax(scores + Where(mask, 0, lowest)) @ v * alive`, where `alive` is 1 for rows
        with at least one key and 0 for others, computed once from the mask. Where the mask hides
        with a finite number, no row can turn NaN, and the guard is dropped.
    Refuses when:
        The guarded value is no softmax over its last axis, its mask is no `Where` of such
        constants, the scores hold another mask, or the guarded value has other uses than one
        product.
    Numerics:
        Rounding; equal also in rows without keys. Scores that are NaN themselves stay NaN.
    """

    name = "nan-guard"
    phase = Phase.RECOVER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        rewriter, refusals, done = _Rewriter(model), [], 0
        for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
            if node.op_type != "IsNaN":
                continue
            found = _match(node)
            if isinstance(found, str):
                refusals.append(Refusal(node.name or node.op_type, found))
                continue
            rewriter.rewrite(found)
            done += 1
        return Outcome(done, tuple(refusals), detail=f"{done} guards moved")


@dataclass(frozen=True)
class _Guard:
    """The nodes of one guarded attention."""

    test: ir.Node
    select: ir.Node
    probabilities: ir.Value
    adder: ir.Node
    bias: ir.Node
    product: ir.Node


def _match(test: ir.Node) -> _Guard | str:
    probabilities = test.inputs[0]
    softmax = probabilities.producer() if probabilities is not None else None
    if probabilities is None or softmax is None or softmax.op_type != "Softmax":
        return "the guarded value is no softmax"
    rank = len(probabilities.shape) if probabilities.shape is not None else 0
    if softmax.attributes.get_int("axis", -1) not in (-1, rank - 1):
        return "the softmax is not over the last axis"
    selects = [use.node for use in test.outputs[0].uses()]
    if len(selects) != 1 or selects[0].op_type != "Where":
        return "the test has other uses than a Where"
    select = selects[0]
    if select.inputs[2] is not probabilities or _scalar(select.inputs[1]) != 0.0:
        return "the guard does not put zero in place of NaN"
    uses = list(select.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "MatMul" or uses[0].idx != 0:
        return "the guarded value has other uses than one product"
    if select.outputs[0].is_graph_output() or len(probabilities.uses()) != 2:
        return "the probabilities have other uses"
    adder = softmax.inputs[0].producer() if softmax.inputs[0] is not None else None
    if adder is None or adder.op_type != "Add":
        return "the scores have no additive mask"
    if len(adder.outputs[0].uses()) != 1 or adder.outputs[0].is_graph_output():
        return "the masked scores have other uses"
    for value, scores in zip(adder.inputs, reversed(adder.inputs), strict=True):
        bias = value.producer() if value is not None else None
        if bias is not None and bias.op_type == "Where" and _hides(bias):
            if _masked(scores):
                return "a second mask is in the scores"
            return _Guard(test, select, probabilities, adder, bias, uses[0].node)
    return "the mask is not Where(condition, 0, constant)"


def _masked(scores: ir.Value | None) -> bool:
    """Whether something has been ruled out of the scores already, on the way from their product."""
    stack, seen = [scores], set()
    while stack:
        value = stack.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        number = _scalar(value)
        if number is not None and number <= HIDING:
            return True
        node = value.producer()
        if node is not None and node.op_type not in ("MatMul", "Gemm", "Einsum", "Softmax"):
            stack += node.inputs
    return False


def _hides(node: ir.Node) -> bool:
    """Whether a `Where` gives 0 where its condition holds and a negative constant elsewhere."""
    hidden = _scalar(node.inputs[2])
    return _scalar(node.inputs[1]) == 0.0 and hidden is not None and hidden < 0


def _scalar(value: ir.Value | None) -> float | None:
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    if tensor is None or tensor.size != 1 or tensor.dtype is not ir.DataType.FLOAT:
        return None
    return float(tensor.numpy().reshape(()))


class _Rewriter:
    """Makes the mask of lowest values and `alive` once per mask."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._opset = model.opset_imports.get("", 0)
        self._made: dict[ir.Node, tuple[ir.Value, ir.Value]] = {}

    def rewrite(self, guard: _Guard) -> None:
        graph = guard.test.graph
        assert isinstance(graph, ir.Graph)
        guard.product.replace_input_with(0, guard.probabilities)
        graph.remove([guard.select, guard.test], safe=True)
        if _scalar(guard.bias.inputs[2]) != -np.inf:
            return
        bias, alive = self._masks(guard.bias)
        for index, value in enumerate(guard.adder.inputs):
            if value is guard.bias.outputs[0]:
                guard.adder.replace_input_with(index, bias)
        # Another value than before (finite where it was not), so another name.
        guard.adder.outputs[0].name = f"{guard.adder.outputs[0].name}_finite"
        result = guard.product.outputs[0]
        name = result.name
        scaled = ir.node("Mul", [result, alive])
        scaled.outputs[0].type, scaled.outputs[0].shape = result.type, result.shape
        ir.convenience.replace_all_uses_with(result, scaled.outputs[0], replace_graph_outputs=True)
        scaled.replace_input_with(0, result)
        graph.insert_after(guard.product, scaled)
        result.name, scaled.outputs[0].name = f"{name}_unguarded", name

    def _masks(self, where: ir.Node) -> tuple[ir.Value, ir.Value]:
        if where in self._made:
            return self._made[where]
        graph = where.graph
        assert isinstance(graph, ir.Graph)
        condition = where.inputs[0]
        lowest = add_initializer(graph, "lowest", ir.tensor(np.array(LOWEST, np.float32)))
        bias = ir.node("Where", [condition, where.inputs[1], lowest])
        number = ir.node("Cast", [condition], {"to": ir.DataType.FLOAT.value})
        if self._opset >= 18:
            axes = add_initializer(graph, "key_axis", ir.tensor(np.array([-1])))
            alive = ir.node("ReduceMax", [number.outputs[0], axes], {"keepdims": 1})
        else:
            alive = ir.node("ReduceMax", [number.outputs[0]], {"keepdims": 1, "axes": (-1,)})
        graph.insert_after(where, [bias, number, alive])
        self._made[where] = (bias.outputs[0], alive.outputs[0])
        return self._made[where]
