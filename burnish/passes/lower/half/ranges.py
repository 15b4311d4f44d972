"""The short types, and which values they can hold, by what those were on the feeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import UNBOUNDED, Observation

MARGIN = 8.0
"""How many times larger than on the feeds a value may become before it overflows."""


@dataclass(frozen=True)
class Short:
    """A floating point type of two bytes.

    Attributes:
        largest: of its numbers.
        smallest: below which numbers lose bits.
        ruled_out: stands in masks for what is ruled out: far below any score, and above where
            sums overflow.
    """

    name: str
    dtype: ir.DataType
    largest: float
    smallest: float
    ruled_out: float

    def too_wide(self, value: ir.Value, seen: Mapping[str, Observation]) -> str:
        """Why it cannot hold a computed value; empty where it can, or nobody saw the value."""
        found = seen.get(value.name or "")
        if found is None:
            return ""
        bounds = np.stack([found.least, found.largest]).astype(np.float64)
        peak = float(np.abs(bounds).max(initial=0.0))
        if not np.isfinite(peak):
            return "it is infinite, or no number, on the feeds"
        if peak * MARGIN > self.largest:
            return f"values up to {peak:.3g} come near the largest number of {self.name}"
        if 0.0 < peak < self.smallest:
            return f"its values are at most {peak:.3g}, where {self.name} has few bits"
        return ""

    def does_not_fit(self, tensor: ir.TensorProtocol) -> str:
        """Why it cannot hold a constant, in words; empty where it can."""
        sizes = np.abs(tensor.numpy().astype(np.float32))
        peak = float(sizes.max(initial=0.0))
        if not np.isfinite(peak) or peak > self.largest:
            return f"its constant reaches {peak:.3g}"
        if 0.0 < peak < self.smallest:
            return f"its constant is at most {peak:.3g}, where {self.name} has few bits"
        return ""

    def rules_out(self, value: ir.Value, seen: Mapping[str, Observation]) -> bool:
        """Whether a value holds numbers that stand for minus infinity, as additive masks do."""
        if value.const_value is not None:
            least = float(value.const_value.numpy().min(initial=0.0))
        else:
            found = seen.get(value.name or "")
            least = float(np.min(found.least, initial=0.0)) if found is not None else -np.inf
        return least < -self.largest or least <= -UNBOUNDED


SHORTS = {
    item.name: item
    for item in (
        Short("float16", ir.DataType.FLOAT16, 65504.0, 6.2e-5, -30000.0),
        Short("bfloat16", ir.DataType.BFLOAT16, 3.3895313892515355e38, 2.0**-126, -1e38),
    )
}
"""By name. The lowest number of float32, which masks hold, is none of bfloat16."""
