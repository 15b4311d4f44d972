"""What is done to the scores of the next token before one is chosen.

Each is what Transformers' logits processor of that name does (`generation/logits_process.py`), in
the order of its `_get_logits_processor`, with one difference: padding is no part of a text, so
that it neither counts as repeated nor takes part in n-grams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from burnish.runtimes.generate.sequences import Numbers, Sequences
from burnish.runtimes.generate.settings import Settings

Processor = Callable[[Sequences, Numbers], None]
"""Changes scores [rows, vocabulary] in place, given the tokens so far."""

NEVER = -np.inf


def processors_of(
    settings: Settings, prompt: int, end: int, encoded: Sequence[Sequence[int]] = ()
) -> list[Processor]:
    """Those that settings ask for.

    Args:
        settings: see there.
        prompt: tokens that texts begin with.
        end: tokens that they have at most.
        encoded: what an encoder was given, for each row.
    """
    found: list[Processor] = []
    ends, new = settings.eos_token_id, settings.min_new_tokens
    least = prompt + new if new else settings.min_length
    if settings.repetition_penalty != 1.0:
        found.append(_repetition(settings.repetition_penalty))
    if settings.no_repeat_ngram_size:
        found.append(_no_repeat(settings.no_repeat_ngram_size))
    if settings.encoder_no_repeat_ngram_size and encoded:
        found.append(_no_repeat_of(settings.encoder_no_repeat_ngram_size, encoded))
    words = [word for word in settings.bad_words_ids if not (len(word) == 1 and word[0] in ends)]
    if words:
        found.append(_bad_words(words))
    if ends and least > prompt:
        found.append(_suppressed(ends, lambda state: state.length < least))
    if settings.forced_bos_token_id is not None:
        found.append(_forced((settings.forced_bos_token_id,), lambda state: state.length == 1))
    if settings.forced_eos_token_id:
        found.append(_forced(settings.forced_eos_token_id, lambda state: state.length == end - 1))
    if settings.suppress_tokens:
        found.append(_suppressed(settings.suppress_tokens, lambda state: True))
    if settings.begin_suppress_tokens:
        first = prompt + (prompt == 1 and settings.forced_bos_token_id is not None)
        begins = settings.begin_suppress_tokens
        found.append(_suppressed(begins, lambda state: state.length == first))
    if settings.renormalize_logits:
        found.append(_renormalize)
    return found


def log_softmax(scores: Numbers) -> Numbers:
    """Logarithms of probabilities along the last axis."""
    shifted = scores - scores.max(-1, keepdims=True)
    logarithms: Numbers = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logarithms


def _renormalize(state: Sequences, scores: Numbers) -> None:
    scores[:] = log_softmax(scores)


def _repetition(penalty: float) -> Processor:
    """Keskar et al., CTRL, arXiv:1909.05858: tokens that are there already score less."""

    def apply(state: Sequences, scores: Numbers) -> None:
        for row, start in enumerate(state.starts):
            used = state.seen[row, start:]
            value = scores[row, used]
            scores[row, used] = np.where(value < 0, value * penalty, value / penalty)

    return apply


def _no_repeat(size: int) -> Processor:
    """No n-gram comes twice."""

    def apply(state: Sequences, scores: Numbers) -> None:
        for row, start in enumerate(state.starts):
            tokens = state.seen[row, start:]
            if len(tokens) >= size:
                last = tokens[len(tokens) - size + 1 :]
                scores[row, _followers(tokens, last)] = NEVER

    return apply


def _no_repeat_of(size: int, encoded: Sequence[Sequence[int]]) -> Processor:
    """No n-gram of what the encoder was given comes again; rows of beams share one of those."""
    texts = [np.asarray(row, np.int64) for row in encoded]

    def apply(state: Sequences, scores: Numbers) -> None:
        share = state.rows // len(texts)
        for row in range(state.rows):
            if state.length >= size - 1:
                last = state.seen[row, state.length - size + 1 :]
                scores[row, _followers(texts[row // share], last)] = NEVER

    return apply


def _followers(tokens: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The tokens that follow wherever `last` occurs; all tokens where it is empty."""
    if len(tokens) <= len(last):
        return tokens[:0]
    if not len(last):
        return tokens
    windows = np.lib.stride_tricks.sliding_window_view(tokens[:-1], len(last))
    followers: np.ndarray = tokens[len(last) :][(windows == last).all(-1)]
    return followers


def _bad_words(words: Sequence[tuple[int, ...]]) -> Processor:
    """No sequence of these is completed."""

    def apply(state: Sequences, scores: Numbers) -> None:
        for word in words:
            before = len(word) - 1
            if before > state.length:
                continue
            last = state.seen[:, state.length - before :]
            scores[(last == word[:-1]).all(-1), word[-1]] = NEVER

    return apply


def _suppressed(tokens: Iterable[int], when: Callable[[Sequences], bool]) -> Processor:
    """These tokens are not chosen at such places."""
    index = np.array(list(tokens), np.int64)

    def apply(state: Sequences, scores: Numbers) -> None:
        if when(state):
            scores[:, index[index < scores.shape[1]]] = NEVER

    return apply


def _forced(tokens: Iterable[int], when: Callable[[Sequences], bool]) -> Processor:
    """No other tokens than these are chosen at such places."""
    index = np.array(list(tokens), np.int64)

    def apply(state: Sequences, scores: Numbers) -> None:
        if when(state):
            scores[:] = NEVER
            scores[:, index] = 0

    return apply
