"""How much memory a compilation may need, from the sizes of its files.

The figure is its limit as well as what the budget is charged with, so that all that runs side by
side stays within the budget, and so that the same model has the same limit whatever else is in the
zoo: what a compilation does depends on it.
"""

from __future__ import annotations

from burnish.driver.request import Request
from burnish.driver.workbench import TIMING_BYTES, WHOLE_MODEL_FACTOR
from burnish.driver.zoo.survey import Facts
from burnish.runtimes.providers import AUTO

BASE = 1_000_000_000
"""Interpreters and libraries: small models peak at 0.23 GB where they are not run, and at 0.55 GB
where they are timed (`benchmarks/zoo/tables.md`); a limit counts what is reserved as well."""

EXPORT_BASE = 1_500_000_000
"""Likewise with torch and transformers, which export a checkpoint: 0.4 GB for a small one."""

EXPORT_FACTOR = 5
"""Memory to export a checkpoint and hold it to PyTorch, in multiples of its weights."""

STREAMED = 0.25
"""The same of a model that is not run: its weights are mapped, and written one by one. The README's
decoder of 4.4 GB took 0.6 GB, most of it for the interpreters."""

CONTENDERS = 2
"""Models alive at once, besides the usual ones, where several compilations are compared."""


def needed(request: Request, facts: Facts) -> int:
    """Bytes of memory that a compilation is given: the user's limit, else an estimate."""
    if request.memory_limit:
        return request.memory_limit
    weights: int = facts["weights"]
    # A model that does not fit WHOLE_MODEL_FACTOR times is neither compared nor timed as a whole.
    whole = request.check or (request.measure and weights <= TIMING_BYTES)
    factor: float = WHOLE_MODEL_FACTOR if whole else STREAMED
    if request.auto_precision or request.provider == AUTO:
        factor += CONTENDERS * factor
    base = BASE
    if facts["checkpoint"]:
        base, factor = EXPORT_BASE, max(factor, EXPORT_FACTOR)
    return int(base + factor * weights)
