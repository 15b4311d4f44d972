"""Compute in float16 where it holds the values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.products import label
from burnish.optimizer.contract import (
    LOSSY,
    Context,
    Observation,
    Outcome,
    Phase,
    Refusal,
    Sparing,
)
from burnish.optimizer.forms import FUSED
from burnish.passes.lower.half.casts import Casts
from burnish.passes.lower.half.ranges import does_not_fit, too_wide

STANDARD = frozenset({
    "Add", "Attention", "Concat", "Conv", "Div", "Expand", "Flatten", "Gather", "Gelu", "Gemm",
    "Identity", "LayerNormalization", "MatMul", "Max", "Min", "Mul", "Neg", "RMSNormalization",
    "Relu", "Reshape", "RotaryEmbedding", "Sigmoid", "Slice", "Softmax", "Split", "Squeeze", "Sub",
    "Sum", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
"""Standard operators that compute in float16 on GPUs. Sums over many elements (reductions, powers
of normalizations that were not recovered) and functions that amplify stay in float32."""

OWN = frozenset({
    "BiasGelu", "FastGelu", "FusedMatMul", "GatherBlockQuantized", "GroupQueryAttention",
    "MatMulNBits", "MultiHeadAttention", "QuickGelu", "SimplifiedLayerNormalization",
    "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
})  # fmt: skip
"""Likewise of ONNX Runtime's own."""

MASKS = {"Attention": (3,), "MultiHeadAttention": (4, 5), "GroupQueryAttention": (10,)}
"""Inputs that are added to scores: what rules out there may be any number far below them."""


@dataclass(frozen=True)
class HalfPrecision(Sparing):
    """Compute in float16 where it holds the values; on processors store weights in it.

    Before:
        `y = MatMul(x, w)` and so on, in float32.
    After:
        The same nodes on float16, with a `Cast` where a node in float32 reads or is read. Inputs
        and outputs of the model keep their types. On processors, which compute in float32 faster,
        only the weights are float16, cast when the model is loaded.
    Refuses when:
        A value on the feeds comes near what float16 holds, or is so small that it has few bits; a
        constant does not fit; the operator is none that computes in float16, or has subgraphs; the
        node is in `keep`.
    Numerics:
        Lossy: 11 bits instead of 24. What rules out in masks becomes -30000.
    """

    keep: tuple[str, ...] = ()

    name = "half-precision"
    phase = Phase.LOWER
    promise = LOSSY
    asked = True

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        shapes.annotate(model)
        if context.provider == "cpu":
            count = Casts(model, {}).store()
            return Outcome(count, detail=f"{count} weights stored, cast when loaded")
        computed = (value for node in model.graph for value in node.outputs)
        names = [value.name or "" for value in _floats((*model.graph.inputs, *computed))]
        seen = context.observe(model, names) if context.observe is not None else {}
        half, refusals = [], []
        for node in model.graph:
            if not _has_floats(node):
                continue
            if reason := self._why_not(node, seen):
                refusals.append(Refusal(label(node), reason))
            else:
                half.append(node)
        Casts(model, seen).compute(half, MASKS)
        return Outcome(len(half), tuple(refusals), detail=f"{len(half)} nodes")

    def _why_not(self, node: ir.Node, seen: Mapping[str, Observation]) -> str:
        if {value.name for value in node.outputs}.intersection(self.keep):
            return "kept in fp32 to stay within the budget"
        if node.op_type not in (STANDARD if node.domain == "" else OWN) or node.domain not in (
            "",
            FUSED,
        ):
            return f"{node.op_type} stays in float32"
        masks = MASKS.get(node.op_type, ())
        for index, value in enumerate(node.inputs):
            if value is None or value.dtype is not ir.DataType.FLOAT or index in masks:
                continue
            reason = (
                does_not_fit(value.const_value)
                if value.const_value is not None and value.producer() is None
                else too_wide(value, seen)
            )
            if reason:
                return f"{value.name}: {reason}"
        return next(filter(None, (too_wide(value, seen) for value in _floats(node.outputs))), "")


def _floats(values: Iterable[ir.Value | None]) -> list[ir.Value]:
    return [value for value in values if value is not None and value.dtype is ir.DataType.FLOAT]


def _has_floats(node: ir.Node) -> bool:
    return bool(_floats(node.inputs) or _floats(node.outputs)) and node.op_type != "Cast"
