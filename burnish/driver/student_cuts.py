"""A student that is what is kept of its teacher: layers, heads of each, channels of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from burnish.driver.workbench import Workbench
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.channels.sites import CHANNELS, HEADS, Site, find_sites
from burnish.optimizer.analysis.stream import stream_of
from burnish.optimizer.contract import Array
from burnish.optimizer.errors import UnsupportedModel, UsageError
from burnish.optimizer.layers import keep_layers, spread
from burnish.passes.compress.pruning.cutting import cut as cut_sites
from burnish.passes.compress.pruning.cutting import matrix_of

MULTIPLE = 8
"""Channels that are kept are so many, or a multiple: what kernels like."""


def cut(bench: Workbench, teacher: ir.Model, kept: Mapping[str, float]) -> ir.Model:
    """The student's graph.

    Args:
        bench: the teacher's.
        teacher: its graph after recovery; stays as it is.
        kept: `layers` and `heads` (of each layer) as numbers, `channels` (between the two products
            of a feed-forward block) as a share; what is not named stays.

    Raises:
        UnsupportedModel: the teacher has no such places.
        UsageError: it has fewer layers or heads.
    """
    model = teacher.clone()
    if "layers" in kept:
        _cut_layers(bench, model, int(kept["layers"]))
    if HEADS in kept or CHANNELS in kept:
        sites = find_sites(model)[0]
        choice: dict[str, Sequence[int]] = {}
        if HEADS in kept:
            choice |= _heads(sites, int(kept[HEADS]))
        if CHANNELS in kept:
            choice |= _channels(sites, kept[CHANNELS])
        model = cut_sites(model, choice)
    return model


def _cut_layers(bench: Workbench, model: ir.Model, count: int) -> None:
    stream = stream_of(model, bench.slots, shapes.infer(model, bench.sizes()))
    if not stream.layers:
        hint = "heads=4, channels=0.5, or a student as a file"
        raise UnsupportedModel("no layers were found that could be left out", hint=hint)
    if count > len(stream.layers):
        raise UsageError(f"the teacher has {len(stream.layers)} layers, not {count}")
    keep_layers(model, stream, spread(count, len(stream.layers)))


def _heads(sites: Sequence[Site], count: int) -> dict[str, Sequence[int]]:
    """So many heads of each layer: whole groups that share keys, or as many of each group."""
    found: dict[str, Sequence[int]] = {}
    for site in (site for site in sites if site.kind == HEADS):
        if count > site.units:
            raise UsageError(f"a layer of the teacher has {site.units} heads, not {count}")
        parts = _importance(site).reshape(site.groups, site.shared)
        numbers = np.arange(site.units).reshape(site.groups, site.shared)
        if count % site.shared == 0 and not site.keys_stay:
            best = np.argsort(-parts.sum(axis=1), kind="stable")[: count // site.shared]
            units = numbers[best]
        else:
            order = np.argsort(-parts, axis=1, kind="stable")[:, : count // site.groups]
            units = np.take_along_axis(numbers, order, axis=1)
        if units.size != count:
            told = f"{site.units} heads share keys in {site.groups} groups: {count} cannot stay"
            raise UsageError(told, hint=f"heads={site.groups}")
        found[site.key] = sorted(units.reshape(-1).tolist())
    if not found:
        raise UnsupportedModel("no heads were found that could be left out")
    return found


def _channels(sites: Sequence[Site], share: float) -> dict[str, Sequence[int]]:
    """A share of the channels of each feed-forward block."""
    found: dict[str, Sequence[int]] = {}
    for site in (site for site in sites if site.kind == CHANNELS):
        count = max(1, round(site.units * share / MULTIPLE)) * MULTIPLE
        if count < site.units:
            best = np.argsort(-_importance(site), kind="stable")[:count]
            found[site.key] = sorted(best.tolist())
    if not any(site.kind == CHANNELS for site in sites):
        raise UnsupportedModel("no channels were found that could be left out")
    return found


def _importance(site: Site) -> Array:
    """Norms of the weights that read each unit, [units]; training decides what becomes of them."""
    squares = [np.square(matrix_of(product)).sum(axis=1) for product in site.readers]
    units: Array = np.sum(squares, axis=0).reshape(site.units, site.size).sum(axis=1)
    return units
