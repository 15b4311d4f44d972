"""What is done to scores before a token is chosen, held to Transformers' own processors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as theirs

from burnish.runtimes.generate.processors import NEVER, processors_of
from burnish.runtimes.generate.sequences import Sequences
from burnish.runtimes.generate.settings import Settings

VOCABULARY = 20
ROWS = [[3, 4, 5, 3, 4, 9, 3, 4], [7, 7, 7, 7, 7, 7, 7, 7], [1, 2, 3, 4, 5, 6, 7, 8]]
ENCODED = [[3, 4, 11, 12], [7, 13, 7, 14], [9, 10, 8, 15]]

CASES: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "repetition": (
        {"repetition_penalty": 1.7},
        lambda: theirs.RepetitionPenaltyLogitsProcessor(1.7),
    ),
    "no pair twice": (
        {"no_repeat_ngram_size": 2},
        lambda: theirs.NoRepeatNGramLogitsProcessor(2),
    ),
    "no three twice": (
        {"no_repeat_ngram_size": 3},
        lambda: theirs.NoRepeatNGramLogitsProcessor(3),
    ),
    "no token twice": (
        {"no_repeat_ngram_size": 1},
        lambda: theirs.NoRepeatNGramLogitsProcessor(1),
    ),
    "nothing of the encoder's": (
        {"encoder_no_repeat_ngram_size": 2},
        lambda: theirs.EncoderNoRepeatNGramLogitsProcessor(2, torch.tensor(ENCODED)),
    ),
    "bad words": (
        {"bad_words_ids": ((9,), (3, 4, 5), (7, 8, 1)), "eos_token_id": (0,)},
        lambda: theirs.NoBadWordsLogitsProcessor([[9], [3, 4, 5], [7, 8, 1]], torch.tensor([0])),
    ),
    "suppressed": (
        {"suppress_tokens": (1, 4)},
        lambda: theirs.SuppressTokensLogitsProcessor([1, 4]),
    ),
    "at least so many": (
        {"min_new_tokens": 5, "eos_token_id": (2, 6)},
        lambda: theirs.MinNewTokensLengthLogitsProcessor(4, 5, [2, 6]),
    ),
    "at least so long": (
        {"min_length": 9, "eos_token_id": (2,)},
        lambda: theirs.MinLengthLogitsProcessor(9, 2),
    ),
    "forced at the end": (
        {"forced_eos_token_id": (2,)},
        lambda: theirs.ForcedEOSTokenLogitsProcessor(9, 2),
    ),
    "normalized": ({"renormalize_logits": True}, lambda: theirs.LogitNormalization()),
}


def state_of(rows: list[list[int]], prompt: int) -> Sequences:
    """Rows of which the first tokens are a prompt."""
    state = Sequences.of([row[:prompt] for row in rows], 0, 12)
    for token in np.array(rows).T[prompt:]:
        state.append(token)
    return state


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_transformers(name: str) -> None:
    settings, make = CASES[name]
    scores = np.random.default_rng(0).normal(size=(3, VOCABULARY)).astype(np.float32)
    expected = make()(torch.tensor(ROWS), torch.tensor(scores))
    (processor,) = processors_of(Settings(**settings), 4, 9, ENCODED)
    ours = scores.copy()
    processor(state_of(ROWS, 4), ours)
    np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-6)
    assert (ours != scores).any()


def test_tokens_at_the_beginning() -> None:
    forced, suppressed = processors_of(
        Settings(forced_bos_token_id=3, begin_suppress_tokens=(5,)), 1, 9
    )
    state = Sequences.of([[1]], 0, 9)
    scores = np.zeros((1, VOCABULARY), np.float32)
    forced(state, scores)
    assert scores[0].argmax() == 3 and (scores == NEVER).sum() == VOCABULARY - 1
    state.append(np.array([3]))
    scores = np.zeros((1, VOCABULARY), np.float32)
    forced(state, scores)
    assert not scores.any()
    suppressed(state, scores)
    assert np.flatnonzero(scores == NEVER).tolist() == [5]
    state.append(np.array([4]))
    scores = np.zeros((1, VOCABULARY), np.float32)
    suppressed(state, scores)
    assert not scores.any()


def test_padding_is_no_part_of_a_text() -> None:
    penalty, pairs = processors_of(Settings(repetition_penalty=2.0, no_repeat_ngram_size=1), 3, 9)
    state = Sequences.of([[4, 5, 6], [7]], 0, 9)
    assert state.mask().tolist() == [[1, 1, 1], [0, 0, 1]]
    scores = np.ones((2, VOCABULARY), np.float32)
    penalty(state, scores)
    assert np.flatnonzero(scores[1] != 1).tolist() == [7]
    pairs(state, scores)
    assert np.flatnonzero(scores[1] == NEVER).tolist() == [7]


def test_nothing_asked_for_is_nothing_done() -> None:
    assert processors_of(Settings(eos_token_id=(2,)), 4, 9) == []
