"""What is guessed from what a text repeats."""

from __future__ import annotations

from burnish.runtimes.generate.lookup import Lookup


def test_what_came_after_the_same_words_is_guessed() -> None:
    assert Lookup([1, 2, 3, 4, 5, 9, 1, 2, 3], 2).propose() == [4, 5]


def test_nothing_is_guessed_after_words_that_are_new() -> None:
    assert Lookup([1, 2, 3, 4, 5, 6], 4).propose() == []
    assert Lookup([1], 4).propose() == []
    assert Lookup([1, 2, 1, 3], 4).propose() == []  # one token alone tells too little


def test_the_last_occurrence_and_the_longest_match_count() -> None:
    assert Lookup([1, 2, 3, 1, 2, 4, 1, 2], 1).propose() == [4]
    assert Lookup([0, 1, 2, 3, 5, 1, 2, 4, 0, 1, 2], 1).propose() == [3]


def test_what_repeats_goes_on_repeating() -> None:
    assert Lookup([7, 8, 7, 8, 7, 8], 5).propose() == [7, 8, 7, 8, 7]


def test_tokens_that_come_are_found_later() -> None:
    lookup = Lookup([1, 2, 3], 3)
    assert lookup.propose() == []
    for token in (4, 5, 1, 2):
        lookup.append(token)
    assert lookup.propose() == [3, 4, 5]


def test_more_is_guessed_where_guesses_come_true() -> None:
    lookup = Lookup([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2], 4)
    lookup.learn(4, 0)
    assert lookup.propose() == [3, 4]
    lookup.learn(2, 1)
    assert lookup.propose() == [3, 4]
    lookup.learn(2, 0)
    lookup.learn(1, 0)
    assert lookup.propose() == [3]
    for _ in range(3):
        lookup.learn(1, 1)
    assert lookup.propose() == [3, 4, 5, 6]
