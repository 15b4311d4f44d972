"""What the answer of the whole loses where one site alone is narrower, measured.

A model whose weights behind the sites are inputs runs on a few feeds, with one site at a time at
one of its widths. Between those the loss follows what the site itself loses.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from burnish.optimizer.activations import Activations
from burnish.optimizer.analysis.channels.sites import Site, find_sites
from burnish.optimizer.contract import Array, Feeds
from burnish.passes.compress.pruning.cutting import Repaired
from burnish.passes.compress.pruning.elimination import Layer
from burnish.passes.compress.pruning.layers import apart, put
from burnish.passes.compress.pruning.levels import Level, levels_of

PROBED = (0.3, 0.6, 1.0)
"""Shares of a site's units without which the whole is run."""

LARGEST = 1 << 28
"""Bytes of weights behind sites past which sites are only compared by what each loses itself."""


@dataclass(frozen=True)
class Curve:
    """What a site costs the answer at each of its widths.

    Attributes:
        levels: the most units first.
        losses: squared relative error of the answer at each, where it alone is pruned.
    """

    levels: tuple[Level, ...]
    losses: tuple[float, ...]


@dataclass
class Probe:
    """A site with the weights that it is tried with.

    Attributes:
        at: indices of levels that are tried.
        folders: of the weights, by the names of inputs; one for each of them.
    """

    site: Site
    levels: list[Level]
    at: list[int]
    folders: list[Path]


def probe(site: Site, layer: Layer, activations: Activations, *, tried: bool) -> Probe:
    """What is known of a site from its layer alone, and the weights to try, on disk."""
    levels = levels_of(site, layer)
    wanted = [round(share * (len(levels) - 1)) for share in PROBED]
    at = sorted({index for index in wanted if index}) if tried else []
    feeds = (_weights(site, layer, levels[index]) for index in at)
    return Probe(site, levels, at, activations.executor.store(feeds))


def _weights(site: Site, layer: Layer, level: Level) -> dict[str, Array]:
    """The products behind a site at full width, with zeros for units that go."""
    rows = site.rows(level.kept) if level.kept else np.zeros(0, np.int64)
    weight, bias = layer.solved(rows)
    full = np.zeros((site.units * site.size, weight.shape[1]), np.float32)
    full[rows] = weight
    return _named(site, apart(full, bias, site.readers))


def _named(site: Site, repaired: Repaired) -> dict[str, Array]:
    """Weights and biases by the names of their initializers, as those are stored."""
    holders = [value for product in site.readers for value in (product.weight, product.bias)]
    before = {value: value.const_value for value in holders if value is not None}
    put(site.readers, repaired)
    found = {value.name or "": value.const_value.numpy() for value in before if value.const_value}
    for value, tensor in before.items():
        value.const_value = tensor
    return found


def curves(
    model: ir.Model,
    probes: Sequence[Probe],
    activations: Activations,
    told: Callable[[str], None],
) -> dict[str, Curve]:
    """The curve of each site, by `Site.key`."""
    tried = any(item.at for item in probes)
    measured: dict[str, list[float]] = {}
    if tried:
        told("what sites cost the answer")
        measured = _measured(model, probes, activations)
    return {item.site.key: _curve(item, measured.get(item.site.key, [])) for item in probes}


def _curve(item: Probe, losses: Sequence[float]) -> Curve:
    """Losses at all levels: the site's own, scaled by what was measured around each."""
    own = np.array([level.lost for level in item.levels])
    if not len(losses):
        return Curve(tuple(item.levels), tuple(own.tolist()))
    known = np.array([0, *item.at])
    ratio = np.array(losses) / np.maximum(own[item.at], 1e-12)
    scale = np.interp(np.arange(len(own)), known, [ratio[0], *ratio])
    # What is lost never falls with the width.
    return Curve(tuple(item.levels), tuple(np.maximum.accumulate(own * scale).tolist()))


def _measured(
    model: ir.Model, probes: Sequence[Probe], activations: Activations
) -> dict[str, list[float]]:
    open_, weights = _opened(model, [item.site.key for item in probes])
    (base,) = activations.executor.store([weights])
    few = activations.judging or activations.feeds[:1]
    variants = [None, *((item.site.key, folder) for item in probes for folder in item.folders)]
    runs = [
        [feed, base, *([variant[1]] if variant else [])] for variant in variants for feed in few
    ]
    results = activations.run(open_, runs, optimize=True)
    answers = (
        activations.executor.read(results / str(number * len(few) + place))
        for number in range(len(variants))
        for place in range(len(few))
    )
    reference = [next(answers) for _ in few]
    found: dict[str, list[float]] = {}
    for variant in variants[1:]:
        assert variant is not None
        given = [next(answers) for _ in few]
        found.setdefault(variant[0], []).append(distance(reference, given))
    for folder in (results, base.parent, *(item.folders[0].parent for item in probes if item.at)):
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _opened(model: ir.Model, keys: Sequence[str]) -> tuple[ir.Model, dict[str, Array]]:
    """A copy that is given the weights behind sites, and those weights."""
    copy = model.clone()
    weights: dict[str, Array] = {}
    for site in find_sites(copy)[0]:
        for product in site.readers if site.key in keys else ():
            for value in (product.weight, product.bias):
                if value is None or value.const_value is None:
                    continue
                tensor = value.const_value
                weights[value.name or ""] = tensor.numpy()
                copy.graph.initializers.pop(value.name or "")
                value.type = ir.TensorType(tensor.dtype)
                value.shape = ir.Shape(tensor.shape.numpy())
                value.const_value = None
                copy.graph.inputs.append(value)
    return copy, weights


def distance(reference: Sequence[Feeds], given: Sequence[Feeds]) -> float:
    """The squared relative error over all feeds; the sum over outputs of floats."""
    total = 0.0
    for name in _floats(reference[0]):
        error = norm = 0.0
        for first, second in zip(reference, given, strict=True):
            exact, other = (item[name].astype(np.float64) for item in (first, second))
            usable = np.isfinite(exact) & np.isfinite(other)
            error += float(((other - exact)[usable] ** 2).sum())
            norm += float((exact[usable] ** 2).sum())
        total += error / norm if norm else 0.0
    return total


def _floats(outputs: Mapping[str, Array]) -> Iterator[str]:
    return (name for name, array in outputs.items() if array.dtype.kind == "f")
