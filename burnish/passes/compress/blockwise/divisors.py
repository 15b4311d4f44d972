"""What activations are divided by before their weights are rounded in blocks; AWQ, see `smoothing`.

A block has one step for all of its rows, so that a row which meets large activations should be
large in it. How much larger is searched on the user's rows, as in AWQ (Lin et al., 2023,
arXiv:2306.00978), but not for rounding to the nearest alone: error feedback makes up for what
rounding does to channels that go together, as long as they go together as on those rows. So it is
the product of both errors that is made least. After error feedback, products on other sentences:

    exponent that is best for      MiniLM, 24 activations    a causal model, 20
    none                           0.0413                    0.0201
    rounding to the nearest        0.0405 to 0.0408          0.0209 to 0.0216
    error feedback                 0.0404                    0.0201
    both                           0.0402                    0.0201

MiniLM's embeddings of other sentences were off by 0.146, 0.139, 0.142 and 0.140 (relative L2, the
mean over two sets for calibration).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array
from burnish.passes.compress.blockwise.blocks import Layout, lost
from burnish.passes.compress.error_feedback import Feedback
from burnish.passes.compress.smoothing.search import (
    FloatArray,
    centred,
    columns_of,
    peaks_of,
    searched,
)

LEAST_GAIN = 1.02
"""Factor by which the error of the products must fall, as estimated by `divisor`."""

EXPONENTS = np.linspace(0.1, 1.0, 10)
"""How much of a channel's range goes into the weights."""

FEW_BITS = 4
"""Bits of weights that lose enough for a search."""


def divisor(
    rows: Array, members: Sequence[Product], layouts: Sequence[Layout], memo: dict[Hashable, Any]
) -> FloatArray | None:
    """The divisors [k] of the activation's channels, or None where they gain too little.

    They are `peaks ** exponent` over the channels, with the one of `EXPONENTS` whose errors of the
    products of the rows, to the nearest and after error feedback, are least as one.

    Args:
        rows: of the activation [rows, k].
        members: products of the activation.
        layouts: how each one's weight is stored.
        memo: see `contract.Context`.
    """
    if all(layout.bits > FEW_BITS for layout in layouts):
        return None
    tensors = [member.weight.const_value for member in members]
    key = ("divisor", id(rows), *zip(map(id, tensors), layouts, strict=True))
    if key not in memo:
        # What has those ids stays alive with what was found for it.
        memo[key] = rows, tensors, _searched(rows, members, layouts)
    found: FloatArray | None = memo[key][2]
    return found


def _searched(
    rows: Array, members: Sequence[Product], layouts: Sequence[Layout]
) -> FloatArray | None:
    peaks = peaks_of(rows.min(axis=0), rows.max(axis=0))
    if not (np.isfinite(rows).all() and peaks.any()):
        return None
    feedback, rows = Feedback(rows), rows.astype(np.float32)
    weights = [columns_of(member).astype(np.float32) for member in members]

    def error(divisors: Array) -> float:
        spread = divisors.astype(np.float32)[:, None]
        pairs = zip(weights, layouts, strict=True)
        errors = [lost(matrix * spread, layout) / spread for matrix, layout in pairs]
        nearest = sum(float(((rows @ item) ** 2).sum()) for item in errors)
        return float((nearest * sum(map(feedback.loss, errors))) ** 0.25)

    return searched((centred(peaks**exponent) for exponent in EXPONENTS), error, LEAST_GAIN)
