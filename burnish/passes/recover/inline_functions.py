"""Model-local functions become plain nodes, so that later passes see one graph."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, RemoveUnusedFunctionsPass

from burnish.optimizer.contract import EXACT, Context, Outcome, Pass, Phase


@dataclass(frozen=True)
class InlineFunctions(Pass):
    """Replace calls of model-local functions by their bodies.

    Before:
        `y = local.Layer(x, w)` with `Layer` among the model's functions.
    After:
        The nodes of `Layer`, with the call's values for its parameters; no functions left.
    Refuses when:
        Never: admission has excluded functions that call themselves.
    Numerics:
        Exact; the same operators run on the same values.
    """

    name = "inline-functions"
    phase = Phase.RECOVER
    promise = EXACT

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Inline every function of `model`."""
        count = len(model.functions)
        if not count:
            return Outcome()
        InlinePass()(model)
        RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
        return Outcome(count, detail=f"inlined {count} functions")
