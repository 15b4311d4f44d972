"""What is lost of a language: sentences that were held out, split with all tokens and with some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from burnish.optimizer.vocabulary.choice import split, splitter
from burnish.optimizer.vocabulary.corpus import Texts
from burnish.optimizer.vocabulary.numbers import Numbers
from burnish.optimizer.vocabulary.rewriting import Tokenizer


@dataclass(frozen=True)
class Coverage:
    """Of the sentences of one language that were held out.

    Attributes:
        sentences: how many there are.
        tokens: how many they had.
        kept: share of those tokens that are kept.
        whole: share of the sentences whose tokens are all kept.
        unknown: share of the tokens that become unknown ones.
        apart: share of the tokens that fall apart into others.
        longer: tokens now, by tokens before.
        changed: sentences whose tokens are all kept, and that are split otherwise all the same.
    """

    sentences: int
    tokens: int
    kept: float
    whole: float
    unknown: float
    apart: float
    longer: float
    changed: int

    def as_json(self) -> dict[str, Any]:
        """As the report shows it."""
        return {
            key: round(value, 5) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }


def coverage(
    tokenizer: Tokenizer, numbers: Numbers, corpus: Mapping[str, Texts]
) -> dict[str, Coverage]:
    """What is lost of each language."""
    before, after = splitter(tokenizer.content), splitter(tokenizer.cut(numbers))
    old = tokenizer.kind.unknown
    unknown = (-1, -1) if old is None else (old, numbers.new[old])
    return {
        language: _of(before, after, numbers, texts, unknown) for language, texts in corpus.items()
    }


def _of(
    before: Any, after: Any, numbers: Numbers, texts: Texts, unknown: tuple[int, int]
) -> Coverage:
    tokens = kept = whole = now = lost = changed = 0
    pairs = zip(split(before, texts.held), split(after, texts.held), strict=True)
    for first, second in pairs:
        there = [old in numbers.new for old in first]
        tokens, kept, now = tokens + len(first), kept + sum(there), now + len(second)
        lost += max(0, second.count(unknown[1]) - first.count(unknown[0]))
        if all(there):
            whole += 1
            changed += [numbers.new[old] for old in first] != second
    count, total = len(texts.held), max(tokens, 1)
    lost = min(lost, tokens - kept)
    return Coverage(
        sentences=count,
        tokens=tokens,
        kept=kept / total,
        whole=whole / max(count, 1),
        unknown=lost / total,
        apart=(tokens - kept - lost) / total,
        longer=now / total,
        changed=changed,
    )
