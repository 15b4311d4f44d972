"""What is left of the heads and hidden channels of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pruned:
    """What became of the heads, or the hidden channels, between some products.

    Attributes:
        site: the value that holds them.
        kind: `heads` or `channels`.
        before, after: how many there were, and are.
        flops_before, flops_after: operations of the products, with those of the attention.
        lost: squared error of what the products behind give, as a share of its variance, on the
            data that weights were found with.
        sizes: elements of a head of queries and keys, and of values; None where they stay.
        rank: of the products around it, which are two each; None where they stay one.
    """

    site: str
    kind: str
    before: int
    after: int
    flops_before: float
    flops_after: float
    lost: float
    sizes: tuple[int, int] | None = None
    rank: int | None = None
