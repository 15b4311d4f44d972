"""The ways in which a site may cost less, and the weights that each is tried with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from burnish.optimizer.activations import Activations
from burnish.optimizer.analysis.channels.sites import Site
from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array
from burnish.passes.compress.pruning.cutting import Repaired
from burnish.passes.compress.pruning.elimination import Layer
from burnish.passes.compress.pruning.layers import Fit, apart, put, solvable
from burnish.passes.compress.pruning.levels import Level, elements, levels_of
from burnish.passes.compress.pruning.narrowing import compared, first, inner_of
from burnish.passes.compress.pruning.ranks import Ranks, ranks_of

PROBED = (0.3, 0.6, 1.0)
"""Places on the way from all of a site to the least of it where the whole is run."""

WIDTH, SCORES, VALUES, RANK = "width", "scores", "values", "rank"
"""Ways: fewer units; fewer elements of queries and keys; of values; products of lower rank."""

LARGEST = 1 << 28
"""Bytes of weights that are tried, past which sites are only compared by what each loses itself,
and only widths are."""

Before = list[tuple[list[Product], Layer]]
"""The products before a site by what they read, with least squares for them."""


@dataclass
class Way:
    """One way of a site, from the whole to the least of it.

    Attributes:
        own: what the site itself loses at each step.
        at: steps that are tried.
        folders: of the weights, by the names of inputs; one for each of them.
    """

    own: list[float]
    at: list[int]
    folders: list[Path]


@dataclass
class Probe:
    """A site with the ways that it may go; `levels` are its widths."""

    site: Site
    levels: list[Level]
    ways: dict[str, Way]


def probe(
    site: Site, before: Before, layer: Fit, activations: Activations, *, tried: bool
) -> Probe:
    """What is known of a site from its layers alone, and the weights to try, on disk.

    Args:
        site: in a model that is whole.
        before: layers before it; empty where only widths are looked at.
        layer: the one behind it.
        activations: the data.
        tried: whether weights are to be tried.
    """
    levels = levels_of(site, layer)
    own = [level.lost for level in levels]
    at = _places(len(levels)) if tried else []
    feeds = (_width(site, layer, levels[index]) for index in at)
    found = Probe(site, levels, {WIDTH: Way(own, at, activations.executor.store(feeds))})
    if tried and before:
        for name, steps in _others(site, before, solvable(layer)).items():
            lost, at = steps.losses(), _places(steps.count)
            folders = activations.executor.store(steps.weights(index) for index in at)
            found.ways[name] = Way(lost, at, folders)
    return found


def _places(count: int) -> list[int]:
    return sorted({round(share * (count - 1)) for share in PROBED} - {0})


def _others(site: Site, before: Before, layer: Layer) -> dict[str, _Steps]:
    if ranks_of(site):
        return {RANK: _Lower(site, before, layer)}
    if inner_of(site) is not None:
        return {SCORES: _Scores(site, before, layer), VALUES: _Values(site, before, layer)}
    return {}


class _Steps:
    """The steps of one way."""

    count: int

    def __init__(self, site: Site, before: Before, layer: Layer) -> None:
        self._site, self._before, self._layer = site, before, layer
        self._prepare()

    def _prepare(self) -> None:
        raise NotImplementedError

    def losses(self) -> list[float]:
        """What the site itself loses at each step."""
        raise NotImplementedError

    def weights(self, step: int) -> dict[str, Array]:
        """The weights of a step by the names of their initializers."""
        raise NotImplementedError


class _Lower(_Steps):
    """Products of lower rank."""

    def _prepare(self) -> None:
        readers = list(self._site.readers)
        layers = [*self._before, (readers, self._layer)]
        self._all = [(products, Ranks(layer, products)) for products, layer in layers]
        self._ranks = ranks_of(self._site)
        self.count = len(self._ranks) + 1

    def losses(self) -> list[float]:
        return [0.0, *(sum(item.lost(rank) for _, item in self._all) for rank in self._ranks)]

    def weights(self, step: int) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for products, item in self._all:
            weight, bias, _ = item.at(self._ranks[step - 1])
            found |= named(products, apart(weight, bias, products))
        return found


class _Scores(_Steps):
    """Queries and keys compared in fewer directions."""

    def _prepare(self) -> None:
        inner = inner_of(self._site)
        assert inner is not None
        self._inner = inner
        self._sizes = elements(inner.size)
        self.count = len(self._sizes)

    def losses(self) -> list[float]:
        lost = compared(self._inner, self._before[0][1], self._inner.size)[1]
        return [float(lost[size]) for size in self._sizes]

    def weights(self, step: int) -> dict[str, Array]:
        repaired, _ = compared(self._inner, self._before[0][1], self._sizes[step])
        return named([self._inner.query, self._inner.key], repaired)


class _Values(_Steps):
    """Values of fewer elements; those behind take them in the basis that there was."""

    def _prepare(self) -> None:
        site = self._site
        self._basis = self._layer.basis(site.size, np.arange(site.units * site.size))
        self._turned = self._layer.turned(self._basis)
        self._sizes = elements(site.size)
        self.count = len(self._sizes)

    def _rows(self, size: int) -> Array:
        return first(self._site.units, self._site.size, size)

    def losses(self) -> list[float]:
        whole = self._turned.lost(self._rows(self._site.size))
        found = (self._turned.lost(self._rows(size)) - whole for size in self._sizes)
        return [max(0.0, item) for item in found]

    def weights(self, step: int) -> dict[str, Array]:
        rows = self._rows(self._sizes[step])
        weight, bias = self._turned.solved(rows)
        full = (self._basis[:, rows] @ weight).astype(np.float32)
        readers = list(self._site.readers)
        return named(readers, apart(full, bias, readers))


def _width(site: Site, layer: Fit, level: Level) -> dict[str, Array]:
    """The products behind a site at full width, with zeros for units that go."""
    rows = site.rows(level.kept) if level.kept else np.zeros(0, np.int64)
    weight, bias = layer.solved(rows)
    full = np.zeros((site.units * site.size, weight.shape[1]), np.float32)
    full[rows] = weight
    return named(site.readers, apart(full, bias, site.readers))


def named(products: Sequence[Product], repaired: Repaired) -> dict[str, Array]:
    """Weights and biases by the names of their initializers, as those are stored."""
    before = {value: value.const_value for value in _holders(products)}
    put(products, repaired)
    found = {value.name or "": value.const_value.numpy() for value in before if value.const_value}
    for value, tensor in before.items():
        value.const_value = tensor
    return found


def _holders(products: Sequence[Product]) -> Iterator[ir.Value]:
    for product in products:
        yield product.weight
        if product.bias is not None:
            yield product.bias
