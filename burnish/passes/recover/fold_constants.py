"""onnxscript's constant folder, with a bound on what folding may add."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
import onnxscript.optimizer

from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase
from burnish.optimizer.model import count_nodes, weight_bytes

LARGEST_INPUT = 16 << 10
"""Elements of the largest constant that is computed on."""

LARGEST_OUTPUT = 64 << 10
"""Elements of the largest constant that folding may create."""


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Compute now what depends on constants only.

    Before:
        `Reshape(x, Concat(Constant, Constant))`, `Unsqueeze(Constant)`, dead branches of `If`.
    After:
        The constants themselves.
    Refuses when:
        An operand has more than 16,384 elements or a result more than 65,536. The file grows by
        no more than `growth` bytes in all; past that the whole folding is undone.
    Numerics:
        Rounding: constants come from the ONNX reference implementation.
    """

    growth: int = 1 << 20

    name = "fold-constants"
    phase = Phase.RECOVER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Fold in place."""
        nodes, size = count_nodes(model), weight_bytes(model)
        ports = [(v, v.type, v.shape) for v in (*model.graph.inputs, *model.graph.outputs)]
        result = onnxscript.optimizer.fold_constants(
            model, input_size_limit=LARGEST_INPUT, output_size_limit=LARGEST_OUTPUT
        )
        for value, kind, shape in ports:
            value.type, value.shape = kind, shape
        if weight_bytes(model) - size > self.growth:
            raise ValueError(f"folding would add more than {self.growth} bytes")
        removed = nodes - count_nodes(model)
        return Outcome(max(removed, int(bool(result.modified))), detail=f"{removed} nodes fewer")
