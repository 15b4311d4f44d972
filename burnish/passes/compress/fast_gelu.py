"""GELU by the tanh formula where the user asks for it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.shapes.concrete import Axes, Concrete, text
from burnish.optimizer.contract import LOSSY, Choice, Context, Outcome, Pass, Phase
from burnish.optimizer.forms import AS_IT_IS, FUSED, Tally
from burnish.optimizer.samples import Sample

FORM = "the tanh formula"


@dataclass(frozen=True)
class FastGelu(Pass):
    """Compute GELU by the tanh formula, which is another function.

    It runs where the user asks for it (`--fast-gelu`). A model that has the tanh form itself needs
    no asking: `activation-form` chooses its kernel.

    Before:
        `Gelu(x)`.
    After:
        `Gelu<approximate = "tanh">(x)`.
    Refuses when:
        There is no `Gelu` of the exact form, or the kernel of the formula is measured no faster.
    Numerics:
        Lossy: the two differ by up to 4.8e-4 in absolute terms, where x is about 2.7.
    """

    name = "fast-gelu"
    phase = Phase.COMPRESS
    promise = LOSSY
    asked = True

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        found = [
            node
            for node in ir.traversal.RecursiveGraphIterator(model.graph)
            if node.op_type == "Gelu"
            and node.domain == ""
            and node.attributes.get_string("approximate", "none") == "none"
        ]
        if not found:
            return Outcome(detail="it has no exact GELU")
        shapes.annotate(model)
        sizes, tally = Concrete(model, context), Tally("activations")
        opset = model.opset_imports[""]
        for node in found:
            axes = sizes.axes(node.inputs[0])
            if tally.takes(node, _choose(axes, opset, context)):
                node.attributes["approximate"] = ir.AttrString("approximate", "tanh")
        return tally.outcome(model)


def _choose(axes: Axes | None, opset: int, context: Context) -> Choice:
    if axes is None:
        return Choice(FORM, 1.0, measured=False)
    samples: dict[str, Callable[[], onnx.ModelProto]] = {
        form: functools.partial(_sample, axes, opset, form) for form in (AS_IT_IS, FORM)
    }
    return context.choose(f"fast-gelu {text(axes)}", samples, FORM)


def _sample(axes: Axes, opset: int, form: str) -> onnx.ModelProto:
    sample = Sample(opset)
    source = sample.port("x", axes)
    if form == AS_IT_IS:
        return ir.to_proto(sample.model(sample.node("Gelu", source)))
    return ir.to_proto(sample.model(sample.node("FastGelu", source, domain=FUSED)))
