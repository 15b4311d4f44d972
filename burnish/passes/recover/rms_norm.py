"""Root-mean-square normalizations, however they are spelled, become `RMSNormalization`."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.norms.writer import write_normalizations
from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase


@dataclass(frozen=True)
class RmsNorm(Pass):
    """Write a root-mean-square normalization over the last axes as one operator.

    It is found from the root of a mean square: what is divided by the root of its own.

    Before:
        `y = x * Reciprocal(Sqrt(ReduceMean(x * x) + epsilon)) * scale`; `Pow(x, 2)`, sums divided
        by the size, divisions, powers of -0.5, the scale before, after or missing, a scale of
        `1 + weight`; all or some of it in float32 between casts.
    After:
        `RMSNormalization(x, scale)`. A scale that is missing is one of ones. A cast to float32
        before and back after goes where the scale comes after it, and stays otherwise.
    Refuses when:
        The mean is not over the last axes; epsilon is no constant, is added outside of the root,
        or bounds the mean square; the root divides something else than what was squared.
        The model's operator set is older than 23. A scale that differs between tokens stays
        outside, as `Mul`; so does a bias, as `Add`.
    Numerics:
        Rounding. What half types computed by themselves is computed in float32.
    """

    name = "rms-norm"
    phase = Phase.RECOVER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        return write_normalizations(model, "RMSNormalization")
