"""Which tokens may be drawn, with which chances, and that the same seed draws the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation import logits_process as theirs

from burnish.runtimes.generate.choosing import Chooser, distribution, draw
from burnish.runtimes.generate.sequences import Sequences
from burnish.runtimes.generate.settings import Settings

SETTINGS: list[dict[str, Any]] = [
    {"top_k": 0},
    {"top_k": 5},
    {"top_k": 0, "top_p": 0.7},
    {"top_k": 20, "top_p": 0.5, "temperature": 1.5},
    {"top_k": 0, "min_p": 0.2},
    {"top_k": 30, "top_p": 0.95, "min_p": 0.05, "temperature": 0.4},
    {"top_k": 0, "top_p": 1e-9},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_chances_are_those_of_transformers(settings: dict[str, Any]) -> None:
    scores = np.random.default_rng(1).normal(size=60).astype(np.float32) * 2
    tokens, chances = distribution(scores, Settings(**settings))
    expected = torch.tensor(scores, dtype=torch.float64)[None]
    expected = expected / settings.get("temperature", 1.0)
    if settings["top_k"]:
        expected = theirs.TopKLogitsWarper(settings["top_k"])(None, expected)
    if "top_p" in settings:
        expected = theirs.TopPLogitsWarper(settings["top_p"])(None, expected)
    if "min_p" in settings:
        expected = theirs.MinPLogitsWarper(settings["min_p"])(None, expected)
    whole = np.zeros(60)
    whole[tokens] = chances
    np.testing.assert_allclose(whole, expected.softmax(-1)[0].numpy(), atol=1e-9)


def test_what_is_as_good_as_the_last_of_the_best_may_be_drawn_too() -> None:
    tokens, chances = distribution(np.array([1, 3, 2, 2], np.float32), Settings(top_k=2))
    assert tokens.tolist() == [1, 2, 3] and chances[1] == chances[2]


def test_numbers_stand_for_tokens_by_their_chances() -> None:
    scores = np.log(np.array([0.1, 0.6, 0.3], np.float32))
    drawn = [draw(scores, Settings(), number) for number in (0.0, 0.59, 0.61, 0.89, 0.91, 0.999)]
    assert drawn == [1, 1, 2, 2, 0, 0]
    assert draw(scores, Settings(), float(np.nextafter(1.0, 0.0))) == 0


def test_a_seed_draws_the_same_and_rows_are_streams_of_their_own() -> None:
    scores = np.zeros((3, 50), np.float32)
    state = Sequences.of([[1], [1], [1]], 0, 9)

    def drawn(seed: int, rows: int) -> list[list[int]]:
        choose = Chooser(Settings(do_sample=True, top_k=0, seed=seed), [], rows)
        none = np.zeros(rows, bool)
        return [choose(state, scores[:rows], none).tolist() for _ in range(20)]

    assert drawn(3, 3) == drawn(3, 3) != drawn(4, 3)
    assert [row[:2] for row in drawn(3, 3)] == drawn(3, 2)
    first, second, _ = np.array(drawn(3, 3)).T
    assert (first != second).any()


def test_the_best_token_is_chosen_where_none_is_drawn() -> None:
    scores = np.array([[0, 2, 1], [5, 2, 1]], np.float32)
    chosen = Chooser(Settings(), [], 2)(Sequences.of([[1], [1]], 0, 9), scores, np.zeros(2, bool))
    assert chosen.tolist() == [1, 0]
