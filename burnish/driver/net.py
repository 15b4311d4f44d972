"""The net below the checks of single passes: the answer of the whole model.

Each pass has been checked where it changed something. What slips through there is found here,
named, and taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import onnx_ir as ir

from burnish.driver.candidate import Candidate
from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.fidelity import Fidelity
from burnish.optimizer.pipeline import Compiled

NOTICEABLE = 1e-3
"""Loss of the whole that passes without a right to any must not reach."""


def tolerated(max_drop: float) -> float:
    """The loss of a whole model that its budget allows, or that nobody notices."""
    return max(max_drop, NOTICEABLE)


class Net:
    """Finds the passes that change the answer of the whole though they promise not to.

    Args:
        original: the input model.
        judged: stages what was compiled and compares it with the original.
        without: does a compilation again without one of its steps, for a reason.
        runtime: what runs the artifact.
        warnings: take what no pass is to blame for.
    """

    def __init__(
        self,
        original: ir.Model,
        judged: Callable[[Compiled], Candidate],
        without: Callable[[Compiled, int, str], Compiled],
        runtime: str,
        warnings: list[str],
    ) -> None:
        self._original = original
        self._judged = judged
        self._without = without
        self._runtime = runtime
        self._warnings = warnings

    def sound(self, candidate: Candidate, max_drop: float) -> Candidate:
        """The candidate without such passes; `max_drop` is what lossy ones may spend."""
        limit = tolerated(max_drop)
        while candidate.fidelity is not None and candidate.fidelity.drop > limit:
            compiled, drop = candidate.compiled, candidate.fidelity.drop
            if self._after(compiled, None).drop > limit:
                return self._blame_runtime(compiled)
            kept = [i for i, step in enumerate(compiled.steps) if step.status == "kept"]
            tried = ((i, self._after(compiled, i)) for i in kept)
            guilty, found = next((i, found) for i, found in tried if found.drop > limit)
            # Without outputs it did not run, and the metric says why.
            changed = f"the answer of the whole model changes with it (loss {drop:.3g})"
            reason = changed if found.outputs else found.metric
            candidate = self._judged(self._without(compiled, guilty, reason))
        return candidate

    def _after(self, compiled: Compiled, index: int | None) -> Fidelity:
        """That of the model after a step; of the input model where that is None."""
        models = [*compiled.snapshots[1:], compiled.model]
        model = self._original if index is None else models[index]
        found = self._judged(replace(compiled, model=model)).fidelity
        return found if found is not None else Fidelity({}, 0.0, "")

    def _blame_runtime(self, compiled: Compiled) -> Candidate:
        """The runtime's own optimizer changes the input model's answer, or does not run it."""
        candidate = self._judged(compiled)
        assert candidate.fidelity is not None
        if not candidate.fidelity.outputs:
            raise UnsupportedModel(candidate.fidelity.metric)
        self._warnings.append(
            f"{self._runtime}'s own optimizations change the answers of the input model"
        )
        return candidate
