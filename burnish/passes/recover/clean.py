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
from burnish.optimizer.regions import identical

DEDUPLICATE_UP_TO = 1 << 20
"""Elements of the largest initializer that is compared with others."""


GUARD = "Identity of an output"
"""Stands for Identity where the libraries must not see one."""


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
        before, original = count_nodes(model), model.clone()
        steps = (
            LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            IdentityEliminationPass(),
            DeduplicateInitializersPass(size_limit=DEDUPLICATE_UP_TO),
            CommonSubexpressionEliminationPass(),
            RemoveUnusedNodesPass(),
            RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
            RemoveUnusedOpsetsPass(),
        )
        guards = _guard_outputs(model)
        for step in steps:
            step(model)
        _drop(guards)
        removed = before - count_nodes(model)
        # The libraries' own word for whether anything changed is not always true.
        done = 0 if identical(original, model) else max(removed, 1)
        return Outcome(done, detail=f"{removed} nodes fewer")


def _guard_outputs(model: ir.Model) -> list[ir.Node]:
    """Put an operator between outputs that are the same value, which only an Identity separates.

    To drop that Identity would give one value two names, of which one output would lose its own.
    """
    guards = []
    for value in model.graph.outputs:
        node = value.producer()
        if node is None or node.op_type != "Identity":
            continue
        source = node.inputs[0]
        if source is not None and (source.is_graph_output() or source.is_graph_input()):
            node.op_type = GUARD
            guards.append(node)
    return guards


def _drop(guards: list[ir.Node]) -> None:
    for node in guards:
        node.op_type = "Identity"
