"""What the recover phase makes of a model: run in memory, and told as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from burnish.optimizer.analysis.anchors.flow import operands
from burnish.optimizer.analysis.architecture.sources import SELF, Sources
from burnish.optimizer.analysis.chunks import Chunks, window_of
from burnish.optimizer.analysis.costs.attentions import GEOMETRIES, describe, geometry
from burnish.optimizer.analysis.costs.plain import describe_chunks, describe_plain, mask_of
from burnish.optimizer.analysis.costs.products import Cost
from burnish.optimizer.analysis.costs.scores import LENGTHS, scores
from burnish.optimizer.analysis.costs.sight import sight_of
from burnish.optimizer.analysis.costs.work import Places
from burnish.optimizer.analysis.masks import Masks
from burnish.optimizer.analysis.masks.reach import reach_of
from burnish.optimizer.analysis.matching import optional
from burnish.optimizer.contract import Phase
from burnish.optimizer.pipeline import Compiled
from burnish.optimizer.roles import Slot


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


@dataclass(frozen=True)
class Recovered:
    """The model after the phase `recover`, and what is read from it more than once.

    Attributes:
        shapes: of its values by name, at the sizes that timing uses.
        sizes: those, by symbolic dimension.
    """

    model: ir.Model
    places: Places
    shapes: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int]

    @property
    def flow(self) -> Flow:
        """What its values are made of."""
        return self.places.flow

    @classmethod
    def of(cls, compiled: Compiled, sizes: Mapping[str, int]) -> Recovered:
        """What came of a compilation."""
        model = recovered_model(compiled)
        return cls(model, Places(model), shapes.infer(model, sizes), sizes)

    def layer(self, node: ir.Node) -> int | None:
        """The layer of an attention."""
        return self.places.of(Cost(node, None))[0]


def attentions(recovered: Recovered, slots: Sequence[Slot]) -> list[dict[str, Any]]:
    """The attentions that are recognized after recovery, as one operator or as several."""
    model, flow, known = recovered.model, recovered.flow, recovered.shapes
    sizes = recovered.sizes
    anchors = {anchor.node: anchor for anchor in attention_anchors(flow)}
    sources = Sources(flow, model.graph.inputs, slots)
    told = []
    masks = Masks()
    gallery = Gallery(model, sizes, known, masks)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        query, key = optional(node, 0), optional(node, 1)
        if (node.domain, node.op_type) in GEOMETRIES:
            seen = sight_of(node, known, masks).as_json()
            facts = describe(node, known, masks) | seen | _memory(node, known, masks)
            picture = gallery.of_operator(node)
        elif node not in anchors:
            continue
        elif anchors[node].is_region:
            facts = describe_plain(anchors[node], flow, known, masks)
            picture = gallery.of_value(mask_of(anchors[node], flow))
            factors = [operands(item) for item in flow.products_behind(query)]
            query, key = (*factors[0], None)[:2] if factors else (None, None)
        elif isinstance(window := window_of(model, anchors[node], flow), Chunks):
            facts = describe_chunks(anchors[node], window)
            picture = gallery.of_chunks(window)
            key = query
        else:
            continue
        apart = node.op_type not in ("Attention", "QAttention") or not node.domain
        kind = sources.kind(query, key) if apart and key is not None else SELF
        facts |= {"layer": recovered.layer(node), "source": kind, "picture": picture}
        told.append(facts)
    return told
