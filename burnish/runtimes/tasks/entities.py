"""Tags of words, and the entities that they make."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

from burnish.optimizer.errors import InvalidModel
from burnish.optimizer.metrics.spans import OUTSIDE, spans
from burnish.runtimes.tasks.answers import Entity
from burnish.runtimes.tasks.folder import Folder
from burnish.runtimes.tasks.ports import Opened
from burnish.runtimes.tasks.task import Task, names_of, softmax
from burnish.runtimes.tasks.texts import Row, Texts, admit

SPACE = "\u2581"
"""The piece of a space, as SentencePiece writes it."""

UNSPACED = ("CJK UNIFIED", "HIRAGANA", "KATAKANA", "THAI ", "LAO ", "KHMER ", "MYANMAR ")
"""How Unicode's names of letters begin in scripts that are written without spaces."""


@dataclass(frozen=True)
class Tag:
    """What a word is.

    Attributes:
        label: its tag.
        score: the tag's probability; 0 where the word was cut off or has no piece.
    """

    label: str
    score: float


@dataclass(frozen=True)
class Word:
    """A word: its first piece, and its characters in the text (the end exclusive)."""

    piece: int
    start: int
    end: int


class TokenClassification(Task):
    """Called on a text, or a list of texts. The label of a word is that of its first piece."""

    name = "token-classification"

    def __init__(self, folder: Folder, opened: Opened) -> None:
        super().__init__(folder, opened)
        admit(opened)
        self.texts = Texts(folder, opened)
        self._logits = self.output("logits")

    @overload
    def __call__(self, texts: str) -> list[Entity]: ...

    @overload
    def __call__(self, texts: list[str]) -> list[list[Entity]]: ...

    def __call__(self, texts: str | list[str]) -> list[Entity] | list[list[Entity]]:
        """The entities of texts, in order; what lies behind a cut has none, and `TextsCut` warns.

        Tags are grouped by their places (B-, I-, E-, S-); equal neighbours without such are one
        entity.
        """
        given = [texts] if isinstance(texts, str) else texts
        encodings = self.texts.encode(given)
        words = [words_of(item, text) for item, text in zip(encodings, given, strict=True)]
        places = [[word.piece for word in row] for row in words]
        tags = self._tags(encodings, places)
        found = [_entities(*parts) for parts in zip(given, words, tags, strict=True)]
        return found[0] if isinstance(texts, str) else found

    def of_words(self, sentences: Sequence[Sequence[str]]) -> list[list[Entity]]:
        """The entities of sentences that are split into words; starts and ends count words."""
        found = []
        for words, tags in zip(sentences, self.tags(sentences), strict=True):
            found.append([
                Entity(kind, " ".join(words[start:end]), start, end, _mean(tags[start:end]))
                for kind, start, end in spans([tag.label for tag in tags])
            ])  # fmt: skip
        return found

    def tags(self, sentences: Sequence[Sequence[str]]) -> list[list[Tag]]:
        """A tag for each word of sentences that are split into words."""
        encodings = self.texts.encode([list(words) for words in sentences], split=True)
        places = []
        for item, words in zip(encodings, sentences, strict=True):
            first = _first_pieces(item)
            places.append([first.get(index, -1) for index in range(len(words))])
        return self._tags(encodings, places)

    def _tags(self, encodings: Sequence[Any], places: Sequence[Sequence[int]]) -> list[list[Tag]]:
        """Tags by the pieces at these places; outside for places below 0."""

        def take(index: int, row: Row) -> list[Tag]:
            logits = row[self._logits]
            if logits.ndim != 2:
                raise InvalidModel(f"its logits have {logits.ndim + 1} axes, where tags have 3")
            names = names_of(self.folder.labels, logits.shape[-1])
            chosen = softmax(logits[[max(place, 0) for place in places[index]]])
            best = chosen.argmax(axis=-1)
            return [
                Tag(names[label], float(chosen[word, label])) if place >= 0 else Tag(OUTSIDE, 0.0)
                for word, (place, label) in enumerate(zip(places[index], best, strict=True))
            ]

        return self.texts.run(encodings, [self._logits], take)


def _mean(tags: Sequence[Tag]) -> float:
    return sum(tag.score for tag in tags) / len(tags)


def _entities(text: str, words: Sequence[Word], tags: Sequence[Tag]) -> list[Entity]:
    found = []
    for kind, first, last in spans([tag.label for tag in tags]):
        start, end = words[first].start, words[last - 1].end
        found.append(Entity(kind, text[start:end], start, end, _mean(tags[first:last])))
    return found


def _first_pieces(encoding: Any) -> dict[int, int]:
    """Place of the first piece of each word, by the number of the word."""
    found: dict[int, int] = {}
    for place, word in enumerate(encoding.word_ids):
        if word is not None:
            found.setdefault(word, place)
    return found


def words_of(encoding: Any, text: str) -> list[Word]:
    """The words of a text, as its tokenizer splits it.

    Tokenizers that split at spaces only leave quotes and full stops at words. Models are trained
    on words without them: their pieces at either end of a word are a word of their own. In
    scripts that are written without spaces, each piece is one.
    """
    runs: dict[int, list[int]] = {}
    for place, word in enumerate(encoding.word_ids):
        if word is not None:
            runs.setdefault(word, []).append(place)
    found = []
    for run in runs.values():
        marks = [_is_mark(_piece(encoding, place, text)) for place in run]
        plain = [index for index, mark in enumerate(marks) if not mark]
        if not plain:
            parts = [run]
        else:
            inside = _without_spaces(run[plain[0] : plain[-1] + 1], encoding, text)
            parts = [run[: plain[0]], *inside, run[plain[-1] + 1 :]]
        found += [_word(part, encoding, text) for part in parts if part]
    return [word for word in found if word.end > word.start]


def _without_spaces(run: Sequence[int], encoding: Any, text: str) -> list[list[int]]:
    """The pieces of a word, apart where they are of a script without spaces."""
    parts: list[list[int]] = []
    before, blank = False, False
    for place in run:
        piece = _piece(encoding, place, text)
        apart = bool(piece) and unicodedata.name(piece[0], "").startswith(UNSPACED)
        # A piece of a space belongs to what follows.
        if not parts or ((apart or before) and not blank):
            parts.append([])
        parts[-1].append(place)
        before, blank = apart, not piece
    return parts


def _piece(encoding: Any, place: int, text: str) -> str:
    """The characters of a piece; none where it stands for a space, whatever its offsets say."""
    if encoding.tokens[place] == SPACE:
        return ""
    return text[slice(*encoding.offsets[place])].strip()


def _is_mark(piece: str) -> bool:
    """Whether a piece is punctuation; one of spaces belongs to what follows."""
    return bool(piece) and not any(character.isalnum() for character in piece)


def _word(pieces: Sequence[int], encoding: Any, text: str) -> Word:
    start, end = encoding.offsets[pieces[0]][0], encoding.offsets[pieces[-1]][1]
    inside = text[start:end]
    start += len(inside) - len(inside.lstrip())
    return Word(pieces[0], start, start + len(inside.strip()))
