"""Which values float16 can hold, by what they were on the feeds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import UNBOUNDED, Observation

LARGEST = 65504.0
"""Of float16."""

MARGIN = 8.0
"""How many times larger than on the feeds a value may become before it overflows."""

SMALLEST = 6.2e-5
"""Below which numbers lose bits."""

RULED_OUT = -30000.0
"""Stands in masks for what is ruled out: far below any score, and above where sums overflow."""


def too_wide(value: ir.Value, seen: Mapping[str, Observation]) -> str:
    """Why float16 cannot hold a computed value, in words; empty where it can, or nobody saw it."""
    found = seen.get(value.name or "")
    if found is None:
        return ""
    bounds = np.stack([found.least, found.largest]).astype(np.float64)
    peak = float(np.abs(bounds).max(initial=0.0))
    if not np.isfinite(peak):
        return "it is infinite, or no number, on the feeds"
    if peak * MARGIN > LARGEST:
        return f"values up to {peak:.3g} come near the largest number of float16"
    if 0.0 < peak < SMALLEST:
        return f"its values are at most {peak:.3g}, where float16 has few bits"
    return ""


def does_not_fit(tensor: ir.TensorProtocol) -> str:
    """Why float16 cannot hold a constant, in words; empty where it can."""
    sizes = np.abs(tensor.numpy().astype(np.float32))
    peak = float(sizes.max(initial=0.0))
    if not np.isfinite(peak) or peak > LARGEST:
        return f"its constant reaches {peak:.3g}"
    if 0.0 < peak < SMALLEST:
        return f"its constant is at most {peak:.3g}, where float16 has few bits"
    return ""


def rules_out(value: ir.Value, seen: Mapping[str, Observation]) -> bool:
    """Whether a value holds numbers that stand for minus infinity, as additive masks do."""
    if value.const_value is not None:
        least = float(value.const_value.numpy().min(initial=0.0))
    else:
        found = seen.get(value.name or "")
        least = float(np.min(found.least, initial=0.0)) if found is not None else -np.inf
    return least < -LARGEST or least <= -UNBOUNDED
