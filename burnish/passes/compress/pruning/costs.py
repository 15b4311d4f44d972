"""What a site costs in a run, at each of its widths: operations, or milliseconds as measured."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import onnx

from burnish.optimizer.analysis.channels.sites import HEADS, Site
from burnish.optimizer.contract import Context
from burnish.optimizer.samples import LARGEST_WORK, rows_of
from burnish.passes.compress.pruning.layers import writers_of
from burnish.passes.compress.pruning.sample import Shape, layers

MEASURED = (0.25, 0.5, 0.75)
"""Shares of a site's width that are timed; times of others lie between."""


def operations(site: Site, width: int, context: Context) -> float:
    """Floating point operations of a site with so many units, a multiplication counted as two."""
    rows = rows_of(site.source, context)
    share = width / site.units
    written = 0.0
    for item in site.writers:
        stays = site.keys_stay and item.axis.shared > 1
        written += item.product.k * item.axis.length * (1.0 if stays else share)
    read = sum(product.k * product.n for product in site.readers) * share
    again = (read + _mixing(site, width, context)) * site.uses
    return 2.0 * rows * (written + again)


def _mixing(site: Site, width: int, context: Context) -> float:
    """Multiplications of scores and values for each query."""
    if site.kind != HEADS:
        return 0.0
    node = site.trace.attentions[0]
    key = node.inputs[1]
    shape = context.shapes.get(key.name or "") if key is not None else None
    keys = shape[-2] if shape else context.sizes.get("sequence", 128)
    return 2.0 * keys * width * site.size


def times(site: Site, widths: Sequence[int], context: Context) -> list[float] | None:
    """Milliseconds of a site at each width, on the target; None where nothing was measured."""
    whole = shape_of(site, context)
    tried = sorted({whole.rounded(share) for share in MEASURED} - {0, site.units})
    known = {0: 0.0}
    for width in tried:
        forms: dict[str, Callable[[], onnx.ModelProto]] = {
            "whole": functools.partial(layers, whole, site.units),
            "narrow": functools.partial(layers, whole, width),
        }
        choice = context.choose(f"pruned {whole.key} to {width}", forms, "narrow")
        if not choice.measured or not choice.ms:
            return None
        known[site.units] = max(known.get(site.units, 0.0), choice.ms)
        known[width] = choice.ms / choice.speedup
    if site.units not in known:
        return None
    places = sorted(known)
    between = np.interp(widths, places, np.maximum.accumulate([known[item] for item in places]))
    return [float(item) * site.uses for item in between]


def shape_of(site: Site, context: Context) -> Shape:
    """The sizes that a site's time depends on."""
    writers, readers = writers_of(site), site.readers
    rows = rows_of(site.source, context)
    k, n = writers[0].k if writers else site.units, sum(product.n for product in readers)
    gates = len(site.writers) // site.uses
    work = site.units * site.size * (k * max(1, gates) + n)
    batch = 1
    if site.kind == HEADS:
        shape = context.shapes.get(site.source.name or "")
        batch = shape[0] if shape and len(shape) > 2 else context.sizes.get("batch", 1)
    rows = max(batch, min(rows, LARGEST_WORK // max(work, 1)) // batch * batch)
    biased = bool(writers) and writers[0].bias is not None
    return Shape(site.kind, batch, rows, k, site.units, site.size, n, gates, site.groups, biased)
