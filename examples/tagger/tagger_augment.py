"""Training examples for the tagger: pieces with random cuts, swapped entities, joined sentences."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from tokenizers import Tokenizer

from tagger_data import LABEL_IDS, MAX_LENGTH, Sentence
from tagger_scores import entity_spans

IGNORED = -100


class Example(NamedTuple):
    """Piece ids of one sequence and, of equal length, label ids (`IGNORED` where not trained)."""

    ids: list[int]
    labels: list[int]


class Augmentation(NamedTuple):
    """Probabilities of each change: a cut inside a word, and so on for word, entity, sentence."""

    cut_word: float = 0.2
    cut: float = 0.2
    unknown: float = 0.02
    swap: float = 0.2
    join: float = 0.05


class ExampleMaker:
    """Turns sentences into training examples, each time somewhat differently."""

    def __init__(
        self, tokenizer: Tokenizer, sentences: Sequence[Sentence], seed: int, chances: Augmentation
    ) -> None:
        """Collect the entities of the sentences for swapping."""
        self.tokenizer = tokenizer
        self.random = random.Random(seed)
        self.chances = chances
        self.units: dict[str, list[str]] = {}
        self.encoded: dict[str, list[int]] = {}
        self.mentions: dict[tuple[str, str], list[tuple[str, ...]]] = {}
        vocabulary = tokenizer.get_vocab()
        self.begin, self.end = vocabulary["[CLS]"], vocabulary["[SEP]"]
        self.unknown = vocabulary["[UNK]"]
        for sentence in sentences:
            for kind, start, end in entity_spans(sentence.labels):
                key = (sentence.language, kind)
                self.mentions.setdefault(key, []).append(sentence.words[start:end])

    def _units(self, word: str) -> list[str]:
        # The same steps as in the tokenizer's own pipeline, kept by word because they are slow.
        if word not in self.units:
            text = self.tokenizer.normalizer.normalize_str(word)
            pairs = self.tokenizer.pre_tokenizer.pre_tokenize_str(text)
            self.units[word] = [unit for unit, _ in pairs]
        return self.units[word]

    def _encode(self, text: str) -> list[int]:
        if text not in self.encoded:
            self.encoded[text] = [piece.id for piece in self.tokenizer.model.tokenize(text)]
        return self.encoded[text]

    def pieces(self, word: str) -> list[int]:
        """Return the piece ids of a word, sometimes cut at random places before encoding."""
        ids: list[int] = []
        for unit in self._units(word):
            if self.random.random() >= self.chances.cut_word:
                ids.extend(self._encode(unit))
                continue
            start = 0
            # The first character marks the start of a word: no piece consists of it alone.
            for position in range(2, len(unit)):
                if self.random.random() < self.chances.cut:
                    ids.extend(self._encode(unit[start:position]))
                    start = position
            ids.extend(self._encode(unit[start:]))
        return ids

    def swap(self, sentence: Sentence) -> Sentence:
        """Replace some entities by others of the same type from the same language."""
        words, labels = list(sentence.words), list(sentence.labels)
        for kind, start, end in reversed(list(entity_spans(sentence.labels))):
            if self.random.random() < self.chances.swap:
                mention = self.random.choice(self.mentions[sentence.language, kind])
                words[start:end] = mention
                labels[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (len(mention) - 1)
        return Sentence(sentence.language, tuple(words), tuple(labels))

    def example(self, sentence: Sentence) -> Example:
        """Encode a sentence; the first piece of a word has its label, the others its inside."""
        ids, labels = [self.begin], [IGNORED]
        for word, label in zip(sentence.words, sentence.labels, strict=True):
            pieces = self.pieces(word)
            if pieces:
                # All pieces are trained, which teaches the table of pieces faster.
                inner = LABEL_IDS["I" + label[1:]] if label != "O" else LABEL_IDS["O"]
                labels.extend([LABEL_IDS[label]] + [inner] * (len(pieces) - 1))
                ids.extend(
                    self.unknown if self.random.random() < self.chances.unknown else piece
                    for piece in pieces
                )
        ids, labels = ids[: MAX_LENGTH - 1], labels[: MAX_LENGTH - 1]
        return Example([*ids, self.end], [*labels, IGNORED])

    def epoch(self, sentences: Sequence[Sentence]) -> list[Example]:
        """Make one pass over the sentences, in random order, some joined with the one before."""
        order = list(sentences)
        self.random.shuffle(order)
        examples: list[Example] = []
        last: dict[str, Sentence] = {}
        for sentence in order:
            changed = self.swap(sentence)
            before = last.get(sentence.language)
            if before is not None and self.random.random() < self.chances.join:
                words, labels = before.words + changed.words, before.labels + changed.labels
                changed = Sentence(sentence.language, words, labels)
            last[sentence.language] = sentence
            examples.append(self.example(changed))
        return examples
