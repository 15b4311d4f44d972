"""The loops: one token after the other, several where guesses come true, or beams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from burnish.runtimes.generate.beams import Beams
from burnish.runtimes.generate.choosing import Chooser
from burnish.runtimes.generate.decoder import Context
from burnish.runtimes.generate.lookup import Lookup
from burnish.runtimes.generate.processors import Processor, log_softmax
from burnish.runtimes.generate.sequences import Array, Integers, Numbers, Sequences


@dataclass
class Count:
    """What a loop did.

    Attributes:
        runs: of the decoder.
        proposed, right: tokens that were guessed for a row, and those of them that came.
    """

    runs: int = 0
    proposed: int = 0
    right: int = 0


def tokens(
    context: Context,
    state: Sequences,
    choose: Chooser,
    end: int,
    pad: int,
    guesses: Guesses,
    count: Count,
) -> Iterator[Integers]:
    """Grow a batch until every row has finished, or `end` tokens are there.

    A run is given the last token and what is guessed to follow; each guess that is what is chosen
    saves a run, and what was computed after the first that is not is cut off. Rows that have
    finished take no part in later runs.

    Yields:
        The next token of each row, [rows]. Whoever takes them says in `guesses.finished` which rows
        have ended; those get padding from then on.
    """
    finished, rows = guesses.finished, np.arange(state.rows)
    feed = np.ascontiguousarray(state.seen)
    while state.length < end and not finished.all():
        guess = guesses.next(end - state.length - 1)
        wanted, seen = guess.shape[1], context.length + feed.shape[1]
        if finished[rows].any():
            going = np.flatnonzero(~finished[rows])
            context.keep(going)
            rows, feed = rows[going], feed[going]
        given = np.concatenate([feed, guess[rows]], 1) if wanted else feed
        logits = _spread(context.step(given, 1 + wanted), rows, state.rows)
        count.runs += 1
        for place in range(1 + wanted):
            chosen = choose(state, logits[:, place], finished)
            if finished.any():
                chosen = np.where(finished, pad, chosen)
            state.append(chosen)
            guesses.append(chosen)
            yield chosen
            if place == wanted or finished.all() or not guesses.right(guess[:, place], chosen):
                break
        if wanted:
            count.proposed, count.right = count.proposed + wanted, count.right + place
            guesses.learn(wanted, place)
            context.cut(seen + place)
        feed = np.ascontiguousarray(state.tokens[rows, state.length - 1 : state.length])


def _spread(logits: Numbers, rows: Integers, count: int) -> Numbers:
    """Logits of some rows in the places of all."""
    if len(rows) == count:
        return logits
    spread = np.zeros((count, *logits.shape[1:]), np.float32)
    spread[rows] = logits
    return spread


class Guesses:
    """What is guessed for the rows of a batch; those that have finished do not count.

    Args:
        texts: what tokens are looked up in, for each row; its last ones are the row's.
        most: tokens that are guessed at most; 0 for none at all.
        finished: [rows], changed by others.
    """

    def __init__(self, texts: Iterable[list[int]], most: int, finished: Array) -> None:
        self.finished, self._none = finished, np.empty((len(finished), 0), np.int64)
        self._lookups = [Lookup(text, most) for text in texts] if most else []

    def next(self, most: int) -> Integers:
        """Tokens that may come, [rows, count]: as many as every row has a guess for."""
        if not self._lookups or most <= 0:
            return self._none
        active = np.flatnonzero(~self.finished)
        found = {row: self._lookups[row].propose() for row in active}
        width = min([most, *map(len, found.values())])
        guess = np.zeros((len(self.finished), width), np.int64)
        for row, proposed in found.items():
            guess[row] = proposed[:width]
        return guess

    def append(self, chosen: Integers) -> None:
        """The token that came in each row."""
        for lookup, token in zip(self._lookups, chosen, strict=False):
            lookup.append(int(token))

    def right(self, guessed: Integers, chosen: Integers) -> bool:
        """Whether what was guessed is what came."""
        return bool(((guessed == chosen) | self.finished).all())

    def learn(self, proposed: int, right: int) -> None:
        """How many of the tokens proposed came."""
        for lookup in self._lookups:
            lookup.learn(proposed, right)


def beams(
    context: Context,
    first: Array,
    search: Beams,
    processors: list[Processor],
    count: Count,
) -> None:
    """Search until nothing better can come.

    Args:
        context: with a row for each beam, which has seen the prompts.
        first: logits after the prompts, [rows * beams, vocabulary].
        search: see there.
        processors: what is done to the logarithms of probabilities.
        count: is added to.
    """
    logits = first
    while True:
        chances = log_softmax(np.asarray(logits, np.float32))
        for processor in processors:
            processor(search.running, chances)
        parents, chosen = search.advance(chances)
        if search.done:
            return
        context.rows(parents)
        logits = context.step(np.ascontiguousarray(chosen)[:, None])[:, -1]
        count.runs += 1
