"""How a token is chosen by its scores: the best one, or one that is drawn."""

from __future__ import annotations

import numpy as np

from burnish.runtimes.generate.processors import Processor
from burnish.runtimes.generate.sequences import Array, Integers, Numbers, Sequences
from burnish.runtimes.generate.settings import Settings


class Chooser:
    """Chooses the next token of each row.

    Every row draws from a stream of its own, one number for each token, so that a text is the
    same whatever it is in a batch with.

    Args:
        settings: see there.
        processors: what is done to scores before.
        rows: how many there are.
    """

    def __init__(self, settings: Settings, processors: list[Processor], rows: int) -> None:
        self.settings, self.processors = settings, processors
        seeds = [[settings.seed, row] for row in range(rows)] if settings.do_sample else []
        self.streams = [np.random.default_rng(seed) for seed in seeds]

    def __call__(self, state: Sequences, scores: Numbers, finished: Array) -> Integers:
        """The tokens that come next, [rows]; any for rows that have finished.

        Args:
            state: the tokens so far.
            scores: [rows, vocabulary].
            finished: [rows].
        """
        if self.processors:
            scores = np.array(scores, np.float32)
            for processor in self.processors:
                processor(state, scores)
        if not self.streams:
            best: Integers = scores.argmax(-1)
            return best
        drawn = [
            0 if done else draw(row, self.settings, stream.random())
            for row, stream, done in zip(scores, self.streams, finished, strict=True)
        ]
        return np.array(drawn, np.int64)


def draw(scores: Numbers, settings: Settings, number: float) -> int:
    """The token that a number in [0, 1) stands for, among those that settings leave."""
    tokens, chances = distribution(scores, settings)
    sums = chances.cumsum()
    place = int(np.searchsorted(sums, number * sums[-1], side="right"))
    return int(tokens[min(place, len(tokens) - 1)])


def distribution(scores: Numbers, settings: Settings) -> tuple[Integers, np.ndarray]:
    """Tokens that may be drawn, most probable first, with their probabilities (float64).

    Temperature, then the `top_k` best (and what is as good as the last of them), then the fewest
    whose probabilities add up to `top_p` (Holtzman et al., arXiv:1904.09751), then those of at
    least `min_p` times the best one's (Nguyen et al., arXiv:2407.01082).
    """
    count = settings.top_k
    if 0 < count < len(scores):
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        tokens = np.flatnonzero(scores >= least)
    else:
        tokens = np.arange(len(scores))
    kept = scores[tokens].astype(np.float64) / settings.temperature
    order = np.argsort(-kept, kind="stable")
    tokens, kept = tokens[order], kept[order]
    chances = np.exp(kept - kept[0])
    chances /= chances.sum()
    if settings.top_p < 1.0:
        above = chances.cumsum() - chances
        size = max(1, int((above < settings.top_p).sum()))
        tokens, chances = tokens[:size], chances[:size] / chances[:size].sum()
    if settings.min_p > 0.0:
        size = int((chances >= settings.min_p * chances[0]).sum())
        tokens, chances = tokens[:size], chances[:size] / chances[:size].sum()
    return tokens, chances
