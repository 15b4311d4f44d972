"""Heads, hidden channels and layers are removed, and the weights around them make up for it."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from burnish.optimizer.activations import Activations
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.channels.sites import Site, find_sites
from burnish.optimizer.contract import (
    Context,
    Kind,
    Outcome,
    Pass,
    Phase,
    Promise,
    Refusal,
)
from burnish.optimizer.pruned import Pruned
from burnish.passes.compress.pruning.allocation import allocate
from burnish.passes.compress.pruning.biases import separate_biases
from burnish.passes.compress.pruning.costs import operations, times
from burnish.passes.compress.pruning.cutting import cut_site
from burnish.passes.compress.pruning.layers import WIDEST, put, writers_of
from burnish.passes.compress.pruning.levels import widths
from burnish.passes.compress.pruning.repair import Chosen, Repair, survey
from burnish.passes.compress.pruning.sensitivity import LARGEST, Curve, Probe, curves, probe

NO_DATA = "it needs the user's data: made-up inputs do not say what counts"
SURVEY = "survey of what may be pruned"
"""What keys of a memo begin with that hold curves."""

NO_SITE = "it has no heads or hidden channels between products with constant weights"


@dataclass(frozen=True)
class Prune(Pass):
    """Heads, hidden channels and whole branches that the answer depends on least go.

    It runs where the user asks for it (`--prune`).

    Before:
        `f(x @ up + b) @ down + c`, gated or not, merged or not; or an `Attention` between products.
    After:
        The same with fewer columns of `up`, rows of `down`, heads. Where none are left, what the
        layer behind gives in the mean is added, or nothing. Weights that stay make up for others.
    Refuses when:
        There is no data. Channels reach a port, or a node that mixes them; a weight has other
        readers; the layer is wider than 6144. Heads of keys that a cache holds stay.
    Numerics:
        Lossy, within the budget on the whole model. Widths are those with the least loss, measured
        for each site by itself, for the operations or the time that are left.
    """

    share: float | None = 0.3
    speedup: float | None = None
    repair: bool = True

    name = "prune"
    phase = Phase.RESTRUCTURE
    promise = Promise(Kind.LOSSY, 0.95)
    asked = True

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place; widths by `context.choose` where a speed-up is asked for."""
        activations = context.activations
        if activations is None:
            return Outcome(detail=NO_DATA)
        shapes.annotate(model)
        sites, refusals = usable(model)
        if not sites:
            return Outcome(0, tuple(refusals), detail=NO_SITE)
        before = model.clone()
        separate_biases(before)
        known = surveyed(before, context, activations)
        costs = {site.key: self._costs(site, context) for site in sites}
        losses = {site.key: known[site.key].losses for site in sites}
        whole = sum(items[0] for items in costs.values())
        picks = allocate(losses, costs, whole * self.left)
        chosen_widths = {
            site.key: len(known[site.key].levels[picks[site.key]].kept)
            for site in sites
            if picks[site.key]
        }
        if not chosen_widths:
            return Outcome(0, tuple(refusals), detail="all of it is left within what was asked for")
        separate_biases(model)
        sites = usable(model)[0]
        pairs = list(zip(usable(before)[0], sites, strict=True))
        course = Repair(activations, before, model, pairs, repair=self.repair)
        chosen = course.run(chosen_widths, activations.told)
        rows = tuple(_row(site, chosen, costs, context) for site in sites)
        cut_all(sites, chosen)
        ratio = whole / max(1e-12, sum(costs[key][index] for key, index in picks.items()))
        return Outcome(len(chosen), tuple(refusals), None, _told(rows, ratio), pruned=rows)

    @property
    def left(self) -> float:
        """The share of the cost that may be left."""
        if self.speedup is not None:
            return 1.0 / self.speedup
        return 1.0 - (self.share or 0.0)

    def _costs(self, site: Site, context: Context) -> Sequence[float]:
        """Of each width: times where a speed-up is asked for and measured, else operations."""
        measured = times(site, widths(site), context) if self.speedup is not None else None
        return measured or [operations(site, width, context) for width in widths(site)]


def usable(model: ir.Model) -> tuple[list[Site], list[Refusal]]:
    """The sites that can be pruned, and why others cannot be."""
    sites, refusals = find_sites(model)
    found = []
    for site in sites:
        widest = max(site.units * site.size, *(product.k for product in writers_of(site)), 1)
        if widest > WIDEST:
            refusals.append(Refusal(site.key, f"its layers are wider than {WIDEST} ({widest})"))
        elif len(widths(site)) < 2:
            refusals.append(Refusal(site.key, _why_whole(site)))
        else:
            found.append(site)
    return found, refusals


def _why_whole(site: Site) -> str:
    if site.keys_stay:
        return "a cache holds the keys of all its heads"
    return f"it has too few {site.kind} to lose any ({site.units})"


def surveyed(model: ir.Model, context: Context, activations: Activations) -> dict[str, Curve]:
    """What each site costs the answer at each width; found once for a model and its data."""
    sites = usable(model)[0]
    tensors = [product.weight.const_value for site in sites for product in site.readers]
    key = (SURVEY, *(site.key for site in sites), _digest(tensors))
    if key not in context.memo:
        bytes_ = sum(tensor.nbytes for tensor in tensors if tensor is not None)
        course = activations.course(model)
        probes: list[Probe] = []
        for number, site in enumerate(sites, start=1):
            activations.told(f"what may go, {number} of {len(sites)}")
            layer = survey(course, model, site)
            probes.append(probe(site, layer, activations, tried=bytes_ <= LARGEST))
        course.end()
        found = curves(model, probes, activations, activations.told)
        context.memo[key] = found
    result: dict[str, Curve] = context.memo[key]
    return result


def surveys(memo: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
    """What `surveyed` has found, for another compilation of the same model on the same data."""
    return {
        key: found for key, found in memo.items() if isinstance(key, tuple) and key[:1] == (SURVEY,)
    }


def _digest(tensors: Sequence[ir.TensorProtocol | None]) -> str:
    """Weights by their content: each compilation makes tensors of its own of them."""
    digest = hashlib.sha256()
    for tensor in filter(None, tensors):
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def cut_all(sites: Sequence[Site], chosen: Chosen) -> None:
    """Cut sites, whose weights at full width are in place."""
    for site in sites:
        if site.key not in chosen:
            continue
        level, repaired = chosen[site.key]
        if len(level.kept) == site.units:
            put(site.readers, repaired)
        else:
            cut_site(site, level.kept, repaired)


def _row(site: Site, chosen: Chosen, costs: dict[str, Sequence[float]], context: Context) -> Pruned:
    level = chosen[site.key][0] if site.key in chosen else None
    after = len(level.kept) if level is not None else site.units
    work = [operations(site, width, context) for width in (site.units, after)]
    lost = level.lost if level is not None else 0.0
    return Pruned(site.key, site.kind, site.units, after, work[0], work[1], lost)


def _told(rows: Sequence[Pruned], ratio: float) -> str:
    counts: dict[str, Any] = {}
    for row in rows:
        before, after = counts.get(row.kind, (0, 0))
        counts[row.kind] = before + row.before, after + row.after
    said = [f"{after} of {before} {kind}" for kind, (before, after) in counts.items()]
    flops = sum(row.flops_after for row in rows) / max(1.0, sum(row.flops_before for row in rows))
    return f"{' and '.join(said)} stay, {flops:.0%} of the layers' operations"
