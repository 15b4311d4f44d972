"""Operator sets are raised to the one in which the later passes write."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from burnish.optimizer import sandbox
from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase
from burnish.optimizer.model import adopt, without_weights
from burnish.optimizer.sandbox import Limits

CONVERT = "burnish.optimizer.libraries:convert"

LEAST = 13
"""The oldest operator set that the later passes can write for."""

LADDER = (23, 22, 21, 20, 19, 18, 17, LEAST)
"""Operator sets that are tried where the target itself cannot be reached, newest first."""

ANCHORS = {"Softmax", "Sqrt", "Erf", "Tanh", "Sigmoid", "Exp", "Sin", "Reciprocal", "Pow"}
"""Operators around which the recovering passes find what newer sets have operators for."""


@dataclass(frozen=True)
class RaiseOpset(Pass):
    """Convert to operator set `target` where the model has an older one.

    The high-level operators of a Transformer are `Attention`, `RMSNormalization` and
    `RotaryEmbedding` of operator set 23, `Gelu` of 20 and `LayerNormalization` of 17.

    Before:
        A model of operator set 9.
    After:
        The same model of operator set `target`, or of the newest one below it that can be
        reached; the report says which. Without a target it is 23 for models in which there may be
        something to recover, and 13 for others.
    Refuses when:
        ONNX's version converter has no adapter for an operator, to any newer operator set.
    Numerics:
        Rounding.
    """

    target: int | None = None

    name = "raise-opset"
    phase = Phase.RECOVER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Raise in place."""
        wanted = self.target or (LADDER[0] if _recoverable(model) else LEAST)
        opset = model.opset_imports.get("", wanted)
        if opset >= wanted:
            return Outcome()
        with tempfile.TemporaryDirectory() as folder:
            source, result = Path(folder) / "old.onnx", Path(folder) / "new.onnx"
            source.write_bytes(without_weights(model).SerializeToString())
            targets = (wanted, *(rung for rung in LADDER if opset < rung < wanted))
            reached = sandbox.call(
                CONVERT,
                {"source": str(source), "result": str(result), "targets": targets},
                Limits(context.limits.memory, min(60.0, context.limits.wall)),
            )
            adopt(model, onnx.load(result))
        target = int(reached["target"])
        model.opset_imports[""] = target
        opsets = [onnx.helper.make_opsetid("", target)]
        model.ir_version = max(model.ir_version, onnx.helper.find_min_ir_version_for(opsets, True))
        detail = f"operator set raised from {opset} to {target}"
        if target < wanted:
            detail += f"; {wanted} is out of reach: {reached['reason']}"
        return Outcome(1, detail=detail)


def _recoverable(model: ir.Model) -> bool:
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    return any(node.op_type in ANCHORS and node.domain == "" for node in nodes)
