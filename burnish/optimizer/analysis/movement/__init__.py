"""Chains of nodes that only move elements, as one map from places to places."""

from burnish.optimizer.analysis.movement.moves import Move, Moves
from burnish.optimizer.analysis.movement.places import identity, inverted, rows_of, strides, width
from burnish.optimizer.analysis.movement.slabs import Slabs, slabs_of

__all__ = [
    "Move",
    "Moves",
    "Slabs",
    "identity",
    "inverted",
    "rows_of",
    "slabs_of",
    "strides",
    "width",
]
