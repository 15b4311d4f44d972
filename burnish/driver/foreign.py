"""An artifact in another runtime than the one that gave the reference.

What the passes did has been checked in ONNX Runtime. What another runtime makes of the file is
compared more strictly than the budget does, which looks at directions and first choices: kernels
that overflow, or compute in a shorter type, can leave those as they are.
"""

from __future__ import annotations

import math
from dataclasses import replace

import onnx_ir as ir

from burnish.driver.net import NOTICEABLE
from burnish.optimizer.contract import LOSSY, Kind
from burnish.optimizer.fidelity import Fidelity
from burnish.optimizer.model import initializers
from burnish.optimizer.pipeline import Compiled
from burnish.runtimes.providers import PROVIDERS, REFERENCE

SHORT = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}

ROUNDED = 2e-2
"""Relative L2 error that outputs may have where the model itself computes in short types."""


def is_foreign(provider: str) -> bool:
    """Whether a provider's runtime is another than the reference's."""
    return PROVIDERS[provider].runtime != PROVIDERS[REFERENCE].runtime


def held(found: Fidelity, compiled: Compiled) -> Fidelity:
    """The fidelity, its loss that of the worst output where that is further off than roundings.

    The limit on the relative L2 error of an output is `NOTICEABLE` (what bfloat16 loses is above
    it), `ROUNDED` for models in short types, and that of a lossy pass where one was kept.
    """
    limit = NOTICEABLE
    if any(value.dtype in SHORT for value in initializers(compiled.model)):
        limit = ROUNDED
    if any(step.transform.promise.kind is Kind.LOSSY for step in compiled.kept):
        limit = LOSSY.rel_l2
    # Integers are equal or not; the loss counts how many are.
    errors = {
        name: item.rel_l2
        for name, item in found.outputs.items()
        if item.max_abs > 0 or math.isnan(item.rel_l2)
    }
    name = max(errors, key=lambda name: errors[name], default="")
    if not name or errors[name] <= limit:
        return found
    drop = max(found.drop, min(1.0, errors[name]))
    return replace(found, drop=drop, metric=f"relative L2 error of {name}")
