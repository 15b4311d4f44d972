"""An attention within the windows of an image, whose mask is the same for each image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.repeated import repeated
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.contract import Array
from burnish.optimizer.forms import FUSED
from burnish.passes.lower.attention.bias import Masks
from burnish.passes.lower.attention.site import Results, Site
from burnish.passes.lower.attention.writer import Writer


def windows_of(mask: ir.Value | None, sizes: Sizes) -> Array | None:
    """The constant [windows, heads or 1, queries, keys] that a mask repeats for each image.

    None where it is another one, or there is but one window.
    """
    found = repeated(mask, sizes)
    if found is None or found.array.dtype != np.float32 or not np.isfinite(found.array).all():
        return None
    whole = found.array
    if whole.ndim != 4 or len(whole) < 2 or not found.slabs.open:
        return None
    return whole if (whole != whole[:, :1]).any() else whole[:, :1]


@dataclass(frozen=True)
class Windows:
    """`Softmax(FusedMatMul(q, k) + mask) @ v` with an axis over the windows of an image.

    A mask that is the same for each image is added as the constant [windows, heads, n, n] that it
    is, and never repeated for the images.
    """

    name: str = "products by windows"
    providers: tuple[str, ...] = ("cpu", "cuda", "openvino")

    def refusal(self, site: Site) -> str:
        facts = site.facts
        if site.windows is None:
            return "its mask is not a constant for the windows of an image"
        if site.past is not None or facts.kept or facts.cap or facts.causal:
            return "it is no attention within windows"
        return "" if facts.groups == facts.heads else "its heads share keys and values"

    def build(self, writer: Writer, masks: Masks, site: Site) -> Results:
        facts, node, mask = site.facts, site.node, site.windows
        assert mask is not None
        operands: list[ir.Value | None] = list(node.inputs[:3])
        if facts.flat:
            operands = [writer.apart(node, item, facts.heads) for item in operands]
        query, key, value = operands
        scores = writer.node(node, "FusedMatMul", [query, key], FUSED, transB=1, alpha=facts.scale)
        rows, keys = mask.shape[-2:]
        apart = writer.integers(-1, len(mask), facts.heads, rows, keys)
        scores = writer.node(node, "Reshape", [scores, apart])
        scores = writer.node(node, "Add", [scores, writer.constant("windows", mask)])
        weights = writer.node(node, "Softmax", [scores], axis=-1)
        together = writer.integers(-1, facts.heads, rows, keys)
        weights = writer.node(node, "Reshape", [weights, together])
        result = writer.node(node, "MatMul", [weights, value])
        if facts.flat:
            result = writer.together(node, result, facts.heads * facts.value_size)
        return Results(result, facts.flat)
