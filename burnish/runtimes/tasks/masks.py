"""Tokens for masked places of texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from burnish.optimizer.errors import UsageError
from burnish.runtimes.tasks.answers import Filling
from burnish.runtimes.tasks.folder import TOKENIZER_CONFIG, Folder
from burnish.runtimes.tasks.ports import Opened
from burnish.runtimes.tasks.task import Task, softmax
from burnish.runtimes.tasks.texts import Row, Texts, admit, token_text

SPELLINGS = ("[MASK]", "<mask>", "<|mask|>")
"""Of the token that masks, where no file names it."""


class FillMask(Task):
    """Called on a text that holds the tokenizer's mask, or a list of such texts.

    Attributes:
        mask: how the mask is written.
        mask_id: the number of its piece.
    """

    name = "fill-mask"

    def __init__(self, folder: Folder, opened: Opened) -> None:
        super().__init__(folder, opened)
        admit(opened)
        self.texts = Texts(folder, opened)
        self._logits = self.output("logits")
        told = token_text(folder.settings(TOKENIZER_CONFIG).get("mask_token"))
        known = [told] if told else SPELLINGS
        ids = {name: self.texts.tokenizer.token_to_id(name) for name in known}
        self.mask = next((name for name in ids if ids[name] is not None), "")
        if not self.mask:
            raise UsageError("its tokenizer has no token that masks")
        self.mask_id: int = ids[self.mask]

    @overload
    def __call__(self, texts: str, *, most: int = 5) -> list[list[Filling]]: ...

    @overload
    def __call__(self, texts: list[str], *, most: int = 5) -> list[list[list[Filling]]]: ...

    def __call__(
        self, texts: str | list[str], *, most: int = 5
    ) -> list[list[Filling]] | list[list[list[Filling]]]:
        """For each masked place of each text the `most` likely tokens, the likeliest first.

        Raises:
            UsageError: a text has no mask, or lost it where it was cut.
        """
        encodings = self.texts.encode([texts] if isinstance(texts, str) else texts)
        places = [
            [place for place, piece in enumerate(item.ids) if piece == self.mask_id]
            for item in encodings
        ]
        if not all(places):
            where = next(index for index, row in enumerate(places) if not row)
            raise UsageError(f"text {where + 1} holds no {self.mask} to fill")
        found = self.texts.run(
            encodings,
            [self._logits],
            lambda index, row: self._fillings(row, places[index], most),
        )
        return found[0] if isinstance(texts, str) else found

    def _fillings(self, row: Row, places: Sequence[int], most: int) -> list[list[Filling]]:
        chosen = softmax(row[self._logits][places])
        return [
            [self._filling(values, piece) for piece in (-values).argsort(kind="stable")[:most]]
            for values in chosen
        ]

    def _filling(self, values: Any, piece: Any) -> Filling:
        token = self.texts.tokenizer.decode([int(piece)]).strip()
        named = token or self.texts.tokenizer.id_to_token(int(piece)) or ""
        return Filling(named, int(piece), float(values[piece]))
