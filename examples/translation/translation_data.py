"""Parallel sentences, and the tokenizer of all their languages together.

    python translation_data.py DATA FILE [--part val]

writes a part of a folder of parallel sentences as lines that `optimize evaluate` reads.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

SOURCE = "en"
TARGETS = ("de", "fr", "cs")
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
PIECES = 4000

HELD_BACK = 50
"""One English sentence of so many is held back from training, in all languages."""


@dataclass(frozen=True)
class Pair:
    """An English sentence, and one of another language."""

    text: str
    target: str
    language: str


def read(path: Path, part: str = "train") -> list[Pair]:
    """Pairs of a folder with `PART.LANGUAGE.gz`, one sentence a line, or of a .jsonl file."""
    if path.is_file():
        rows = map(json.loads, path.read_text("utf-8").splitlines())
        return [Pair(row["text"], row["target"], row["language"]) for row in rows]
    english = _lines(path, part, SOURCE)
    return [
        Pair(text, target, language)
        for language in TARGETS
        for text, target in zip(english, _lines(path, part, language), strict=True)
        if text and target
    ]


def _lines(folder: Path, part: str, language: str) -> list[str]:
    with gzip.open(folder / f"{part}.{language}.gz", "rt", encoding="utf-8") as stream:
        return [line.strip() for line in stream.read().split("\n")]


def split(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on, and those held back, which share no English sentence with them."""
    back = set(sorted({pair.text for pair in pairs})[HELD_BACK - 1 :: HELD_BACK])
    return (
        [pair for pair in pairs if pair.text not in back],
        [pair for pair in pairs if pair.text in back],
    )


def write(path: Path, pairs: Sequence[Pair]) -> None:
    """As `optimize evaluate` reads them: the language is the group, too."""
    rows = (vars(pair) | {"group": pair.language} for pair in pairs)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def tag(language: str) -> str:
    """The token that a translation into a language begins with."""
    return f"__{language}__"


def make_tokenizer(pairs: Sequence[Pair], pieces: int) -> Tokenizer:
    """Byte pairs over whole words with a mark in front, one vocabulary for all languages."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.Metaspace()
    special = [PAD, END, UNKNOWN, *map(tag, TARGETS)]
    trainer = trainers.BpeTrainer(
        vocab_size=pieces, special_tokens=special, show_progress=False, min_frequency=2
    )
    texts = sorted({pair.text for pair in pairs}) + [pair.target for pair in pairs]
    tokenizer.train_from_iterator(texts, trainer)
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = TemplateProcessing(single=f"$A {END}", special_tokens=[(END, end)])
    return tokenizer


Encoded = tuple[list[int], list[int]]
"""Tokens of a sentence, and of its translation with the language's token in front."""


def encode(tokenizer: Tokenizer, pairs: Sequence[Pair], longest: int = 64) -> list[Encoded]:
    """All pairs as tokens; longer ones are left out."""
    texts = tokenizer.encode_batch([pair.text for pair in pairs])
    targets = tokenizer.encode_batch([pair.target for pair in pairs])
    found = []
    for pair, text, target in zip(pairs, texts, targets, strict=True):
        if max(len(text.ids), len(target.ids)) < longest:
            found.append((text.ids, [tokenizer.token_to_id(tag(pair.language)), *target.ids]))
    return found


def batches(pairs: Sequence[Encoded], tokens: int, draw: random.Random) -> Iterator[list[Encoded]]:
    """Pairs of similar lengths, in a random order, so many target tokens at a time."""
    order = sorted(pairs, key=lambda pair: (len(pair[1]), len(pair[0]), draw.random()))
    found: list[list[Encoded]] = [[]]
    for pair in order:
        if (len(found[-1]) + 1) * len(pair[1]) > tokens and found[-1]:
            found.append([])
        found[-1].append(pair)
    draw.shuffle(found)
    yield from found


def main() -> None:
    """Write a part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--part", default="val")
    arguments = parser.parse_args()
    write(arguments.file, read(arguments.data, arguments.part))


if __name__ == "__main__":
    main()
