"""What a student is trained on, in batches of alike length, and what it is judged on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from burnish.optimizer import user_data
from burnish.optimizer.contract import Feeds
from burnish.optimizer.errors import StorageError, UsageError
from burnish.optimizer.roles import Slot
from burnish.optimizer.user_data import LONGEST, Splitter

SHARE = 20
"""One text of so many is held out."""

MOST_HELD = 512
"""Texts that are held out at most."""

FEW = 8
"""Feeds of which one is held out; of fewer it is one of these."""

JITTER = 0.1
"""By how much of its length a text may be sorted as a longer one, so that lengths mix a little."""


class Batches:
    """Batches by number, the same for the same seed.

    Args:
        path: texts (`.txt`, `.jsonl`) or arrays (`.npz`, a folder of those, `.jsonl`).
        slots: the teacher's inputs.
        tokenizer: see `Splitter`.
        rows: texts of a batch.
        seed: of their order.
        longest: pieces of a text past which it is cut; 0 for what the model says.

    Attributes:
        held: feeds that nothing is trained on.
        count: batches of one pass over the data.
        texts: how many texts (or feeds) are trained on.

    Raises:
        StorageError, UsageError: see `user_data`; or there is too little data.
    """

    def __init__(
        self, path: Path, slots: Sequence[Slot], tokenizer: Path, rows: int, seed: int,
        longest: int = 0,
    ) -> None:  # fmt: skip
        if not path.exists():
            raise StorageError(f"data {path} does not exist")
        self._seed = seed
        self._texts = user_data.texts_in(path)
        self._feeds: list[Feeds] = []
        self._order: tuple[int, list[int]] = (-1, [])
        if self._texts:
            self._splitter = Splitter(slots, tokenizer, longest or LONGEST)
            self._rows = self._splitter.rows or rows
            self.held = self._hold_texts()
        else:
            self._feeds = user_data.feeds_in(path, slots)
            self.held = self._hold_feeds(path)
        self.texts = len(self._texts) or len(self._feeds)
        self._parts = self._apart()
        self.count = len(self._parts)

    def batch(self, number: int) -> tuple[int, Feeds]:
        """The batch of that number, counted over all passes, and which of one pass it is."""
        which = self._place(number)
        chosen = self._parts[which]
        if self._feeds:
            return which, self._feeds[chosen[0]]
        return which, self._splitter.feed([self._texts[index] for index in chosen])

    def longest(self) -> Feeds:
        """A feed of the longest texts, or the largest feed."""
        if self._feeds:
            return max((*self.held, *self._feeds), key=_elements)
        return self._splitter.feed(sorted(self._texts, key=len)[-self._rows :])

    def _hold_texts(self) -> list[Feeds]:
        """Take evenly spread texts out, and make feeds of them."""
        count = min(MOST_HELD, max(len(self._texts) // SHARE, self._rows))
        if len(self._texts) < 2 * count:
            told = f"{len(self._texts)} texts are too few to train on and to judge by"
            raise UsageError(told, hint=f"{2 * self._rows} or more")
        places = {*np.linspace(0, len(self._texts) - 1, count).round().astype(int).tolist()}
        held = sorted((self._texts[index] for index in places), key=len)
        self._texts = [text for index, text in enumerate(self._texts) if index not in places]
        starts = range(0, len(held) - self._rows + 1, self._rows)
        return [self._splitter.feed(held[start : start + self._rows]) for start in starts]

    def _hold_feeds(self, path: Path) -> list[Feeds]:
        if len(self._feeds) < 2:
            raise UsageError(f"data {path} is one feed: none would be left to judge by")
        held = self._feeds[::FEW]
        self._feeds = [feed for index, feed in enumerate(self._feeds) if index % FEW]
        return held

    def _apart(self) -> list[list[int]]:
        """The batches of each pass, as indices of texts or of a feed each.

        All passes have the same ones, so that a teacher is asked about each once (see `Memory`).
        """
        if self._feeds:
            return [[index] for index in range(len(self._feeds))]
        random = np.random.default_rng([self._seed, 0])
        stretched = 1.0 + JITTER * random.random(len(self._texts))
        order = np.argsort([len(text) for text in self._texts] * stretched, kind="stable")
        starts = range(0, len(order) - self._rows + 1, self._rows)
        return [order[start : start + self._rows].tolist() for start in starts]

    def _place(self, number: int) -> int:
        """The index of a batch: each pass has its own order."""
        epoch = number // self.count
        if self._order[0] != epoch:
            random = np.random.default_rng([self._seed, 1, epoch])
            self._order = epoch, random.permutation(self.count).tolist()
        return self._order[1][number % self.count]


def _elements(feed: Feeds) -> int:
    return sum(array.size for array in feed.values())
