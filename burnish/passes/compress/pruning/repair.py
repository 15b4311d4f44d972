"""Sites pruned one after the other, each made up for by the weights around it.

Two courses run side by side: the model as it was, and the one that is pruned so far. Where a
product gets other inputs than it did, its weights are those that come nearest to what it gave;
layers behind a site that are left with some of their inputs likewise. Nothing is trained, and no
label is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from burnish.optimizer.activations import Activations, Course
from burnish.optimizer.analysis.channels.sites import Site
from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array
from burnish.passes.compress.pruning.cutting import Repaired
from burnish.passes.compress.pruning.elimination import Layer
from burnish.passes.compress.pruning.layers import (
    Fit,
    apart,
    first_node,
    fitted,
    inputs_of,
    put,
    solvable,
    stacked,
    writers_of,
)
from burnish.passes.compress.pruning.levels import Form, Level, level_of
from burnish.passes.compress.pruning.narrowing import compared, inner_of, turned_values
from burnish.passes.compress.pruning.ranks import Ranks

Times = Sequence[tuple[Product, ...]]
"""Products of one input, once for each time that their weights are used."""


@dataclass(frozen=True)
class Done:
    """What stays of a site.

    Attributes:
        level: its form.
        behind: the products behind it.
        values: the one that gives an attention's values, in another basis; None where it stays.
    """

    level: Level
    behind: Repaired
    values: Repaired | None = None


Chosen = dict[str, Done]
"""What stays of each site, by `Site.key`."""


class Repair:
    """One way over both models.

    Args:
        activations: the data.
        before: the model as it was.
        model: the one that is pruned; its weights change in place, at full width.
        sites: pairs of the same site in `before` and in `model`, in order.
        repair: whether weights make up for what goes; else they stay as they are.
        quick: they stay, and biases make up for the means of what goes.
    """

    def __init__(
        self,
        activations: Activations,
        before: ir.Model,
        model: ir.Model,
        sites: list[tuple[Site, Site]],
        *,
        repair: bool = True,
        quick: bool = False,
    ) -> None:
        self._repair, self._quick = repair, quick
        self._before, self._model, self._sites = before, model, sites
        self._courses = activations.course(before), activations.course(model)
        self._changed = False

    def run(self, forms: Mapping[str, Form], told: Callable[[str], None]) -> Chosen:
        """Bring each site into its form.

        Args:
            forms: by `Site.key`; sites that are not named stay whole.
            told: takes what is being done.
        """
        chosen: Chosen = {}
        try:
            for number, (old, new) in enumerate(self._sites, start=1):
                told(f"pruning, {number} of {len(self._sites)}")
                if old.key in forms or self._changed:
                    form = forms.get(old.key, Form(old.units))
                    chosen[old.key] = self._site(old, new, form)
                    self._changed = True
        finally:
            for course in self._courses:
                course.end()
        return {key: item for key, item in chosen.items() if key in forms}

    def _site(self, old: Site, new: Site, form: Form) -> Done:
        if form.width and ((self._repair and self._changed) or form.sizes or form.rank):
            for first, second in zip(
                inputs_of(writers_of(old)), inputs_of(writers_of(new)), strict=True
            ):
                layer = self._refit(old.trace.applied(first), new.trace.applied(second), form.rank)
                if form.sizes is not None:
                    _compare(new, solvable(layer), form.sizes[0])
        layer = self._fitted(old.trace.applied(old.readers), new.trace.applied(new.readers))
        if form.rank:
            return self._of_rank(old, new, solvable(layer), form)
        level = level_of(old, layer, form.width)
        rows = old.rows(level.kept) if form.width else np.zeros(0, np.int64)
        if form.sizes is not None:
            level = replace(level, sizes=form.sizes)
            return self._narrower(old, new, solvable(layer), level)
        weight, bias = self._solved(old, layer, rows)
        full = np.zeros((old.units * old.size, weight.shape[1]), np.float32)
        full[rows] = weight
        put(new.readers, apart(full, bias, old.readers))
        return Done(level, apart(weight, bias, old.readers))

    def _of_rank(self, old: Site, new: Site, layer: Layer, form: Form) -> Done:
        """Products behind of a rank, as those before it are by now."""
        weight, bias, lost = Ranks(layer, old.readers).at(form.rank)
        repaired = apart(weight, bias, old.readers)
        put(new.readers, repaired)
        return Done(Level(tuple(range(old.units)), lost, None, form.rank), repaired)

    def _narrower(self, old: Site, new: Site, layer: Layer, level: Level) -> Done:
        """Values in another basis, once the model is cut; till then what reads them turns them."""
        inner = inner_of(new)
        assert inner is not None and level.sizes is not None
        heads = old.rows(level.kept)
        basis = layer.basis(old.size, heads)
        rows = heads.reshape(-1, old.size)[:, : level.sizes[1]].reshape(-1)
        turned = layer.turned(basis)
        weight, bias = turned.solved(rows)
        full = (basis[:, rows] @ weight).astype(np.float32)
        put(new.readers, apart(full, bias, old.readers))
        values = turned_values(inner, basis, level.sizes[1])
        done = replace(level, lost=turned.lost(rows))
        return Done(done, apart(weight, bias, old.readers), values)

    def _solved(self, old: Site, layer: Fit, rows: Array) -> tuple[Array, Array]:
        """Weights for rows that stay: what they were where nothing is lost at all."""
        weight, bias = stacked(old.readers)
        gone = np.setdiff1d(np.arange(len(weight)), rows)
        if self._repair and (self._changed or weight[gone].any()):
            return layer.solved(rows)
        return weight[rows], bias

    def _refit(self, old: Times, new: Times, rank: int) -> Fit:
        """Weights that give what products gave, from what they get now."""
        layer = self._fitted(old, new)
        if rank:
            weight, bias, _ = Ranks(solvable(layer), old[0]).at(rank)
        else:
            weight, bias = layer.solved(np.arange(old[0][0].k))
        put(new[0], apart(weight, bias, old[0]))
        return layer

    def _fitted(self, old: Times, new: Times) -> Fit:
        models = self._before, self._model
        with contextlib.ExitStack() as stack:
            before, now = (_way(stack, course, len(old)) for course in self._courses)

            def stops() -> Iterator[str]:
                for first, second in zip(old, new, strict=True):
                    before.stop_before(first_node(models[0], first))
                    now.stop_before(first_node(models[1], second))
                    yield first[0].activation.name or ""

            return fitted(old[0], before, now, stops(), quick=self._quick)


def _compare(site: Site, layer: Layer, left: int) -> None:
    """Queries and keys of fewer elements, in place, zeros for the others."""
    inner = inner_of(site)
    assert inner is not None
    put([inner.query, inner.key], compared(inner, layer, left)[0])


def survey(course: Course, model: ir.Model, times: Times, *, quick: bool = False) -> Fit:
    """What is known of products of one input in a model that is whole."""
    with contextlib.ExitStack() as stack:
        way = _way(stack, course, len(times))

        def stops() -> Iterator[str]:
            for products in times:
                way.stop_before(first_node(model, products))
                yield products[0].activation.name or ""

        return fitted(times[0], way, way, stops(), quick=quick)


def _way(stack: contextlib.ExitStack, course: Course, times: int) -> Course:
    """A course for weights that are used so many times: past later uses it would be too far on."""
    if times == 1:
        return course
    way = course.anew()
    stack.callback(way.end)
    return way
