"""What the recover phase makes of a model: run in memory, and told as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from burnish.driver.pictures import Gallery
from burnish.driver.plan import passes_for
from burnish.driver.workbench import Workbench
from burnish.optimizer import pipeline, tuner
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.account import account, recovered_model
from burnish.optimizer.analysis.anchors import Flow
from burnish.optimizer.analysis.anchors import attentions as attention_anchors
from burnish.optimizer.analysis.chunks import Chunks, window_of
from burnish.optimizer.analysis.costs.attentions import GEOMETRIES, describe, geometry
from burnish.optimizer.analysis.costs.plain import describe_chunks, describe_plain, mask_of
from burnish.optimizer.analysis.costs.scores import LENGTHS, scores
from burnish.optimizer.analysis.masks import Masks
from burnish.optimizer.analysis.masks.reach import reach_of
from burnish.optimizer.analysis.matching import optional
from burnish.optimizer.contract import Phase
from burnish.optimizer.pipeline import Compiled


def recover(bench: Workbench) -> Compiled:
    """The model after the passes that recover, on trust: nothing is run, nothing is written.

    Weights are shared with the model as it is mapped, and never read for this.
    """
    passes = [item for item in passes_for(bench.request) if item.phase is Phase.RECOVER]
    context = bench.context(tuner.Tuner(None, bench.executor, None, ""))
    return pipeline.run(bench.loaded.model, passes, context, check=None)


def facts(compiled: Compiled) -> dict[str, Any]:
    """Expected, found and missed by kind, as the report shows them."""
    return {kind: count.as_json() for kind, count in account(compiled).items()}


def _memory(
    node: ir.Node, known: Mapping[str, tuple[int, ...]], masks: Masks
) -> dict[str, dict[str, dict[str, int]]]:
    """Bytes of an attention's scores by length and form."""
    found = geometry(node, known)
    if found is None or not found.heads:
        return {"memory": {}}
    mask = optional(node, 3) if node.domain == "" else None
    reach = reach_of(masks.of(mask))[0] if mask is not None else None
    width = reach.width + reach.sinks if reach is not None else None
    return {"memory": {str(length): scores(found.heads, length, width) for length in LENGTHS}}


def attentions(compiled: Compiled, sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """The attentions that are recognized after recovery, as one operator or as several."""
    model = recovered_model(compiled)
    flow = Flow(model)
    anchors = {anchor.node: anchor for anchor in attention_anchors(flow)}
    told = []
    gallery: Gallery | None = None
    known: dict[str, tuple[int, ...]] = {}
    masks = Masks()
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        single = (node.domain, node.op_type) in GEOMETRIES
        if not single and node not in anchors:
            continue
        if gallery is None:
            known = shapes.infer(model, sizes)
            gallery = Gallery(model, sizes, known, masks)
        if single:
            facts = describe(node, known, masks) | _memory(node, known, masks)
            told.append(facts | {"picture": gallery.of_operator(node)})
        elif anchors[node].is_region:
            picture = gallery.of_value(mask_of(anchors[node], flow))
            told.append(describe_plain(anchors[node], flow, known, masks) | {"picture": picture})
        elif isinstance(window := window_of(model, anchors[node], flow), Chunks):
            picture = gallery.of_chunks(window)
            told.append(describe_chunks(anchors[node], window) | {"picture": picture})
    return told
