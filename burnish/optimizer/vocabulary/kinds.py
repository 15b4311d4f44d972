"""What differs between the kinds of tokenizers, as far as a smaller vocabulary is concerned."""

from __future__ import annotations

import abc
import re
from collections.abc import Set
from typing import Any

from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.vocabulary.numbers import Numbers

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""A piece that stands for a byte of a character that has no piece."""


class Kind(abc.ABC):
    """The `model` of a tokenizer.json.

    Args:
        model: what stands there.
    """

    def __init__(self, model: dict[str, Any]) -> None:
        self.model = model

    @property
    @abc.abstractmethod
    def pieces(self) -> dict[str, int]:
        """Ids by piece."""

    @property
    @abc.abstractmethod
    def unknown(self) -> int | None:
        """The id of what has no piece."""

    @abc.abstractmethod
    def closed(self, kept: Set[int]) -> set[int]:
        """The ids with those that are needed for texts of them to be split as before."""

    @abc.abstractmethod
    def cut(self, numbers: Numbers) -> dict[str, Any]:
        """The model with only the kept pieces, under their new ids."""

    def character(self, piece: str) -> str:
        """The character that a piece is, wherever in a word; empty where it is none or several."""
        return piece if len(piece) == 1 else ""


class Listed(Kind):
    """A kind whose vocabulary is an object of ids by piece."""

    @property
    def pieces(self) -> dict[str, int]:
        """Ids by piece."""
        found = self.model["vocab"]
        if not isinstance(found, dict) or not all(isinstance(i, int) for i in found.values()):
            raise UnsupportedModel("the vocabulary of tokenizer.json is no object of ids by piece")
        return found

    @property
    def unknown(self) -> int | None:
        """The id of what has no piece."""
        return self.pieces.get(self.model.get("unk_token") or "")

    def cut(self, numbers: Numbers) -> dict[str, Any]:
        """The model with only the kept pieces, under their new ids."""
        kept = {piece: numbers.new[old] for piece, old in self.pieces.items() if old in numbers.new}
        return {**self.model, "vocab": dict(sorted(kept.items(), key=lambda item: item[1]))}
