"""Texts as a model takes them: pieces, in batches of similar length, cut where they must be."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from burnish.optimizer.errors import UsageError
from burnish.runtimes.arrays import Array
from burnish.runtimes.tasks.folder import SENTENCES, TOKENIZER_CONFIG, Folder
from burnish.runtimes.tasks.ports import Opened, in_batches, surely

ROWS, PLACES = 32, 8192
"""Most texts of a batch, and most pieces, padding included."""

KNOWN = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
"""Inputs that are made of a text."""

UNBOUNDED = 1 << 30
"""Limits from here on are none: Transformers writes 1e30 for "not known"."""

Text = str | tuple[str, str]
"""A text, or a pair of such."""

Row = dict[str, Array]
"""The outputs of one text."""

Answer = TypeVar("Answer")


class TextsCut(UserWarning):
    """Texts were longer than the model takes, and were cut."""


class Texts:
    """The tokenizer of an artifact, and the batches that its model takes.

    Attributes:
        limit: most pieces of a text; None where nothing says one.
    """

    def __init__(self, folder: Folder, opened: Opened) -> None:
        self._opened = opened
        self._tokenizer = _tokenizer(folder)
        self._rows, self._width = ([*opened.fixed("input_ids"), None, None])[:2]
        self._settings = folder.settings(TOKENIZER_CONFIG)
        self.limit = _limit(folder, self._tokenizer, self._settings, self._width)
        self._padding = dict(self._tokenizer.padding or {})
        self.pad_id = _pad_id(folder.config, self._tokenizer, self._settings)
        self._tokenizer.no_padding()

    @property
    def tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer`."""
        return self._tokenizer

    def encode(self, texts: Sequence[Any], *, split: bool = False) -> list[Any]:
        """Pieces of texts (strings, pairs, or `split`: lists of words), cut at the limit.

        Warns `TextsCut` where they were.
        """
        self._truncate()
        found = self._tokenizer.encode_batch(list(texts), is_pretokenized=split)
        if cut := [index for index, item in enumerate(found) if item.overflowing]:
            warnings.warn(
                f"{len(cut)} of {len(found)} texts are longer than the {self.limit} pieces that "
                f"the model takes, and were cut (number {cut[0] + 1} is the first)",
                TextsCut,
                stacklevel=4,
            )
        return list(found)

    def windows(self, question: str, context: str, stride: int) -> list[Any]:
        """Pieces of a question with each part of a context; parts share `stride` pieces."""
        room = UNBOUNDED
        if self.limit is not None:
            taken = self._tokenizer.num_special_tokens_to_add(True)
            self._tokenizer.no_truncation()
            pieces = len(self._tokenizer.encode(question, add_special_tokens=False).ids)
            room = self.limit - taken - pieces
            if room < 1:
                raise UsageError(
                    f"the question has {pieces} pieces: with it the model takes no context"
                )
        self._truncate(strategy="only_second", stride=min(stride, room // 2))
        first = self._tokenizer.encode(question, context)
        return [first, *first.overflowing]

    def _truncate(self, **settings: Any) -> None:
        if self.limit is None:
            self._tokenizer.no_truncation()
        else:
            self._tokenizer.enable_truncation(self.limit, **settings)

    def run(
        self,
        encodings: Sequence[Any],
        outputs: Sequence[str],
        take: Callable[[int, Row], Answer],
    ) -> list[Answer]:
        """What `take` makes of the outputs of each encoding, in order.

        Args:
            encodings: see `encode`.
            outputs: names of those that are wanted.
            take: given the number of an encoding and its row of each output, padding included.
        """

        def answer(batch: list[int]) -> list[Answer]:
            feed = self.feed([encodings[index] for index in batch])
            found = self._opened.run(outputs, feed)
            return [
                take(index, {name: found[name][row] for name in outputs})
                for row, index in enumerate(batch)
            ]

        lengths = [len(item.ids) for item in encodings]
        # Without a mask, padding would be read as text.
        alike = self._width is None and "attention_mask" not in self._opened.inputs
        return in_batches(lengths, self._rows or ROWS, PLACES, answer, alike=alike)

    def feed(self, encodings: Sequence[Any], width: int = 0) -> dict[str, Array]:
        """The inputs that are made of texts, [batch, sequence], padded on the right.

        Args:
            encodings: see `encode`.
            width: least length, where the model does not fix it.
        """
        # What is padded to a fixed number of rows is answered, and dropped by the caller.
        rows = [*encodings] + [encodings[-1]] * ((self._rows or 0) - len(encodings))
        width = self._width or max(width, *(len(item.ids) for item in rows), 1)
        shape = (len(rows), width)
        ids = np.full(shape, self.pad_id)
        mask, kinds = np.zeros(shape, np.int64), np.full(shape, self._padding.get("pad_type_id", 0))
        for row, item in enumerate(rows):
            count = len(item.ids)
            ids[row, :count], mask[row, :count], kinds[row, :count] = item.ids, 1, item.type_ids
        made = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": kinds,
            "position_ids": np.maximum(mask.cumsum(axis=1) - 1, 0),
        }
        names = [name for name in self._opened.inputs if name in made]
        return {name: self._opened.cast(name, made[name]) for name in names}


def admit(opened: Opened, *others: str) -> None:
    """Raise where a model wants more than texts (and the inputs named)."""
    surely(opened.inputs, (*KNOWN, *others))


def _tokenizer(folder: Folder) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(folder.tokenizer))
    except Exception:  # the binding raises plain Exception for every failure
        raise UsageError(
            f"texts need a tokenizer, and {folder.tokenizer} is none", hint="--tokenizer FILE"
        ) from None


def _limit(
    folder: Folder, tokenizer: Any, settings: dict[str, Any], width: int | None
) -> int | None:
    """Most pieces of a text, by all that says so.

    The tokenizer's own truncation counts only where nothing else tells its limit: files of
    sentence-transformers hold the length of their training there.
    """
    told = folder.settings(SENTENCES).get("max_seq_length") or settings.get("model_max_length")
    if not isinstance(told, int | float) or told >= UNBOUNDED:
        told = (tokenizer.truncation or {}).get("max_length")
    limits = [width, int(told) if told else None, positions(folder.config)]
    return min((limit for limit in limits if limit), default=None)


def positions(config: dict[str, Any]) -> int | None:
    """Rows of a model's table of positions that texts can reach; None where none is told."""
    text = config.get("text_config")
    config = config | text if isinstance(text, dict) else config
    rows = config.get("max_position_embeddings") or config.get("n_positions")
    if not isinstance(rows, int):
        return None
    # RoBERTa and its kin, whose padding is piece 1, number positions from 2 on.
    return rows - 2 if config.get("pad_token_id") == 1 and rows > 2 else rows


def _pad_id(config: dict[str, Any], tokenizer: Any, settings: dict[str, Any]) -> int:
    """The piece that pads: the model's own, else the tokenizer's, else 0, which is masked."""
    told = config.get("pad_token_id")
    if isinstance(told, int) and told >= 0:
        return told
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"])
    named = token_text(settings.get("pad_token"))
    found = tokenizer.token_to_id(named) if named else None
    return found if isinstance(found, int) else 0


def token_text(entry: Any) -> str:
    """The text of a special token, which settings give as such or as an object."""
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else ""
