"""One batch, from its prompts to its texts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from burnish.optimizer.errors import UsageError
from burnish.runtimes.generate import loop
from burnish.runtimes.generate.beams import Beams
from burnish.runtimes.generate.choosing import Chooser
from burnish.runtimes.generate.decoder import Context, Decoder
from burnish.runtimes.generate.encoder import Encoder
from burnish.runtimes.generate.loop import Count, Guesses
from burnish.runtimes.generate.processors import processors_of
from burnish.runtimes.generate.prompts import Prompts
from burnish.runtimes.generate.sequences import Array, Integers, Sequences
from burnish.runtimes.generate.settings import Settings
from burnish.runtimes.generate.text import Stream, Vocabulary

EOS, STOP, LENGTH = "eos", "stop string", "length"
"""Why a text ended."""


@dataclass
class Generated:
    """What came of a batch, a row for each prompt.

    Attributes:
        ids: new tokens, the one that ends a text included.
        texts: without special tokens, and without a stop string and what follows it; empty where
            there is no tokenizer.
        ended: see `EOS` and its kin.
        scores: of beams, the sum of the logarithms of a text's probabilities over its length to
            the power of `length_penalty`; else empty.
        prompt_tokens, new_tokens: of all rows.
        first_seconds, seconds: until the first token was there, and in all.
        count: what the loop did.
        notes: what the user should know.
    """

    ids: list[list[int]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    first_seconds: float = 0.0
    seconds: float = 0.0
    count: Count = field(default_factory=Count)
    notes: list[str] = field(default_factory=list)

    @property
    def new_tokens(self) -> int:
        """Of all rows."""
        return sum(map(len, self.ids))


@dataclass(frozen=True)
class Model:
    """A decoder, its encoder where it has one, and its tokenizer where there is one."""

    decoder: Decoder
    encoder: Encoder | None
    vocabulary: Vocabulary | None


class Batch:
    """A batch on its way.

    Args:
        model: see there.
        prompts: see there.
        settings: see there.
        end: tokens, the prompt's included, at which texts end.
    """

    def __init__(self, model: Model, prompts: Prompts, settings: Settings, end: int) -> None:
        self.model, self.prompts, self.settings, self.end = model, prompts, settings, end
        self.start = time.perf_counter()
        self.made = Generated(prompt_tokens=prompts.count)
        self.state = Sequences.of(prompts.rows, settings.pad, end)
        self.processors = processors_of(settings, self.state.prompt, end, prompts.encoded)
        if model.vocabulary is None and settings.stop_strings:
            raise UsageError("a stop string needs a tokenizer, and there is none")
        self.streams = []
        if model.vocabulary is not None:
            stops = settings.stop_strings
            self.streams = [Stream(model.vocabulary, stops) for _ in range(self.state.rows)]

    def pieces(self) -> Iterator[tuple[int, str]]:
        """Generate; rows with pieces of their texts, as soon as those are certain."""
        yield from self._search() if self.settings.num_beams > 1 else self._grow()
        for row, stream in enumerate(self.streams):
            if piece := stream.finish():
                yield row, piece
        self.made.texts = [stream.text for stream in self.streams]
        self.made.seconds = time.perf_counter() - self.start

    def _grow(self) -> Iterator[tuple[int, str]]:
        """Token by token."""
        made, rows = self.made, self.state.rows
        made.ids, made.ended = [[] for _ in range(rows)], [LENGTH] * rows
        finished, ends = np.zeros(rows, bool), frozenset(self.settings.eos_token_id)
        choose = Chooser(self.settings, self.processors, rows)
        guesses = Guesses(self.prompts.whole(), self.settings.speculate, finished)
        for chosen in loop.tokens(
            self._context(), self.state, choose, self.end, self.settings.pad, guesses, made.count
        ):
            made.first_seconds = made.first_seconds or time.perf_counter() - self.start
            for row, token in enumerate(chosen.tolist()):
                if finished[row]:
                    continue
                made.ids[row].append(token)
                if self.streams and (piece := self.streams[row].push(token)):
                    yield row, piece
                if token in ends:
                    finished[row], made.ended[row] = True, EOS
                elif self.streams and self.streams[row].stopped:
                    finished[row], made.ended[row] = True, STOP

    def _search(self) -> Iterator[tuple[int, str]]:
        """By beams, whose texts are not certain before the search is over."""
        made, beams, state = self.made, self.settings.num_beams, self.state
        context = self._context()
        search = Beams(state, self.settings, self.end, self._ending())
        if self.model.encoder is None:
            logits = np.repeat(context.step(state.seen)[:, -1], beams, 0)
            context.rows(np.repeat(np.arange(state.rows), beams))
        else:
            logits = context.step(np.ascontiguousarray(search.running.seen))[:, -1]
        made.count.runs, made.first_seconds = 1, time.perf_counter() - self.start
        loop.beams(context, logits, search, self.processors, made.count)
        for row, (tokens, score) in enumerate(search.best()):
            made.ids.append(tokens)
            made.scores.append(score)
            made.ended.append(
                EOS if tokens and tokens[-1] in self.settings.eos_token_id else LENGTH
            )
            if self.streams:
                yield row, "".join(self.streams[row].push(token) for token in tokens)
                made.ended[row] = STOP if self.streams[row].stopped else made.ended[row]

    def _context(self) -> Context:
        """What has seen nothing yet but what the encoder read."""
        decoder, encoder, rows = self.model.decoder, self.model.encoder, self.state.rows
        capacity = self.state.tokens.shape[1]
        if encoder is None:
            return Context(decoder, self.state.mask(), rows, capacity)
        copies = self.settings.num_beams
        values, mask = self.prompts.for_encoder(self.settings.pad)
        fixed, seen = encoder(values, mask, copies), np.repeat(mask, copies, 0)
        return Context(decoder, None, rows * copies, capacity, fixed, seen)

    def _ending(self) -> Callable[[Integers], Array]:
        """Whether rows of tokens [rows, length] end with their last one."""
        ends, stops = np.array(self.settings.eos_token_id, np.int64), self.settings.stop_strings
        vocabulary = self.model.vocabulary

        def ended(rows: Integers) -> Array:
            found = np.isin(rows[:, -1], ends)
            if vocabulary is None or not stops:
                return found
            for row in np.flatnonzero(~found):
                text = vocabulary.decode(rows[row, self.state.prompt :].tolist())
                found[row] = any(stop in text for stop in stops)
            return found

        return ended
