"""What is left of a compilation whose result is slower than the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from burnish.optimizer import pipeline
from burnish.optimizer.contract import Pass
from burnish.optimizer.pipeline import Compiled
from burnish.passes.recover.clean import Clean
from burnish.passes.recover.fold_constants import FoldConstants
from burnish.passes.recover.inline_functions import InlineFunctions

NEEDED: tuple[type[Pass], ...] = (InlineFunctions, FoldConstants, Clean)
"""What passes that last need before them."""


def lasts(compiled: Compiled) -> bool:
    """Whether a pass was asked for that stays where the model is slower with it."""
    return any(step.transform.lasting for step in compiled.kept)


def reduced(
    compiled: Compiled, reason: str, again: Callable[[Sequence[Pass]], Compiled]
) -> Compiled:
    """The compilation with every step taken back but those that last.

    Args:
        compiled: what was done.
        reason: why it is taken back.
        again: runs passes on the input model.
    """
    back = pipeline.undone(compiled, reason)
    if not lasts(compiled):
        return back
    lasting = [step.transform for step in compiled.kept if step.transform.lasting]
    alone = again([*(kind() for kind in NEEDED), *lasting])
    steps = tuple(step for step in back.steps if not step.transform.lasting)
    snapshots = (back.model,) * len(steps) + alone.snapshots
    return Compiled(alone.model, steps + alone.steps, snapshots)


def kept(speedup: float, forced: bool) -> str:
    """What is said of a model that is slower than the input, and is written all the same."""
    why = "by --force" if forced else "for its size"
    return f"the model is slower than before ({speedup:.2f} times), and kept {why}"
