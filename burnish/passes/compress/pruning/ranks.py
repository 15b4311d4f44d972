"""Products around a site in two of lower rank each: the other way to have it cost less."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from burnish.optimizer.analysis.channels.sites import CHANNELS, Site
from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array
from burnish.passes.compress.low_rank.factors import Factors
from burnish.passes.compress.low_rank.low_rank import split
from burnish.passes.compress.pruning.cutting import matrix_of
from burnish.passes.compress.pruning.elimination import Layer
from burnish.passes.compress.pruning.layers import around

STEP = 32
"""Between ranks that are tried."""


def ranks_of(site: Site) -> list[int]:
    """The ranks that a site's products may have, the most first; of heads, or shared, none."""
    if site.kind != CHANNELS or site.uses > 1:
        return []
    most = max(least_gain(product) for product in around(site))
    return list(range((most - 1) // STEP * STEP, 0, -STEP))


def least_gain(product: Product) -> int:
    """The least rank at which two products multiply no less than the one."""
    return -(-product.k * product.n // (product.k + product.n))


def multiplied(product: Product, rank: int) -> int:
    """Multiplications for a row where a product has a rank, or is whole at 0."""
    whole = product.k * product.n
    return min(whole, rank * (product.k + product.n)) if rank else whole


class Ranks:
    """Products of one input at all ranks.

    Products that would multiply more than they do at one stay of full rank.
    """

    def __init__(self, layer: Layer, products: Sequence[Product]) -> None:
        ends = np.cumsum([0, *(product.n for product in products)]).tolist()
        self._products = products
        self._whole = layer.solved(np.arange(products[0].k))
        self._parts = [slice(*pair) for pair in pairwise(ends)]
        self._reduced = [layer.reduced(part) for part in self._parts]

    def at(self, rank: int) -> tuple[Array, Array, float]:
        """The weight [k, n], the bias [n], and the squared error as a share of the variance."""
        weight, bias = (array.copy() for array in self._whole)
        for product, part, found in zip(self._products, self._parts, self._reduced, strict=True):
            if rank < least_gain(product):
                weight[:, part], bias[part] = found.at(rank)
        return weight, bias, self.lost(rank)

    def lost(self, rank: int) -> float:
        """The squared error at a rank, as a share of the variance; no weight is made for it."""
        pairs = zip(self._products, self._reduced, strict=True)
        return sum((found.lost(rank) for item, found in pairs if rank < least_gain(item)), 0.0)


def factored(site: Site, rank: int) -> None:
    """Write the products around a site as two each; their weights are of that rank already."""
    for product in around(site):
        if rank >= least_gain(product):
            continue
        matrix = matrix_of(product).astype(np.float64) / product.alpha
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        root = np.sqrt(values[:rank])
        parts = [(left[:, :rank] * root), (root[:, None] * right[:rank])]
        none = np.zeros(product.n, np.float32)
        first, second = (part.astype(np.float32) for part in parts)
        split(product, Factors(first, second, rank, 0.0, none))
