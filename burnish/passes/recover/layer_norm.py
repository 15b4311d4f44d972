"""Layer normalizations, however they are spelled, become `LayerNormalization`."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.norms.writer import write_normalizations
from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase


@dataclass(frozen=True)
class LayerNorm(Pass):
    """Write a layer normalization over the last axes as one operator.

    It is found from the root of a variance: what has its own mean subtracted and is divided by
    that root, with scale and bias before or after, in either order of operands, or without them.

    Before:
        `m = ReduceMean(x)`, `d = x - m`, `y = d / Sqrt(ReduceMean(d * d) + epsilon)`, then
        `y * scale + bias`; `Pow(d, 2)`, sums divided by the size, `ReduceMean(x * x) - m * m`,
        powers of -0.5, and `x * i + (bias - m * i)` with `i` the inverse root times the scale.
    After:
        `LayerNormalization(x, scale, bias)`. A scale that is missing is one of ones. A cast to
        float32 before and back after goes where scale and bias come after it, and stays otherwise.
    Refuses when:
        The variance is not over the last axes, divides by one less than the size, or its epsilon
        is no constant or is added outside of the root; what the root divides is not `x - m`.
        The model's operator set is older than 17. A scale or a bias that differs between tokens
        stays outside, as `Mul` or `Add`.
    Numerics:
        Rounding. What half types computed by themselves is computed in float32. Where
        `ReduceMean(x * x) - m * m` loses digits, for means above 15 standard deviations, the
        operator does not, and differs from it by more than its promise: it is then taken back.
    """

    name = "layer-norm"
    phase = Phase.RECOVER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        return write_normalizations(model, "LayerNormalization")
