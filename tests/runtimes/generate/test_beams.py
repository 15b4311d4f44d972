"""Beams over a table of chances: wide enough they find the best text that there is."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from burnish.runtimes.generate.beams import Beams
from burnish.runtimes.generate.processors import log_softmax
from burnish.runtimes.generate.sequences import Array, Integers, Numbers, Sequences
from burnish.runtimes.generate.settings import Settings

VOCABULARY, EOS, NEW = 5, 0, 4
NEVER_ENDING = 3


def table(seed: int) -> Numbers:
    """Logarithms of the chances of each token after each token."""
    scores = np.random.default_rng(seed).normal(size=(VOCABULARY, VOCABULARY)) * 2
    return log_softmax(scores.astype(np.float32))


def ends(rows: Integers) -> Array:
    found: Array = rows[:, -1] == EOS
    return found


def searched(chances: Numbers, prompts: list[list[int]], **options: Any) -> Beams:
    settings = Settings(eos_token_id=(EOS,), **options)
    state = Sequences.of(prompts, EOS, state_end(prompts))
    search = Beams(state, settings, state_end(prompts), ends)
    chosen = np.repeat(state.seen[:, -1], settings.num_beams)
    while not search.done:
        parents, chosen = search.advance(chances[chosen])
        assert (search.running.tokens[:, search.running.length - 1] == chosen).all()
        assert (
            parents // settings.num_beams == np.repeat(range(len(prompts)), settings.num_beams)
        ).all()
    return search


def state_end(prompts: list[list[int]]) -> int:
    return max(map(len, prompts)) + NEW


def best_of_all(chances: Numbers, last: int, penalty: float) -> tuple[list[int], float]:
    """Every text that ends with the end's token or has the length at which texts end."""
    found = []
    for length in range(1, NEW + 1):
        for text in itertools.product(range(VOCABULARY), repeat=length):
            if EOS in text[:-1] or (text[-1] != EOS and length < NEW):
                continue
            total = sum(chances[a, b] for a, b in itertools.pairwise([last, *text]))
            found.append((total / length**penalty, list(text)))
    score, tokens = max(found)
    return tokens, float(score)


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_wide_beams_find_the_best_text(seed: int, penalty: float) -> None:
    chances, prompts = table(seed), [[1], [2], [4]]
    options = {"early_stopping": "never", "length_penalty": penalty}
    search = searched(chances, prompts, num_beams=VOCABULARY**3, **options)
    for row, (tokens, score) in enumerate(search.best()):
        expected, best = best_of_all(chances, prompts[row][0], penalty)
        assert tokens == expected
        assert score == pytest.approx(best, rel=1e-5)


def test_narrow_beams_find_no_better_text_than_wide_ones() -> None:
    scores = {
        beams: [score for _, score in searched(table(7), [[1], [3]], num_beams=beams).best()]
        for beams in (1, 2, 125)
    }
    assert (np.array(scores[1]) <= np.array(scores[125]) + 1e-6).all()
    assert (np.array(scores[2]) <= np.array(scores[125]) + 1e-6).all()


def test_one_beam_is_greedy() -> None:
    chances = table(2)
    chances[:, EOS] = -50
    ((tokens, _),) = searched(chances, [[NEVER_ENDING]], num_beams=1).best()
    last, greedy = NEVER_ENDING, []
    for _ in range(NEW):
        last = int(chances[last].argmax())
        greedy.append(last)
    assert tokens == greedy


def test_early_stopping_takes_the_first_that_have_ended() -> None:
    chances = np.full((VOCABULARY, VOCABULARY), -9.0, np.float32)
    chances[:, EOS], chances[:, 1] = -1.0, -0.6
    early = searched(chances, [[2]], num_beams=2, early_stopping="true")
    late = searched(chances, [[2]], num_beams=2, early_stopping="never", length_penalty=1.0)
    assert early.running.new < late.running.new == NEW
    assert late.best()[0][0] == [1, 1, 1, 1]


def test_prompts_of_different_lengths_are_left_out_of_the_result() -> None:
    search = searched(table(0), [[1, 2, 3], [3]], num_beams=3)
    alone = searched(table(0), [[3]], num_beams=3)
    assert search.best()[1] == alone.best()[0] == search.best()[0]
