"""What a batch starts from: rows of tokens for the decoder, and what an encoder is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from burnish.optimizer.errors import UsageError
from burnish.runtimes.generate.sequences import Array, Integers
from burnish.runtimes.generate.settings import Settings


@dataclass(frozen=True)
class Prompts:
    """Prompts of a batch.

    Attributes:
        rows: the tokens that the decoder goes on from.
        encoded: tokens that an encoder is given, or none.
        features: what an encoder of sound or images is given, [rows, ...], or None.
    """

    rows: list[list[int]]
    encoded: list[list[int]]
    features: Array | None = None

    @property
    def count(self) -> int:
        """Tokens of all prompts."""
        return sum(map(len, self.encoded or self.rows))

    def whole(self) -> list[list[int]]:
        """All that was given for each row: what an encoder read, then the decoder's tokens."""
        read = self.encoded or [[] for _ in self.rows]
        return [[*text, *row] for text, row in zip(read, self.rows, strict=True)]

    @property
    def longest(self) -> int:
        """Tokens of the decoder's longest row."""
        return max(map(len, self.rows))

    def for_encoder(self, pad: int) -> tuple[Array, Integers]:
        """What an encoder is given, padded on the right, and its mask [rows, sequence]."""
        if self.features is not None:
            return self.features, np.ones((len(self.rows), 1), np.int64)
        longest = max(map(len, self.encoded))
        values = np.full((len(self.encoded), longest), pad, np.int64)
        mask = np.zeros((len(self.encoded), longest), np.int64)
        for place, row in enumerate(self.encoded):
            values[place, : len(row)], mask[place, : len(row)] = row, 1
        return values, mask


def for_decoder(rows: Sequence[Sequence[int]], settings: Settings) -> Prompts:
    """Prompts that a decoder goes on from by itself; an empty one is the token texts begin with.

    Raises:
        UsageError: one is empty, and there is no such token.
    """
    begin = [] if settings.bos_token_id is None else [settings.bos_token_id]
    filled = [list(row) or begin for row in rows]
    if not filled or not all(filled):
        raise UsageError("a prompt is empty, and the model has no token to begin with")
    return Prompts(filled, [])


def for_pair(
    encoded: Sequence[Sequence[int]],
    features: Array | None,
    begin: Sequence[int] | None,
    settings: Settings,
) -> Prompts:
    """Prompts of an encoder and a decoder, which begins with `begin` or as settings say.

    Raises:
        UsageError: nothing says what the decoder begins with, or a prompt is empty.
    """
    rows = [list(row) for row in encoded]
    if features is None and not (rows and all(rows)):
        raise UsageError("a prompt is empty")
    first = settings.decoder_start_token_id
    first = settings.bos_token_id if first is None else first
    if not begin and first is None:
        raise UsageError("no decoder_start_token_id says what the decoder begins with")
    start = list(begin or [first or 0])
    count = len(rows) if features is None else len(features)
    return Prompts([list(start) for _ in range(count)], rows, features)
