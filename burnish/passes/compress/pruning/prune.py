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
from burnish.optimizer.analysis.products import Product
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
from burnish.passes.compress.pruning.layers import (
    WIDEST,
    around,
    inputs_of,
    is_wide,
    put,
    solvable,
    writers_of,
)
from burnish.passes.compress.pruning.levels import Form, widths
from burnish.passes.compress.pruning.narrowing import inner_of, narrow
from burnish.passes.compress.pruning.probes import LARGEST, Before, Probe, probe
from burnish.passes.compress.pruning.ranks import factored, ranks_of
from burnish.passes.compress.pruning.repair import Chosen, Done, Repair, survey
from burnish.passes.compress.pruning.sensitivity import Curve, curves
from burnish.passes.compress.splice import drop_unused

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
        Or heads of fewer elements, `up` and `down` as two products of lower rank each.
    Refuses when:
        There is no data. Channels reach a port, or a node that mixes them; a weight has other
        readers. Heads of keys that a cache holds stay.
    Numerics:
        Lossy, within the budget on the whole model. Widths, sizes of heads and ranks are those with
        the least loss, measured for each site by itself, for the operations or the time that are
        left; with `int8` times are those of layers in int8. With `factors` false there are only
        widths. With `quick`, and beside layers of more than 6144 inputs, units go by how large
        their activations are and the weights that they meet; weights stay, means are made up for.
    """

    share: float | None = 0.3
    speedup: float | None = None
    repair: bool = True
    factors: bool = True
    int8: bool = False
    quick: bool = False

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
        known = surveyed(before, context, activations, quick=self.quick)
        curves = {site.key: self._curve(site, known) for site in sites}
        costs = {site.key: self._costs(site, curves[site.key], context) for site in sites}
        losses = {key: curve.losses for key, curve in curves.items()}
        whole = sum(items[0] for items in costs.values())
        picks = allocate(losses, costs, whole * self.left)
        forms = {key: curves[key].levels[index].form for key, index in picks.items() if index}
        if not forms:
            return Outcome(0, tuple(refusals), detail="all of it is left within what was asked for")
        separate_biases(model)
        sites = usable(model)[0]
        pairs = list(zip(usable(before)[0], sites, strict=True))
        options = {"repair": self.repair, "quick": self.quick}
        course = Repair(activations, before, model, pairs, **options)
        chosen = course.run(forms, activations.told)
        rows = tuple(_row(site, chosen, context) for site in sites)
        wide = 0 if self.quick else sum(is_wide(site) for site in sites)
        cut_all(model, sites, chosen)
        return Outcome(len(chosen), tuple(refusals), None, _told(rows, wide), pruned=rows)

    @property
    def left(self) -> float:
        """The share of the cost that may be left."""
        if self.speedup is not None:
            return 1.0 / self.speedup
        return 1.0 - (self.share or 0.0)

    def _curve(self, site: Site, known: dict[str, Curve]) -> Curve:
        """The forms to choose from: widths alone where weights are not to make up for anything."""
        curve = known[site.key]
        if self.factors and self.repair:
            return curve
        count = len(widths(site))
        return Curve(curve.levels[:count], curve.losses[:count])

    def _costs(self, site: Site, curve: Curve, context: Context) -> Sequence[float]:
        """Of each form: times where a speed-up is asked for and measured, else operations."""
        forms = [level.form for level in curve.levels]
        measured = None
        if self.speedup is not None:
            measured = times(site, forms, context, int8=self.int8)
        return measured or [operations(site, form, context) for form in forms]


def usable(model: ir.Model) -> tuple[list[Site], list[Refusal]]:
    """The sites that can be pruned, and why others cannot be."""
    sites, refusals = find_sites(model)
    found = []
    for site in sites:
        if len(widths(site)) < 2:
            refusals.append(Refusal(site.key, _why_whole(site)))
        else:
            found.append(site)
    return found, refusals


def _why_whole(site: Site) -> str:
    if site.keys_stay:
        return "a cache holds the keys of all its heads"
    return f"it has too few {site.kind} to lose any ({site.units})"


def surveyed(
    model: ir.Model, context: Context, activations: Activations, *, quick: bool = False
) -> dict[str, Curve]:
    """What each site costs the answer in each form; found once for a model and its data."""
    sites = usable(model)[0]
    tensors = [product.weight.const_value for site in sites for product in site.readers]
    key = (SURVEY, quick, *(site.key for site in sites), _digest(tensors))
    if key not in context.memo:
        behind = sum(_bytes(site.readers) for site in sites)
        whole = sum(_bytes(around(site)) for site in sites)
        course = activations.course(model)
        probes: list[Probe] = []
        for number, site in enumerate(sites, start=1):
            activations.told(f"what may go, {number} of {len(sites)}")
            before: Before = []
            exact = not quick and not is_wide(site)
            if exact and whole <= LARGEST and (ranks_of(site) or inner_of(site)):
                for group in inputs_of(writers_of(site)):
                    before.append((group, solvable(survey(course, model, [tuple(group)]))))
            layer = survey(course, model, site.trace.applied(site.readers), quick=quick)
            probes.append(probe(site, before, layer, activations, tried=behind <= LARGEST))
        course.end()
        found = curves(model, probes, activations, activations.told)
        context.memo[key] = found
    result: dict[str, Curve] = context.memo[key]
    return result


def _bytes(products: Sequence[Product]) -> int:
    tensors = (product.weight.const_value for product in products)
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


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


def cut_all(model: ir.Model, sites: Sequence[Site], chosen: Chosen) -> None:
    """Cut sites, whose weights at full width are in place."""
    narrower: dict[ir.Value, Done] = {}
    for site in sites:
        done = chosen.get(site.key)
        if done is not None and done.values is not None and done.level.sizes is not None:
            inner = inner_of(site)
            assert inner is not None
            put([inner.value], done.values)
            narrower[site.source] = done
            narrow(site, done.level.sizes)
    found = {site.source: site for site in find_sites(model)[0]} if narrower else {}
    for site in sites:
        done = narrower.get(site.source) or chosen.get(site.key)
        if done is None:
            continue
        place = found[site.source] if site.source in narrower else site
        if done.level.rank:
            factored(place, done.level.rank)
        elif len(done.level.kept) == site.units:
            put(place.readers, done.behind)
        else:
            cut_site(place, done.level.kept, done.behind)
    drop_unused(model)


def _row(site: Site, chosen: Chosen, context: Context) -> Pruned:
    done = chosen.get(site.key)
    form = done.level.form if done is not None else Form(site.units)
    work = [operations(site, item, context) for item in (Form(site.units), form)]
    lost = done.level.lost if done is not None else 0.0
    sizes, rank = form.sizes, form.rank or None
    return Pruned(site.key, site.kind, site.units, form.width, work[0], work[1], lost, sizes, rank)


def _told(rows: Sequence[Pruned], wide: int) -> str:
    counts: dict[str, Any] = {}
    for row in rows:
        before, after = counts.get(row.kind, (0, 0))
        counts[row.kind] = before + row.before, after + row.after
    said = [f"{after} of {before} {kind}" for kind, (before, after) in counts.items()]
    flops = sum(row.flops_after for row in rows) / max(1.0, sum(row.flops_before for row in rows))
    told = f"{' and '.join(said)} stay, {flops:.0%} of the layers' operations"
    if not wide:
        return told
    return f"{told}; beside layers of more than {WIDEST} inputs weights make up for nothing: {wide}"
