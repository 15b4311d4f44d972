"""What a model is made of, told by marks that any spelling leaves: see each kind's module.

An attention has a softmax, a normalization a mean of squares under a root, a gelu an Erf or a Tanh
of a cubic, whatever lies around them. No pass has a part in this, so that what passes have found
can be held against it.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from burnish.optimizer.analysis.anchors.activation import activations
from burnish.optimizer.analysis.anchors.attention import attentions
from burnish.optimizer.analysis.anchors.flow import Anchor, Flow
from burnish.optimizer.analysis.anchors.linear import linears
from burnish.optimizer.analysis.anchors.normalization import normalizations
from burnish.optimizer.analysis.anchors.rotary import rotaries

__all__ = ["KINDS", "Anchor", "Flow", "attentions", "find_anchors"]

KINDS = {
    "attention": attentions,
    "normalization": normalizations,
    "activation": activations,
    "rotary": rotaries,
    "linear": linears,
}


def find_anchors(model: ir.Model) -> dict[str, list[Anchor]]:
    """The anchors of a model and its subgraphs by kind, in order; linear in the number of nodes.

    Functions that cannot be inlined, of another operator set than the model, stay calls: what they
    do is not counted.
    """
    flow = Flow(_inlined(model) if model.functions else model)
    return {kind: list(find(flow)) for kind, find in KINDS.items()}


def _inlined(model: ir.Model) -> ir.Model:
    copy = model.clone()
    try:
        InlinePass()(copy)
    except Exception:  # the library wraps, or not, whatever it meets
        return model
    return copy
