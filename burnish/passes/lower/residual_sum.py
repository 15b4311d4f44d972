"""A residual addition before a normalization is spelled so that the faster kernels run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx import TensorProto, helper

from burnish.optimizer.contract import EXACT, Choice, Context, Outcome, Pass, Phase, Refusal


@dataclass(frozen=True)
class ResidualSum(Pass):
    """Write `Add` before `LayerNormalization` as `Sum` where that is measured faster.

    ONNX Runtime fuses `Add` and `LayerNormalization` into `SkipLayerNormalization` when it loads a
    model, and on processors that kernel is slower than the two. It does not look at `Sum`.

    Before:
        `LayerNormalization(Add(a, b))`.
    After:
        `LayerNormalization(Sum(a, b))`.
    Refuses when:
        `Add` is measured at least as fast. Other providers than `cpu` are left alone.
    Numerics:
        Exact: the same sum of the same two operands.
    """

    name = "residual-sum"
    phase = Phase.LOWER
    promise = EXACT

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        if context.provider != "cpu":
            return Outcome()
        done, refusals, gains = 0, [], []
        for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
            adder = _residual(node)
            if adder is None:
                continue
            choice = self._choose(node, adder, context)
            if choice.winner == "Add":
                reason = f"Add is as fast ({choice.speedup:.2f} times)"
                refusals.append(Refusal(adder.name or adder.op_type, reason))
                continue
            adder.op_type = "Sum"
            done += 1
            if choice.measured:
                gains.append(choice.speedup)
        speedup = math.exp(sum(map(math.log, gains)) / len(gains)) if gains else None
        return Outcome(done, tuple(refusals), speedup, f"{done} additions")

    def _choose(self, norm: ir.Node, adder: ir.Node, context: Context) -> Choice:
        tokens = context.sizes.get("batch", 8) * context.sizes.get("sequence", 128)
        shape = context.shapes.get(adder.outputs[0].name or "")
        scale = norm.inputs[1]
        width = _width(scale) or (shape[-1] if shape else 768)
        rows = math.prod(shape[:-1]) if shape else tokens
        forms: dict[str, Callable[[], onnx.ModelProto]] = {
            "Add": lambda: _sample("Add", rows, width),
            "Sum": lambda: _sample("Sum", rows, width),
        }
        return context.choose(f"residual rows={rows} width={width}", forms, "Sum")


def _residual(norm: ir.Node) -> ir.Node | None:
    """The `Add` of two computed values that a layer normalization reads, if it is one."""
    if norm.op_type != "LayerNormalization" or norm.inputs[0] is None:
        return None
    adder = norm.inputs[0].producer()
    if adder is None or adder.op_type != "Add" or adder.domain != "":
        return None
    constant = any(value is None or value.const_value is not None for value in adder.inputs)
    return None if constant or norm.inputs[0].dtype not in (None, ir.DataType.FLOAT) else adder


def _width(scale: ir.Value | None) -> int:
    if scale is None or scale.const_value is None:
        return 0
    return math.prod(scale.const_value.shape.numpy())


def _sample(operator: str, rows: int, width: int) -> onnx.ModelProto:
    """The two operators as a model of the same sizes, for timing."""
    shape = [1, rows, width]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "aby"]
    ones = helper.make_tensor("scale", TensorProto.FLOAT, [width], [1.0] * width)
    half = helper.make_tensor("bias", TensorProto.FLOAT, [width], [0.5] * width)
    nodes = [
        helper.make_node(operator, ["a", "b"], ["sum"]),
        helper.make_node("LayerNormalization", ["sum", "scale", "bias"], ["y"], axis=-1),
    ]
    graph = helper.make_graph(nodes, "sample", ports[:2], ports[2:], [ones, half])
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)
