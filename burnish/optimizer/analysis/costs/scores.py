"""The memory of an attention's scores as a function of the length, by the form that computes it."""

from __future__ import annotations

NARROWEST = 64
"""Least rows of a block of queries: products of fewer were slower at any window."""

CHUNK = 1 << 28
"""Bytes of the scores of those queries that are taken at a time where sequences are very long."""

LENGTHS = (512, 4096, 32768)
"""Tokens at which reports tell the memory."""


def block_of(width: int) -> int:
    """Queries that are taken together within a window: about a quarter of it, a power of two.

    A quarter more work than the window has by itself, in products that are not too small.
    """
    return max(NARROWEST, 1 << max(0, (width // 4).bit_length() - 1))


def scores(heads: int, length: int, width: int | None) -> dict[str, int]:
    """Bytes of float32 scores for one sequence, by form.

    `dense` has all queries with all keys, `chunks` some queries with all keys, and `blocks` (where
    a query sees at most `width` keys around it) each block with the keys that it reaches.
    """
    dense = 4 * heads * length * length
    found = {"dense": dense, "chunks": min(dense, CHUNK)}
    if width is not None:
        block = min(block_of(width), length)
        blocks = -(-length // block)
        found["blocks"] = 4 * heads * blocks * block * (block + width - 1)
    return found
