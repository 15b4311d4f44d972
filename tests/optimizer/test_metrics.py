"""Metrics of tasks against values that were computed by hand."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest

from burnish.optimizer.errors import UsageError
from burnish.optimizer.metrics import (
    answers,
    correlation,
    labels,
    likelihood,
    spans,
    summaries,
    translation,
)
from burnish.optimizer.metrics.judges import JUDGES, SPANS, TEXT


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-A I-A O", [("A", 1, 3)]),
        ("B-A B-A I-B", [("A", 0, 1), ("A", 1, 2), ("B", 2, 3)]),
        ("I-A I-A O I-B", [("A", 0, 2), ("B", 3, 4)]),
        ("B-A I-A E-A E-A S-B", [("A", 0, 3), ("A", 3, 4), ("B", 4, 5)]),
        ("B-A S-A I-A", [("A", 0, 1), ("A", 1, 2), ("A", 2, 3)]),
        ("B-A I-A L-A U-A", [("A", 0, 3), ("A", 3, 4)]),
        ("B-geo-loc I-geo-loc", [("geo-loc", 0, 2)]),
        ("A A O B", [("A", 0, 2), ("B", 3, 4)]),
        ("O O", []),
    ],
)
def test_spans(tags: str, expected: list[Any]) -> None:
    assert list(spans.spans(tags.split())) == expected


def test_scores_of_spans_are_those_of_seqeval() -> None:
    """The example of seqeval's own documentation."""
    wanted = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    found = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    scores = spans.score(wanted, found)
    assert scores.whole == {"precision": 50.0, "recall": 50.0, "F1": 50.0}
    assert scores.support == 2
    assert scores.classes["MISC"] == {"precision": 0.0, "recall": 0.0, "F1": 0.0, "support": 1}
    assert scores.classes["PER"] == {"precision": 100.0, "recall": 100.0, "F1": 100.0, "support": 1}
    assert scores.classes["micro"]["F1"] == scores.classes["macro"]["F1"] == 50.0


def test_a_class_that_only_one_side_has_counts() -> None:
    scores = spans.score([["B-A", "B-A"]], [["B-B", "B-A"]])
    assert scores.classes["A"]["recall"] == 50.0
    assert scores.classes["B"] == {"precision": 0.0, "recall": 0.0, "F1": 0.0, "support": 0}
    assert scores.whole["F1"] == 50.0


def test_words_of_a_scheme_without_places_count_one_by_one() -> None:
    scores = spans.score([["NOUN", "NOUN", "VERB"]], [["NOUN", "VERB", "VERB"]])
    assert scores.support == 3
    assert scores.whole["F1"] == pytest.approx(200 / 3)


def test_labels_for_other_numbers_of_words_are_refused() -> None:
    with pytest.raises(ValueError, match="each word"):
        spans.score([["O", "O"]], [["O"]])


def test_accuracy_and_macro_f1() -> None:
    wanted = [frozenset({name}) for name in "aaab"]
    found = [frozenset({name}) for name in "aabb"]
    scores = labels.score(wanted, found)
    assert scores.whole["accuracy"] == 75.0
    # a: P 1, R 2/3, F1 0.8; b: P 1/2, R 1, F1 2/3.
    assert scores.whole["macro F1"] == pytest.approx(100 * (0.8 + 2 / 3) / 2)


def test_classes_that_do_not_exclude_each_other() -> None:
    scores = labels.score([frozenset("ab"), frozenset()], [frozenset("a"), frozenset()])
    assert scores.whole["accuracy"] == 50.0
    assert scores.classes["b"]["recall"] == 0.0


@pytest.mark.parametrize(
    ("wanted", "found", "exact", "f1"),
    [
        (["The Eiffel Tower!"], "eiffel tower", 100.0, 100.0),
        (["in the city of Paris"], "Paris, France", 0.0, 100 / 3),
        (["1887", "in 1889"], "1889", 0.0, 200 / 3),
        ([], "", 100.0, 100.0),
        ([], "something", 0.0, 0.0),
        (["something"], "", 0.0, 0.0),
    ],
)
def test_answers(wanted: list[str], found: str, exact: float, f1: float) -> None:
    scores = answers.score([wanted], [found]).whole
    assert scores["exact match"] == exact
    assert scores["F1"] == pytest.approx(f1)


def test_perplexity() -> None:
    logits = np.zeros((3, 4), np.float32)
    found = likelihood.losses(logits, np.array([0, 1, 3]))
    assert found == pytest.approx([math.log(4)] * 3)
    scores = likelihood.score([None, None], [(3 * math.log(4), 3), (math.log(2), 1)])
    assert scores.whole["perplexity"] == pytest.approx(
        math.exp((3 * math.log(4) + math.log(2)) / 4)
    )
    assert scores.support == 4


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e6])
def test_a_loss_without_an_end_is_no_perplexity(loss: float) -> None:
    assert likelihood.score([None], [(loss, 1)]).whole["perplexity"] == math.inf


def test_rank_correlation() -> None:
    assert correlation.score([1, 2, 3, 4], [10, 30, 20, 40]).whole["Spearman"] == pytest.approx(80)
    tied = correlation.score([1, 2, 2, 3], [1, 2, 3, 4]).whole["Spearman"]
    assert tied == pytest.approx(100 * 4.5 / math.sqrt(4.5 * 5))
    assert correlation.score([1, 1], [1, 2]).whole["Spearman"] == 0.0


def test_bleu_and_chrf() -> None:
    scores = translation.score([["a b c d f"]], ["a b c d e"]).whole
    # Grams of 1 to 4 words: 4/5, 3/4, 2/3, 1/2. Of 1 to 5 characters: these, and 0 of 1.
    assert scores["BLEU"] == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert scores["chrF"] == pytest.approx(100 * (4 / 5 + 3 / 4 + 2 / 3 + 1 / 2) / 5)


def test_texts_with_fewer_references_than_others() -> None:
    scores = translation.score([["a b c d"], ["x y z w", "e f g h"]], ["a b c d", "e f g h"])
    assert scores.whole["BLEU"] == pytest.approx(100.0)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(UsageError, match="sacrebleu") as raised:
        translation.score([["a"]], ["a"])
    assert "metrics" in raised.value.hint


def test_rouge() -> None:
    scores = summaries.score([["The cat sat on the mat."]], ["the cat lay on the mat"]).whole
    assert scores["ROUGE-1"] == pytest.approx(100 * 5 / 6)
    assert scores["ROUGE-2"] == pytest.approx(100 * 3 / 5)
    assert scores["ROUGE-L"] == pytest.approx(100 * 5 / 6)
    turned = summaries.score([["eins zwei drei", "größe"]], ["drei zwei eins"]).whole
    assert turned == pytest.approx({"ROUGE-1": 100.0, "ROUGE-2": 0.0, "ROUGE-L": 100 / 3})
    assert summaries.score([["größe über alles"]], ["Größe über alles"]).whole["ROUGE-2"] == 100.0
    assert summaries.score([["a"]], [""]).whole["ROUGE-1"] == 0.0


def test_losses_of_a_headline() -> None:
    assert JUDGES[SPANS].drop({"F1": 70.0}, {"F1": 69.5}) == 0.5
    assert JUDGES[TEXT].drop({"perplexity": 10.0}, {"perplexity": 11.0}) == pytest.approx(10.0)
    assert JUDGES[TEXT].drop({"perplexity": 10.0}, {"perplexity": math.inf}) == math.inf
    assert JUDGES[TEXT].drop({"perplexity": math.inf}, {"perplexity": math.inf}) == 0.0
