"""Bookkeeping of a beam search, as Transformers does it (`_beam_search` in `generation/utils.py`).

Each text has as many running beams as are asked for, and keeps as many that have ended. A step
takes the best continuations of all beams together; those that end compete with what has ended by
their mean logarithm, divided by the length to the power of `length_penalty`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from burnish.runtimes.generate.sequences import Array, Integers, Numbers, Sequences
from burnish.runtimes.generate.settings import Settings

OUT = np.float32(-1e9)
"""Added to scores that must not win."""

Ends = Callable[[Integers], Array]
"""Whether rows of tokens [rows, length] end with their last one, [rows]."""


class Beams:
    """The beams of a batch.

    Args:
        prompts: the texts so far, one row each.
        settings: see there.
        end: tokens at which texts end at the latest.
        ends: what else ends them.
    """

    def __init__(self, prompts: Sequences, settings: Settings, end: int, ends: Ends) -> None:
        count, self.settings, self.end, self._ends = settings.num_beams, settings, end, ends
        self.count, self.prompt = count, prompts.prompt
        capacity = max(end, prompts.length + 1)
        tokens = np.full((prompts.rows * count, capacity), settings.pad, np.int64)
        tokens[:, : prompts.length] = np.repeat(prompts.seen, count, 0)
        starts = np.repeat(prompts.starts, count)
        self.running = Sequences(tokens, starts, prompts.prompt, prompts.length)
        shape = (prompts.rows, count)
        self.scores = np.full(shape, OUT, np.float32)
        self.scores[:, 0] = 0  # beams begin alike: all but one would only repeat it
        self.ended = tokens.reshape(*shape, capacity).copy()
        self.ended_lengths = np.full(shape, prompts.length)
        self.ended_scores = np.full(shape, OUT, np.float32)
        self.is_ended = np.zeros(shape, bool)
        self.improvable = np.ones((prompts.rows, 1), bool)
        self.done = False

    def advance(self, chances: Numbers) -> tuple[Integers, Integers]:
        """Take a step by the logarithms of probabilities [rows * beams, vocabulary].

        Returns:
            For each beam that runs on, the row that it continues, and its new token.
        """
        rows, count = self.scores.shape
        kept = max(2, 1 + len(self.settings.eos_token_id)) * count
        vocabulary = chances.shape[-1]
        sums = (chances.reshape(rows, count, -1) + self.scores[:, :, None]).reshape(rows, -1)
        best = _best(sums, kept)
        scores, parents = np.take_along_axis(sums, best, 1), best // vocabulary
        length = self.running.length
        before = self.running.tokens.reshape(rows, count, -1)
        tokens = np.take_along_axis(before, parents[:, :, None], 1)
        tokens[:, :, length] = best % vocabulary
        grown = tokens[:, :, : length + 1].reshape(rows * kept, -1)
        stops = self._ends(grown) | (length + 1 >= self.end)
        stops = stops.reshape(rows, kept)

        still = (scores + stops * OUT).astype(np.float32)
        on = _best(still, count)
        self.scores = np.take_along_axis(still, on, 1)
        running = np.take_along_axis(tokens, on[:, :, None], 1).reshape(rows * count, -1)
        sources = np.take_along_axis(parents, on, 1) + count * np.arange(rows)[:, None]

        self._keep(tokens, scores, stops, length + 1)
        self.running.tokens, self.running.length = running, length + 1
        self._judge(stops)
        return sources.ravel(), running[:, length]

    def _keep(self, tokens: Integers, scores: Numbers, stops: Array, length: int) -> None:
        """Let what has just ended compete with what had; only the best `beams` may end."""
        count, early = self.count, self.settings.early_stopping == "true"
        ended = stops & (np.arange(stops.shape[1]) < count)
        scores = (scores / np.float32(self._penalty(length - self.prompt))).astype(np.float32)
        scores += (self.is_ended.all(-1, keepdims=True) & early) * OUT
        scores += ~self.improvable * OUT
        scores += ~ended * OUT
        merged = np.concatenate([self.ended_scores, scores], 1)
        best = _best(merged, count)
        self.ended_scores = np.take_along_axis(merged, best, 1)
        everything = np.concatenate([self.ended, tokens], 1)
        self.ended = np.take_along_axis(everything, best[:, :, None], 1)
        lengths = np.concatenate([self.ended_lengths, np.full(stops.shape, length)], 1)
        self.ended_lengths = np.take_along_axis(lengths, best, 1)
        self.is_ended = np.take_along_axis(np.concatenate([self.is_ended, ended], 1), best, 1)

    def _judge(self, stops: Array) -> None:
        """Find out whether it can go on, and whether that may still improve what has ended."""
        early, length = self.settings.early_stopping, self.running.length - self.prompt
        if early == "never" and self.settings.length_penalty > 0:
            length = self.end - self.prompt
        hope = self.scores[:, :1] / np.float32(self._penalty(length))
        worst = np.where(self.is_ended, self.ended_scores.min(1, keepdims=True), OUT)
        self.improvable &= (hope > worst).any(-1, keepdims=True)
        closed = early == "true" and self.is_ended.all()
        self.done = bool(not self.improvable.any() or closed or stops.all())

    def _penalty(self, length: int) -> float:
        return float(length**self.settings.length_penalty)

    def best(self) -> list[tuple[list[int], float]]:
        """The tokens after the prompt of the best text of each row, and its score."""
        found = []
        for row in range(len(self.ended)):
            tokens = self.ended[row, 0, self.prompt : self.ended_lengths[row, 0]]
            found.append(([int(token) for token in tokens], float(self.ended_scores[row, 0])))
        return found


def _best(scores: Numbers, count: int) -> Integers:
    """Places of the largest numbers in each row, the largest first, [rows, count]."""
    if scores.shape[1] > 8 * count:
        some = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    else:
        some = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    order = np.argsort(-np.take_along_axis(scores, some, 1), axis=1, kind="stable")
    best: Integers = np.take_along_axis(some, order[:, :count], 1)
    return best
