"""Prompt lookup: what came after the same words before is guessed to come again.

Saxena, Prompt Lookup Decoding, github.com/apoorvumang/prompt-lookup-decoding (2023). Texts that
quote (summaries, code that is edited, answers about a document) repeat much of what they were
given. A guess costs no model, and tokens are chosen as without it: it only lets several be
verified in one run.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 3
"""Tokens of the longest n-gram that is looked up."""

LEAST = 2
"""... and of the shortest: after single tokens too much else comes."""


class Lookup:
    """Where each n-gram of a text ended last; grows with the text.

    How many tokens are guessed doubles where all were right, up to `most`, and halves where none
    was, down to one.
    """

    def __init__(self, tokens: Sequence[int], most: int) -> None:
        self.tokens: list[int] = []
        self.most = self.count = most
        self._ends: dict[tuple[int, ...], int] = {}
        for token in tokens:
            self.append(token)

    def append(self, token: int) -> None:
        """One more token; n-grams before it may be found from now on, with it as what follows."""
        for size in range(LEAST, LONGEST + 1):
            if len(self.tokens) >= size:
                self._ends[tuple(self.tokens[-size:])] = len(self.tokens)
        self.tokens.append(token)

    def propose(self) -> list[int]:
        """What may come next; empty where the last tokens have not been seen before."""
        for size in range(LONGEST, LEAST - 1, -1):
            end = self._ends.get(tuple(self.tokens[-size:]))
            if end is not None:
                return self._following(end)
        return []

    def _following(self, end: int) -> list[int]:
        """Tokens from a place on; where they reach the end, what repeats goes on repeating."""
        period = len(self.tokens) - end
        return [self.tokens[end + index % period] for index in range(self.count)]

    def learn(self, proposed: int, right: int) -> None:
        """How many of the proposed tokens came."""
        if right == proposed:
            self.count = min(self.count * 2, self.most)
        elif not right:
            self.count = max(self.count // 2, 1)
