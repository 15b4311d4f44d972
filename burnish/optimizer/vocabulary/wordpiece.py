"""WordPiece: a word is split into the longest pieces, from its start on.

Where the longest piece is kept, it is still the longest: texts of kept pieces need no others.
"""

from __future__ import annotations

from collections.abc import Set

from burnish.optimizer.vocabulary.kinds import Listed


class WordPiece(Listed):
    """WordPiece, and WordLevel, whose pieces are whole words."""

    def closed(self, kept: Set[int]) -> set[int]:
        """The ids themselves."""
        return set(kept)

    def character(self, piece: str) -> str:
        """The character that a piece is, at the start of a word or further on."""
        return super().character(piece.removeprefix(self._prefix))

    @property
    def _prefix(self) -> str:
        return self.model.get("continuing_subword_prefix") or ""
