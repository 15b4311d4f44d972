"""Why data should not be trusted for calibration: too little, random, or of one kind only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from burnish.optimizer.contract import Array, Feeds
from burnish.optimizer.feeds import is_padding_mask
from burnish.optimizer.roles import Slot
from burnish.optimizer.user_data import TOKENIZER, main_ids

FEW_ROWS = 32
"""Texts or pictures below which ranges are rather those of the sample than those of the model."""

FEW_TOKENS = 200
"""Tokens below which nothing is said of how they are spread."""

COMMON = 100
"""Words of the vocabulary that are looked for: vocabularies have common pieces first."""

ZIPF = 0.06
"""A word's share of the tokens, times its rank. Of 256 English sentences it says that 99 of the
words occur in BERT's vocabulary, and 98 do (PUD); of 256 in five languages 97 in a vocabulary of
these, and 73 do (WikiANN); of one of the five alone 48."""

LEAST_SHARE = 0.6
"""Share of the words that ought to be there below which the data is called one-sided."""


def doubts(feeds: Sequence[Feeds], slots: Sequence[Slot], tokenizer: Path) -> list[str]:
    """What is doubtful about data, a sentence each.

    Args:
        feeds: the data.
        slots: the model's inputs.
        tokenizer: a `tokenizer.json`, or a folder that may hold one.
    """
    rows = sum(len(next(iter(feed.values()))) for feed in feeds if feed)
    found = []
    if rows < FEW_ROWS:
        found.append(
            f"the data has {rows} row{'s' * (rows != 1)}, and {FEW_ROWS} are few: what is "
            "calibrated on them may not hold on others"
        )
    ids = main_ids(slots)
    if ids is None:
        return found
    tokens = _tokens(feeds, slots, ids)
    if ids.allowed:  # the tokenizer has new numbers for those that are kept
        tokens = np.searchsorted(ids.allowed, tokens)
    if len(tokens) < FEW_TOKENS:
        return found
    if _is_random(tokens, ids.bound):
        found.append(
            "the data's tokens are spread as evenly over the vocabulary as random numbers, which "
            "text is not: what is calibrated on them does not hold on text"
        )
    elif told := _one_sided(tokens, tokenizer):
        found.append(told)
    return found


def _tokens(feeds: Sequence[Feeds], slots: Sequence[Slot], ids: Slot) -> Array:
    """Ids of real tokens, without the first and the last of each row, which may be added ones."""
    masks = [slot.port.name for slot in slots if is_padding_mask(slot)]
    found = []
    for feed in feeds:
        rows = feed[ids.port.name]
        mask = feed[masks[0]] if masks else np.ones_like(rows)
        for row, real in zip(rows, mask if mask.shape == rows.shape else rows >= 0, strict=True):
            found.append(row[np.asarray(real, bool)][1:-1])
    return np.concatenate(found) if found else np.array([], np.int64)


def _is_random(tokens: Array, bound: int) -> bool:
    """Whether no token is more common than it would be among evenly spread ones.

    The counts of such are Poisson distributed; four deviations above the mean and four more leave
    no doubt.
    """
    mean = len(tokens) / max(bound, 1)
    most = int(np.unique(tokens, return_counts=True)[1].max())
    return most <= mean + 4.0 * math.sqrt(mean) + 4.0


def _one_sided(tokens: Array, tokenizer: Path) -> str:
    """Which of the vocabulary's commonest words are missing, where these are too many."""
    from tokenizers import Tokenizer

    file = tokenizer / TOKENIZER if tokenizer.is_dir() else tokenizer
    try:
        vocabulary = Tokenizer.from_file(str(file)).get_vocab()
    except Exception:  # the binding raises plain Exception for every failure
        return ""
    words = sorted(index for piece, index in vocabulary.items() if _is_word(piece))[:COMMON]
    expected = sum(1.0 - math.exp(-len(tokens) * ZIPF / rank) for rank in range(1, len(words) + 1))
    seen = len({*words}.intersection(tokens.tolist()))
    if len(words) < COMMON or expected < COMMON / 2 or seen >= LEAST_SHARE * expected:
        return ""
    return (
        f"of the {COMMON} commonest words of the vocabulary {seen} occur in the data, where about "
        f"{expected:.0f} would in text like the vocabulary's: kinds of text that the model knows, "
        "such as other languages, are missing, and what is calibrated may not hold on them"
    )


def _is_word(piece: str) -> bool:
    """Whether a piece of a vocabulary is a word, or most of one."""
    letters = piece.lstrip("#▁Ġ")
    return len(letters) >= 3 and letters.isalpha()
