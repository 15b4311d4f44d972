"""What the answer of the whole loses where one site alone is changed, measured.

What lies behind a site runs on a few feeds, its weights being inputs, in some of its forms. Between
those the loss follows what the site itself loses.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from burnish.optimizer.activations import Activations
from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array, Feeds
from burnish.passes.compress.pruning.layers import around
from burnish.passes.compress.pruning.levels import Level, elements
from burnish.passes.compress.pruning.narrowing import inner_of
from burnish.passes.compress.pruning.probes import RANK, SCORES, VALUES, WIDTH, Probe, Way
from burnish.passes.compress.pruning.ranks import ranks_of


@dataclass(frozen=True)
class Curve:
    """What a site costs the answer in each of its forms.

    Attributes:
        levels: the most units first, each at all sizes of heads; then ranks of the whole.
        losses: squared relative error of the answer in each, where only it is changed.
    """

    levels: tuple[Level, ...]
    losses: tuple[float, ...]


def curves(
    model: ir.Model,
    probes: Sequence[Probe],
    activations: Activations,
    told: Callable[[str], None],
) -> dict[str, Curve]:
    """The curve of each site, by `Site.key`."""
    tried = any(way.at for item in probes for way in item.ways.values())
    measured: dict[tuple[str, str], list[float]] = {}
    if tried:
        told("what sites cost the answer")
        measured = _measured(model, probes, activations)
    return {item.site.key: _curve(item, measured) for item in probes}


def _curve(item: Probe, measured: Mapping[tuple[str, str], list[float]]) -> Curve:
    """All forms of a site, and their losses.

    What is lost in two ways at once adds up. Heads that are gone lose nothing more by what others
    are cut to, so that is never too little.
    """
    site = item.site
    lost = {
        name: _scaled(way, measured.get((site.key, name), [])) for name, way in item.ways.items()
    }
    found = list(zip(item.levels, lost[WIDTH], strict=True))
    inner = inner_of(site)
    if SCORES in lost and inner is not None:
        keys = list(zip(elements(inner.size), lost[SCORES], strict=True))
        values = list(zip(elements(inner.value_size), lost[VALUES], strict=True))
        for (level, loss), key, value in itertools.product(list(found), keys, values):
            if level.kept and (key[0], value[0]) != (inner.size, inner.value_size):
                both = Level(level.kept, level.lost, (key[0], value[0]))
                found.append((both, loss + key[1] + value[1]))
    if RANK in lost:
        every = item.levels[0].kept
        for rank, loss, own in zip(
            ranks_of(site), lost[RANK][1:], item.ways[RANK].own[1:], strict=True
        ):
            found.append((Level(every, float(own), None, rank), loss))
    return Curve(tuple(level for level, _ in found), tuple(loss for _, loss in found))


def _scaled(way: Way, losses: Sequence[float]) -> list[float]:
    """Losses at all steps of a way: the site's own, scaled by what was measured around each."""
    own = np.array(way.own)
    if not len(losses):
        return [float(item) for item in own]
    known = np.array([0, *way.at])
    ratio = np.array(losses) / np.maximum(own[way.at], 1e-12)
    scale = np.interp(np.arange(len(own)), known, [ratio[0], *ratio])
    # What is lost never falls with the width.
    return [float(item) for item in np.maximum.accumulate(own * scale)]


def _measured(
    model: ir.Model, probes: Sequence[Probe], activations: Activations
) -> dict[tuple[str, str], list[float]]:
    """What the answer loses at the steps that are tried, by the site's key and the way."""
    few = replace(activations, feeds=activations.judging or activations.feeds[:1])
    course = few.course(model)
    found: dict[tuple[str, str], list[float]] = {}
    for start, item in sorted(_starts(model, probes), key=lambda pair: pair[0]):
        course.stop_before(model.graph[start])
        opened, weights = _opened(model, item)
        tried = [(name, folder) for name, way in item.ways.items() for folder in way.folders]
        (base,) = few.executor.store([weights])
        answers = course.behind(opened, [[base], *([base, folder] for _, folder in tried)])
        reference = next(answers)
        for (name, _), given in zip(tried, answers, strict=True):
            found.setdefault((item.site.key, name), []).append(distance(reference, given))
        for folder in {base.parent, *(folder.parent for _, folder in tried)}:
            shutil.rmtree(folder, ignore_errors=True)
    course.end()
    return found


def _starts(model: ir.Model, probes: Sequence[Probe]) -> Iterator[tuple[int, Probe]]:
    """The sites that are tried, with where the first product that changes stands."""
    order = {node: index for index, node in enumerate(model.graph)}
    for item in probes:
        if any(way.at for way in item.ways.values()):
            copies = (item.site.trace.by_weight[product.weight] for product in _changing(item))
            yield min(order[product.nodes[0]] for same in copies for product in same), item


def _changing(item: Probe) -> list[Product]:
    """The products whose weights are tried: those before a site too, but where only widths are."""
    return around(item.site) if len(item.ways) > 1 else list(item.site.readers)


def _opened(model: ir.Model, item: Probe) -> tuple[ir.Model, dict[str, Array]]:
    """A copy that is given the weights that are tried at a site, and those weights."""
    names = dict.fromkeys(
        value.name or ""
        for product in _changing(item)
        for value in (product.weight, product.bias)
        if value is not None and value.const_value is not None
    )
    copy = model.clone()
    weights: dict[str, Array] = {}
    for name in names:
        value = copy.graph.initializers.pop(name)
        tensor = value.const_value
        assert tensor is not None
        weights[name] = tensor.numpy()
        value.type = ir.TensorType(tensor.dtype)
        value.shape = ir.Shape(tensor.shape.numpy())
        value.const_value = None
        copy.graph.inputs.append(value)
    return copy, weights


def distance(reference: Sequence[Feeds], given: Sequence[Feeds]) -> float:
    """The squared relative error over all feeds; the sum over those outputs that are floats."""
    total = 0.0
    for name in _floats(given[0]):
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
