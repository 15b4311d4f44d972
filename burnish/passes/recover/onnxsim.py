"""onnxsim on the graph without its large weights, in a child of its own."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from burnish.optimizer import sandbox
from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase
from burnish.optimizer.model import adopt, count_nodes, without_weights
from burnish.optimizer.sandbox import Limits

SIMPLIFY = "burnish.optimizer.libraries:simplify"

SECONDS = 120.0
"""Wall time after which the library is given up on."""

FUSIONS = ("fuse_rope", "fuse_attention", "fuse_gqa", "fuse_rms_norm")
"""Steps of the library that are left out: passes of ours do it with proof.

Its `fuse_rope` (0.8.1) gives `RotaryEmbedding` tables of one row whatever the batch is, which ONNX
Runtime refuses for more than one.
"""


@dataclass(frozen=True)
class Onnxsim(Pass):
    """Simplify with onnxsim.

    Before:
        Shape arithmetic, foldable constants and identities as the exporter left them.
    After:
        What onnxsim leaves, weights untouched: tensors above `weights_above` bytes are graph
        inputs while the library looks at the graph, so neither size nor folding can grow it.
    Refuses when:
        The library raises, crashes or runs into its limits; the run goes on without it.
    Numerics:
        Rounding: folded constants come from the library's kernels.
    """

    weights_above: int = 1024

    name = "onnxsim"
    phase = Phase.RECOVER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Replace the graph of `model` by the simplified one."""
        before = count_nodes(model)
        light = without_weights(model, self.weights_above)
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "light.onnx", Path(folder) / "simple.onnx"
            source.write_bytes(light.SerializeToString())
            sandbox.call(
                SIMPLIFY,
                {"source": str(source), "target": str(target), "skipped": FUSIONS},
                Limits(context.limits.memory, min(SECONDS, context.limits.wall)),
            )
            simple = onnx.load(target)
        if len(simple.graph.node) >= len(light.graph.node):
            return Outcome()
        adopt(model, simple)
        removed = before - count_nodes(model)
        return Outcome(max(removed, 1), detail=f"{removed} nodes fewer")
