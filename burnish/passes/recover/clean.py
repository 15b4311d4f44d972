"""What no output needs, what is computed twice, and what does nothing, goes."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    IdentityEliminationPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedFunctionsPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)

from burnish.optimizer.contract import EXACT, Context, Outcome, Pass, Phase
from burnish.optimizer.model import count_nodes

DEDUPLICATE_UP_TO = 1 << 20
"""Elements of the largest initializer that is compared with others."""


@dataclass(frozen=True)
class Clean(Pass):
    """Remove dead code, common subexpressions, identities and unused functions.

    Before:
        `a = Shape(x)`, `b = Shape(x)`, `y = Identity(z)`, a branch that no output needs.
    After:
        One `Shape(x)`; `z` in place of `y`; the branch is gone.
    Refuses when:
        Never; random and stateful operators are not common subexpressions.
    Numerics:
        Exact; no arithmetic changes.
    """

    name = "clean"
    phase = Phase.RECOVER
    promise = EXACT

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Clean in place until nothing changes."""
        before, modified = count_nodes(model), False
        steps = (
            LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            IdentityEliminationPass(),
            DeduplicateInitializersPass(size_limit=DEDUPLICATE_UP_TO),
            CommonSubexpressionEliminationPass(),
            RemoveUnusedNodesPass(),
            RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
            RemoveUnusedOpsetsPass(),
        )
        for step in steps:
            modified |= step(model).modified
        removed = before - count_nodes(model)
        return Outcome(max(removed, int(modified)), detail=f"{removed} nodes fewer")
