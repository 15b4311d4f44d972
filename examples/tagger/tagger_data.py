"""Reading annotated sentences, the held-out rule and encoding, shared by the scripts."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

LANGUAGES = ("en", "de", "fr", "nl", "pt")
LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
LABEL_IDS = {label: index for index, label in enumerate(LABELS)}
PAD_ID = 0
MAX_LENGTH = 256
HELD_OUT_PER_LANGUAGE = 1000
HELD_OUT_PERCENT = 13
DEVELOPMENT_PERCENT = 3


class Sentence(NamedTuple):
    """One annotated sentence: its language, its words and one IOB2 label for each word."""

    language: str
    words: tuple[str, ...]
    labels: tuple[str, ...]


class Split(NamedTuple):
    """The three disjoint parts of the data that `split_sentences` makes."""

    train: list[Sentence]
    development: list[Sentence]
    held_out: list[Sentence]


def _open_text(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8"))
    return path.open(encoding="utf-8")


def read_sentences(path: Path) -> Iterator[Sentence]:
    """Yield the sentences of one file, plain or gzipped.

    Args:
        path: file with one `lang:token<TAB>LABEL` a line and a blank line between sentences.
    """
    language = ""
    words: list[str] = []
    labels: list[str] = []
    with _open_text(path) as lines:
        for line in lines:
            line = line.rstrip("\n")
            if line.strip():
                tagged, label = line.rsplit("\t", 1)
                # Only the first colon ends the language: the token itself may hold or be one.
                language, word = tagged.split(":", 1)
                words.append(word)
                labels.append(label.strip())
            elif words:
                yield Sentence(language, tuple(words), tuple(labels))
                words, labels = [], []
    if words:
        yield Sentence(language, tuple(words), tuple(labels))


def load_folder(folder: Path, languages: Sequence[str] = LANGUAGES) -> list[Sentence]:
    """Read every file of a folder named `<language>.<anything>`, plain or gzipped.

    Args:
        folder: the data folder, or one single file.
        languages: languages to keep, in this order.
    """
    if folder.is_file():
        return [sentence for sentence in read_sentences(folder) if sentence.language in languages]
    sentences: list[Sentence] = []
    for language in languages:
        for path in sorted(folder.glob(f"{language}.*")):
            sentences.extend(read_sentences(path))
    if not sentences:
        raise FileNotFoundError(f"{folder} holds no file named <language>.<anything>")
    return sentences


def sentence_digest(sentence: Sentence) -> int:
    """Return the split's key: SHA-256 of the case-folded words joined by single spaces."""
    text = " ".join(sentence.words).casefold()
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big")


def split_sentences(sentences: Iterable[Sentence]) -> Split:
    """Split sentences by the digest of their text alone.

    Digest modulo 100 below 13: the held-out pool, of which the 1,000 distinct sentences with the
    smallest digests of each language are evaluated and the rest is left unused. From 13 to 15:
    development (model choice). From 16 on: training. Equal texts, in whatever language or case,
    so fall on one side.
    """
    split = Split([], [], [])
    pools: dict[str, dict[int, Sentence]] = {}
    for sentence in sentences:
        digest = sentence_digest(sentence)
        bucket = digest % 100
        if bucket < HELD_OUT_PERCENT:
            pools.setdefault(sentence.language, {}).setdefault(digest, sentence)
        elif bucket < HELD_OUT_PERCENT + DEVELOPMENT_PERCENT:
            split.development.append(sentence)
        else:
            split.train.append(sentence)
    for pool in pools.values():
        chosen = sorted(pool)[:HELD_OUT_PER_LANGUAGE]
        split.held_out.extend(pool[digest] for digest in chosen)
    return split


def first_pieces(encoding: Encoding) -> dict[int, int]:
    """Map each word's index to the position of its first piece; truncated words are absent."""
    first: dict[int, int] = {}
    for position, word in enumerate(encoding.word_ids):
        if word is not None:
            first.setdefault(word, position)
    return first


def encode_words(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]]) -> list[Encoding]:
    """Encode sentences that are already split into words, without padding."""
    return tokenizer.encode_batch([list(words) for words in sentences], is_pretokenized=True)


def pad_batch(
    sequences: Sequence[Sequence[int]], fill: int = PAD_ID
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pad sequences of ids on the right.

    Returns:
        The ids and the mask (1 for a real piece, 0 for padding), both int64 [batch, sequence].
    """
    width = max(len(sequence) for sequence in sequences)
    ids = np.full((len(sequences), width), fill, dtype=np.int64)
    mask = np.zeros((len(sequences), width), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return ids, mask


def length_batches(lengths: Sequence[int], size: int, pieces: int = 4096) -> list[list[int]]:
    """Group the indices of items of similar length.

    Args:
        lengths: number of pieces of each item.
        size: at most this many items a batch.
        pieces: at most this many pieces a batch, padding included (one item always fits).
    """
    batches: list[list[int]] = [[]]
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        batch = batches[-1]
        # In ascending order the newest item is the longest, so it sets the padded width.
        if batch and (len(batch) == size or (len(batch) + 1) * lengths[index] > pieces):
            batch = []
            batches.append(batch)
        batch.append(index)
    return batches
