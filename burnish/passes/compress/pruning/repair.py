"""Sites pruned one after the other, each made up for by the weights around it.

Two courses run side by side: the model as it was, and the one that is pruned so far. Where a
product gets other inputs than it did, its weights are those that come nearest to what it gave;
layers behind a site that are left with some of their inputs likewise. Nothing is trained, and no
label is read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from burnish.optimizer.activations import Activations, Course
from burnish.optimizer.analysis.channels.sites import Site
from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array
from burnish.passes.compress.pruning.cutting import Repaired
from burnish.passes.compress.pruning.elimination import Layer
from burnish.passes.compress.pruning.layers import (
    apart,
    first_node,
    fitted,
    inputs_of,
    put,
    stacked,
    writers_of,
)
from burnish.passes.compress.pruning.levels import Level, level_of

Times = Sequence[tuple[Product, ...]]
"""Products of one input, once for each time that their weights are used."""

Chosen = dict[str, tuple[Level, Repaired]]
"""What stays of each site, and the products behind it, by `Site.key`."""


class Repair:
    """One way over both models.

    Args:
        activations: the data.
        before: the model as it was.
        model: the one that is pruned; its weights change in place, at full width.
        sites: pairs of the same site in `before` and in `model`, in order.
        repair: whether weights make up for what goes; else they stay as they are.
    """

    def __init__(
        self,
        activations: Activations,
        before: ir.Model,
        model: ir.Model,
        sites: list[tuple[Site, Site]],
        *,
        repair: bool = True,
    ) -> None:
        self._repair = repair
        self._before, self._model, self._sites = before, model, sites
        self._courses = activations.course(before), activations.course(model)
        self._changed = False

    def run(self, widths: Mapping[str, int], told: Callable[[str], None]) -> Chosen:
        """Prune each site to its width.

        Args:
            widths: units that stay, by `Site.key`; sites that are not named stay whole.
            told: takes what is being done.
        """
        chosen: Chosen = {}
        try:
            for number, (old, new) in enumerate(self._sites, start=1):
                told(f"pruning, {number} of {len(self._sites)}")
                width = widths.get(old.key, old.units)
                if width < old.units or self._changed:
                    chosen[old.key] = self._site(old, new, width)
                    self._changed = True
        finally:
            for course in self._courses:
                course.end()
        return {key: item for key, item in chosen.items() if key in widths}

    def _site(self, old: Site, new: Site, width: int) -> tuple[Level, Repaired]:
        if self._repair and self._changed and width:
            for first, second in zip(
                inputs_of(writers_of(old)), inputs_of(writers_of(new)), strict=True
            ):
                self._refit(old.trace.applied(first), new.trace.applied(second))
        layer = self._fitted(old.trace.applied(old.readers), new.trace.applied(new.readers))
        level = level_of(old, layer, width)
        rows = old.rows(level.kept) if width else np.zeros(0, np.int64)
        weight, bias = self._solved(old, layer, rows)
        full = np.zeros((old.units * old.size, weight.shape[1]), np.float32)
        full[rows] = weight
        put(new.readers, apart(full, bias, old.readers))
        return level, apart(weight, bias, old.readers)

    def _solved(self, old: Site, layer: Layer, rows: Array) -> tuple[Array, Array]:
        """Weights for rows that stay: what they were where nothing is lost at all."""
        weight, bias = stacked(old.readers)
        gone = np.setdiff1d(np.arange(len(weight)), rows)
        if self._repair and (self._changed or weight[gone].any()):
            return layer.solved(rows)
        return weight[rows], bias

    def _refit(self, old: Times, new: Times) -> None:
        """Weights that give what products gave, from what they get now."""
        layer = self._fitted(old, new)
        weight, bias = layer.solved(np.arange(old[0][0].k))
        put(new[0], apart(weight, bias, old[0]))

    def _fitted(self, old: Times, new: Times) -> Layer:
        models = self._before, self._model
        with contextlib.ExitStack() as stack:
            before, now = (_way(stack, course, len(old)) for course in self._courses)

            def stops() -> Iterator[str]:
                for first, second in zip(old, new, strict=True):
                    before.stop_before(first_node(models[0], first))
                    now.stop_before(first_node(models[1], second))
                    yield first[0].activation.name or ""

            return fitted(old[0], before, now, stops())


def survey(course: Course, model: ir.Model, site: Site) -> Layer:
    """Least squares for the layers behind a site of a model that is whole."""
    times = site.trace.applied(site.readers)
    with contextlib.ExitStack() as stack:
        way = _way(stack, course, len(times))

        def stops() -> Iterator[str]:
            for products in times:
                way.stop_before(first_node(model, products))
                yield products[0].activation.name or ""

        return fitted(site.readers, way, way, stops())


def _way(stack: contextlib.ExitStack, course: Course, times: int) -> Course:
    """A course for weights that are used so many times: past later uses it would be too far on."""
    if times == 1:
        return course
    way = course.anew()
    stack.callback(way.end)
    return way
