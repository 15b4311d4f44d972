"""The widths that a site may get, and what stays at each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from burnish.optimizer.analysis.channels.sites import CHANNELS, Site
from burnish.optimizer.contract import Array
from burnish.passes.compress.pruning.cutting import removable
from burnish.passes.compress.pruning.elimination import Order
from burnish.passes.compress.pruning.layers import Fit

STEP = 16
"""Hidden channels are kept in multiples of this: ONNX Runtime's kernels take columns by 16."""


@dataclass(frozen=True)
class Form:
    """What a site may become.

    Attributes:
        width: units that stay.
        sizes: elements of a head of queries and keys, and of values; None where they stay.
        rank: of the products around it; 0 where they stay one each.
    """

    width: int
    sizes: tuple[int, int] | None = None
    rank: int = 0


@dataclass(frozen=True)
class Level:
    """One form of a site.

    Attributes:
        kept: units that stay, ascending.
        lost: squared error of what the layers behind give, as a share of its variance.
        sizes, rank: see `Form`.
    """

    kept: tuple[int, ...]
    lost: float
    sizes: tuple[int, int] | None = None
    rank: int = 0

    @property
    def form(self) -> Form:
        """What the site becomes."""
        return Form(len(self.kept), self.sizes, self.rank)


def elements(size: int) -> list[int]:
    """How many elements of heads may stay, the most first."""
    step = max(4, size // 8)
    return [size, *range((size - 1) // step * step, 0, -step)]


def widths(site: Site) -> list[int]:
    """How many units may stay, the most first.

    Heads go one by one. Where several share keys and values, whole groups go; where ports hold
    those, as many heads of each group do.
    """
    step = STEP if site.kind == CHANNELS else site.shared
    if site.keys_stay:
        step = site.groups
    most = site.units
    found = [most, *range((most - 1) // step * step, 0, -step)]
    return [*found, *([0] if removable(site) else [])]


def level_of(site: Site, layer: Fit, width: int) -> Level:
    """The units that should stay where so many do, as moments say."""
    if width in (0, site.units):
        kept = tuple(range(width))
        return Level(kept, layer.lost(np.arange(width * site.size)))
    return next(item for item in levels_of(site, layer, width) if len(item.kept) == width)


def levels_of(site: Site, layer: Fit, least: int = 0) -> list[Level]:
    """The widths of a site with the units that should stay, as moments say, down to the least."""
    if site.shared > 1 and not site.keys_stay:
        members = np.arange(site.units).reshape(site.groups, site.shared)
        order = layer.order(_rows(site).reshape(site.groups, -1), least // site.shared)
        return [
            Level(
                tuple(sorted(members[list(order.kept(width // site.shared))].reshape(-1).tolist())),
                float(order.lost[site.groups - width // site.shared]),
            )
            for width in widths(site)
        ]
    if site.keys_stay and widths(site)[1:] in ([], [0]):  # nothing to choose from
        every = np.arange(site.units * site.size)
        return [
            Level(tuple(range(width)), layer.lost(every[: width * site.size]))
            for width in widths(site)
        ]
    order = layer.order(_rows(site), 0 if site.keys_stay else least)
    if site.keys_stay:
        return [_evenly(site, layer, order, width) for width in widths(site)]
    return [
        Level(order.kept(width), float(order.lost[site.units - width])) for width in widths(site)
    ]


def _rows(site: Site) -> Array:
    """The rows of each unit, [units, size]."""
    return np.arange(site.units * site.size).reshape(site.units, site.size)


def _evenly(site: Site, layer: Fit, order: Order, width: int) -> Level:
    """As many heads of each group, those that go last by themselves."""
    later = order.gone[::-1]
    kept: list[int] = []
    for group in range(site.groups):
        members = [unit for unit in later if unit // site.shared == group]
        kept += members[: width // site.groups]
    return Level(tuple(sorted(kept)), layer.lost(site.rows(kept)))
