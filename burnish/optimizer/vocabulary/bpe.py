"""Byte-pair encoding: of the pairs of neighbours that are in a list, the first is merged.

A piece is reached by merging its characters, pair by pair. What is merged within a piece does not
depend on what is beside it, since no merge crosses its ends: so a text of kept pieces is split as
before where the pieces on the way to each are kept, and merges stay in their order. Merges that
give other pieces go, since they would give what there is no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from itertools import pairwise
from typing import Any

from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.vocabulary.kinds import Listed
from burnish.optimizer.vocabulary.numbers import Numbers


class Bpe(Listed):
    """BPE, of bytes or of characters."""

    def __init__(self, model: dict[str, Any]) -> None:
        super().__init__(model)
        if model.get("continuing_subword_prefix"):
            raise UnsupportedModel("merges of pieces with a prefix for continuing words")
        self._ranks = {pair: rank for rank, pair in enumerate(map(_pair, model["merges"]))}
        self._suffix: str = model.get("end_of_word_suffix") or ""

    def closed(self, kept: Set[int]) -> set[int]:
        """The ids, and those of the pieces on the way to each."""
        ids = self.pieces
        found = set(kept)
        for piece in [piece for piece, old in ids.items() if old in kept]:
            found |= {ids[part] for part in self._way(piece) if part in ids}
        return found

    def cut(self, numbers: Numbers) -> dict[str, Any]:
        """The model with only the kept pieces, under their new ids, and the merges among them."""
        model = super().cut(numbers)
        there = model["vocab"]
        pairs = ((merge, _pair(merge)) for merge in self.model["merges"])
        merges = [merge for merge, (a, b) in pairs if a in there and b in there and a + b in there]
        return {**model, "merges": merges}

    def character(self, piece: str) -> str:
        """The character that a piece is, at the end of a word or before."""
        return super().character(piece.removesuffix(self._suffix) or piece)

    def _way(self, piece: str) -> Iterator[str]:
        """The pieces that merging goes through up to a piece; none where it does not get there."""
        bare = piece.removesuffix(self._suffix) if self._suffix else piece
        parts = list(bare)
        if bare != piece and parts:
            parts[-1] += self._suffix
        passed = list(parts)
        while len(parts) > 1:
            ranks = [self._ranks.get(pair, -1) for pair in pairwise(parts)]
            usable = [rank for rank in ranks if rank >= 0]
            if not usable:
                return
            place = ranks.index(min(usable))
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
            passed.append(parts[place])
        yield from passed


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """The two pieces of a merge, in either spelling of the format."""
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second
