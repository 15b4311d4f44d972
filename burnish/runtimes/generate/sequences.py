"""The tokens of a batch as they grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float32]


@dataclass
class Sequences:
    """Rows of tokens that end at the same place; shorter prompts begin later.

    Attributes:
        tokens: [rows, capacity]; see `seen` for those that are there.
        starts: [rows], where each row begins; padding is before it.
        prompt: length of the prompts, with padding.
        length: tokens of each row so far, with padding.
    """

    tokens: Integers
    starts: Integers
    prompt: int
    length: int

    @classmethod
    def of(cls, prompts: list[list[int]], pad: int, capacity: int) -> Sequences:
        """Prompts, padded on the left, with room for so many tokens in all."""
        longest = max(len(prompt) for prompt in prompts)
        tokens = np.full((len(prompts), max(capacity, longest)), pad, np.int64)
        for row, prompt in enumerate(prompts):
            tokens[row, longest - len(prompt) : longest] = prompt
        starts = np.array([longest - len(prompt) for prompt in prompts], np.int64)
        return cls(tokens, starts, longest, longest)

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.tokens)

    @property
    def seen(self) -> Integers:
        """[rows, length], the tokens so far."""
        return self.tokens[:, : self.length]

    @property
    def new(self) -> int:
        """Tokens of each row after the prompt."""
        return self.length - self.prompt

    def append(self, tokens: Integers) -> None:
        """One more token of each row, [rows]."""
        self.tokens[:, self.length] = tokens
        self.length += 1

    def mask(self) -> Integers:
        """[rows, prompt], 1 where a token of a prompt is, 0 where padding is."""
        return (np.arange(self.prompt) >= self.starts[:, None]).astype(np.int64)
