"""Compute in a type of two bytes where it holds the values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
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
from burnish.passes.lower.half.ranges import SHORTS, Short

STANDARD = frozenset({
    "Add", "Attention", "Concat", "Conv", "Div", "Expand", "Flatten", "Gather", "Gelu", "Gemm",
    "Identity", "LayerNormalization", "MatMul", "Max", "Min", "Mul", "Neg", "RMSNormalization",
    "Relu", "Reshape", "RotaryEmbedding", "Sigmoid", "Slice", "Softmax", "Split", "Squeeze", "Sub",
    "Sum", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip
"""Standard operators that compute in short types on GPUs. Sums over many elements (reductions,
powers of normalizations that were not recovered) and functions that amplify stay in float32. ONNX
Runtime's CUDA provider has kernels of each for both types (docs/OperatorKernels.md there, and the
instances in the library of 1.31.1); those of normalizations add up in float32."""

OWN = frozenset({
    "BiasGelu", "FastGelu", "FusedMatMul", "GatherBlockQuantized", "GroupQueryAttention",
    "MatMulNBits", "MultiHeadAttention", "QuickGelu", "SimplifiedLayerNormalization",
    "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
})  # fmt: skip
"""Likewise of ONNX Runtime's own."""

MASKS = {"Attention": (3,), "MultiHeadAttention": (4, 5), "GroupQueryAttention": (10,)}
"""Inputs that are added to scores: what rules out there may be any number far below them."""

AMPLIFYING = {"bfloat16": frozenset({"Softmax"})}
"""Operators that stay in float32 for one of the types: probabilities of 8 bits are off by 0.4 %."""

PROCESSORS = ("cpu", "openvino")
"""Providers that compute in float32 faster, or are asked to."""


@dataclass(frozen=True)
class HalfPrecision(Sparing):
    """Compute in float16 or bfloat16 where it holds the values; on processors store weights in it.

    Before:
        `y = MatMul(x, w)` and so on, in float32.
    After:
        The same nodes on `dtype`, with a `Cast` where a node in float32 reads or is read. Inputs
        and outputs of the model keep their types. On processors, which compute in float32 faster,
        only the weights are of that type, cast when the model is loaded.
    Refuses when:
        A value on the feeds comes near what the type holds, or is so small that it has few bits; a
        constant does not fit; the operator is none that computes in it, in the model's operator
        set, or has subgraphs; the node is in `keep`. bfloat16 has the range of float32, so that
        little but masks comes near its end.
    Numerics:
        Lossy: 11 bits instead of 24 in float16, 8 in bfloat16. What rules out in masks becomes
        -30000, or -1e38 in bfloat16.
    """

    keep: tuple[str, ...] = ()
    dtype: str = "float16"

    name = "half-precision"
    phase = Phase.LOWER
    promise = LOSSY
    asked = True

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        shapes.annotate(model)
        short, opset = SHORTS[self.dtype], model.opset_imports.get("", 0)
        if not _takes("Cast", short, opset):
            return Outcome(detail=f"operator set {opset} has no {short.name}")
        if context.provider in PROCESSORS:
            count = Casts(model, short, {}).store()
            return Outcome(count, detail=f"{count} weights stored, cast when loaded")
        computed = (value for node in model.graph for value in node.outputs)
        names = [value.name or "" for value in _floats((*model.graph.inputs, *computed))]
        seen = context.observe(model, names) if context.observe is not None else {}
        half, refusals = [], []
        for node in model.graph:
            if not _has_floats(node):
                continue
            if reason := self._why_not(node, short, opset, seen):
                refusals.append(Refusal(label(node), reason))
            else:
                half.append(node)
        Casts(model, short, seen).compute(half, MASKS)
        return Outcome(len(half), tuple(refusals), detail=f"{len(half)} nodes")

    def _why_not(
        self, node: ir.Node, short: Short, opset: int, seen: Mapping[str, Observation]
    ) -> str:
        if {value.name for value in node.outputs}.intersection(self.keep):
            return "kept in fp32 to stay within the budget"
        known = STANDARD - AMPLIFYING.get(short.name, frozenset()) if node.domain == "" else OWN
        if node.op_type not in known or node.domain not in ("", FUSED):
            return f"{node.op_type} stays in float32"
        if node.domain == "" and not _takes(node.op_type, short, opset):
            return f"{node.op_type} of operator set {opset} does not take {short.name}"
        masks = MASKS.get(node.op_type, ())
        for index, value in enumerate(node.inputs):
            if value is None or value.dtype is not ir.DataType.FLOAT or index in masks:
                continue
            reason = (
                short.does_not_fit(value.const_value)
                if value.const_value is not None and value.producer() is None
                else short.too_wide(value, seen)
            )
            if reason:
                return f"{value.name}: {reason}"
        results = (short.too_wide(value, seen) for value in _floats(node.outputs))
        return next(filter(None, results), "")


def _takes(operator: str, short: Short, opset: int) -> bool:
    """Whether a standard operator of this set takes the type wherever it takes float32."""
    schema = onnx.defs.get_schema(operator, opset, "")
    read = {item.type_str for item in schema.inputs}
    types = (i.allowed_type_strs for i in schema.type_constraints if i.type_param_str in read)
    return all(f"tensor({short.name})" in item for item in types if "tensor(float)" in item)


def _floats(values: Iterable[ir.Value | None]) -> list[ir.Value]:
    return [value for value in values if value is not None and value.dtype is ir.DataType.FLOAT]


def _has_floats(node: ir.Node) -> bool:
    return bool(_floats(node.inputs) or _floats(node.outputs)) and node.op_type != "Cast"
