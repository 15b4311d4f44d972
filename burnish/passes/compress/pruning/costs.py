"""What a site costs in a run, in each of its forms: operations, or milliseconds as measured."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import onnx

from burnish.optimizer.analysis.channels.sites import HEADS, Site
from burnish.optimizer.analysis.channels.trace import Columns
from burnish.optimizer.contract import Context
from burnish.optimizer.samples import LARGEST_WORK, rows_of
from burnish.passes.compress.pruning.layers import writers_of
from burnish.passes.compress.pruning.levels import Form
from burnish.passes.compress.pruning.narrowing import inner_of
from burnish.passes.compress.pruning.ranks import multiplied
from burnish.passes.compress.pruning.sample import Shape, layers

MEASURED = (0.25, 0.5, 0.75)
"""Shares of a site's width that are timed; times of others lie between."""


def operations(site: Site, form: Form, context: Context) -> float:
    """Floating point operations of a site in a form, a multiplication counted as two."""
    rows = rows_of(site.source, context)
    share = form.width / site.units
    keys, values = _narrower(site, form)
    written = 0.0
    for item in site.writers:
        stays = site.keys_stay and item.axis.shared > 1
        left = (1.0 if stays else share) * (values if _gives_values(site, item) else keys)
        found = item.product
        if form.rank:
            written += multiplied(found, form.rank) * item.axis.length / found.n
        else:
            written += found.k * item.axis.length * left
    read = sum(multiplied(product, form.rank) for product in site.readers) * share * values
    scored = (keys + values) / 2 * _mixing(site, form.width, context)
    return 2.0 * rows * (written + (read + scored) * site.uses)


def _narrower(site: Site, form: Form) -> tuple[float, float]:
    """The shares of elements of heads that stay: of queries and keys, and of values."""
    inner = inner_of(site) if form.sizes is not None else None
    if inner is None or form.sizes is None:
        return 1.0, 1.0
    return form.sizes[0] / inner.size, form.sizes[1] / inner.value_size


def _gives_values(site: Site, item: Columns) -> bool:
    node = site.trace.attentions[0] if site.trace.attentions else None
    return node is not None and item.product.output is node.inputs[2]


def _mixing(site: Site, width: int, context: Context) -> float:
    """Multiplications of scores and values for each query."""
    if site.kind != HEADS:
        return 0.0
    node = site.trace.attentions[0]
    key = node.inputs[1]
    shape = context.shapes.get(key.name or "") if key is not None else None
    keys = shape[-2] if shape else context.sizes.get("sequence", 128)
    return 2.0 * keys * width * site.size


def times(
    site: Site, forms: Sequence[Form], context: Context, *, int8: bool = False
) -> list[float] | None:
    """Milliseconds of a site in each form, on the target; None where nothing was measured.

    With `int8` the products may be in int8, and are where that is faster.

    Those of widths lie between what was measured, and so do those of ranks. What smaller heads
    take falls with their operations as it does from the whole to the half.
    """
    whole = shape_of(site, context)
    timed = _Timed(whole, context, int8)
    tried = sorted({whole.rounded(share) for share in MEASURED} - {0, site.units})
    ranks = sorted({form.rank for form in forms if form.rank})
    tried_ranks = sorted({ranks[0], ranks[len(ranks) // 2], ranks[-1]}) if ranks else []
    known = {0: 0.0, **{width: timed.of(Form(width)) for width in tried}}
    of_rank = {rank: timed.of(Form(site.units, None, rank)) for rank in tried_ranks}
    inner = inner_of(site)
    half = None
    if inner is not None and any(form.sizes for form in forms):
        half = Form(site.units, (inner.size // 2, inner.value_size // 2))
    halved = timed.of(half) if half is not None else 0.0
    if timed.whole is None:
        return None
    known[site.units] = timed.whole

    def between(form: Form) -> float:
        if form.rank:
            return float(np.interp(form.rank, list(of_rank), list(of_rank.values())))
        places = sorted(known)
        slower = np.maximum.accumulate([known[item] for item in places])
        found = float(np.interp(form.width, places, slower))
        if form.sizes is None or half is None:
            return found
        work = [operations(site, item, context) for item in (Form(site.units), half)]
        mine = operations(site, Form(site.units, form.sizes), context)
        gain = max(0.0, 1 - halved / known[site.units]) * (work[0] - mine) / (work[0] - work[1])
        return found * max(0.0, 1 - gain)

    return [between(form) * site.uses for form in forms]


class _Timed:
    """What is measured of a site: forms against the whole."""

    def __init__(self, shape: Shape, context: Context, int8: bool) -> None:
        self._shape, self._context, self._int8 = shape, context, int8
        self._failed = False
        self._longest = 0.0

    @property
    def whole(self) -> float | None:
        """Milliseconds of the whole; None where something was not measured."""
        if self._int8 and not self._failed:
            return min(self._longest, self.of(Form(self._shape.units))) or None
        return None if self._failed or not self._longest else self._longest

    def of(self, form: Form) -> float:
        """Milliseconds of a form."""
        shape = self._shape
        forms: dict[str, Callable[[], onnx.ModelProto]] = {
            "whole": functools.partial(layers, shape, Form(shape.units)),
            "narrow": functools.partial(layers, shape, form),
        }
        if self._int8:
            forms["int8"] = functools.partial(layers, shape, form, int8=True)
        what = f"{form.width}"
        if form.sizes is not None:
            what += f" of {form.sizes[0]} and {form.sizes[1]}"
        what += f" of rank {form.rank}" if form.rank else ""
        what += " in int8" if self._int8 else ""
        choice = self._context.choose(f"pruned {shape.key} to {what}", forms, "narrow")
        if not choice.measured or not choice.ms:
            self._failed = True
            return 0.0
        self._longest = max(self._longest, choice.ms)
        return choice.ms / choice.speedup


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
