"""Unigram (Kudo 2018, arXiv:1804.10959): the pieces whose scores have the largest sum.

Every way to split a text into kept pieces was there before, so that the best one stays the best
where its pieces are kept. What has no piece scores 10 less than the least of all pieces
(`kUnkPenalty` of SentencePiece): that one is kept, too.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.vocabulary.kinds import Kind
from burnish.optimizer.vocabulary.numbers import Numbers


class Unigram(Kind):
    """Unigram; the vocabulary is a list of pieces with their scores, by id."""

    @property
    def pieces(self) -> dict[str, int]:
        """Ids by piece."""
        return {piece: index for index, (piece, _) in enumerate(self._rows)}

    @property
    def unknown(self) -> int | None:
        """The id of what has no piece."""
        found = self.model.get("unk_id")
        return found if isinstance(found, int) else None

    def closed(self, kept: Set[int]) -> set[int]:
        """The ids, and the least probable one."""
        scores = [score for _, score in self._rows]
        return {*kept, scores.index(min(scores))}

    def cut(self, numbers: Numbers) -> dict[str, Any]:
        """The model with only the kept pieces, under their new ids."""
        unknown = self.unknown
        rows = self._rows
        return {
            **self.model,
            "unk_id": None if unknown is None else numbers.new[unknown],
            "vocab": [rows[old] for old in numbers.kept if old < len(rows)],
        }

    @property
    def _rows(self) -> list[tuple[str, float]]:
        rows = self.model["vocab"]
        if not (rows and isinstance(rows, list) and all(len(row) == 2 for row in rows)):
            raise UnsupportedModel("the vocabulary of tokenizer.json is no list of scored pieces")
        return rows
