"""Turns sentences with annotated names into questions: which person, place, organization is named?

    python entities.py DATA FOLDER

`DATA` is the folder of WikiANN that `../tagger/README.md` describes. Three sentences of a language
are a context; what is named once in it is asked for. One context of 20 goes to `test.jsonl`, the
others to `train.jsonl`; no sentence is in both.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

KINDS = {"PER": "Which person?", "LOC": "Which place?", "ORG": "Which organization?"}
TOGETHER, TESTED = 3, 20


def sentences(path: Path) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Words and labels of the distinct sentences of a file, in an order drawn at random."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        for block in stream.read().split("\n\n"):
            rows = [line.rsplit("\t", 1) for line in block.split("\n") if "\t" in line]
            if rows:
                words = tuple(word.split(":", 1)[1] for word, _ in rows)
                found[words] = tuple(label for _, label in rows)
    chosen = sorted(found.items())
    random.Random(0).shuffle(chosen)
    return chosen


def names(words: tuple[str, ...], labels: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Kind and text of each name."""
    begun: list[str] = []
    for place, label in enumerate(labels):
        if label[0] == "B":
            begun = [words[place]]
        elif label[0] == "I" and begun:
            begun.append(words[place])
        following = labels[place + 1] if place + 1 < len(labels) else "O"
        if begun and following[0] != "I":
            yield label[2:], " ".join(begun)
            begun = []


def questions(path: Path) -> Iterator[tuple[bool, str]]:
    """Lines of a file of sentences, and whether each is for the test."""
    language, rows = path.name.split(".")[0], sentences(path)
    for number, start in enumerate(range(0, len(rows) - TOGETHER + 1, TOGETHER)):
        block = rows[start : start + TOGETHER]
        context = " ".join(word for words, _ in block for word in words)
        found = [name for words, labels in block for name in names(words, labels)]
        for kind, question in KINDS.items():
            named = [text for other, text in found if other == kind]
            if len(named) == 1 and context.count(named[0]) == 1:
                line = {
                    "question": question, "context": context, "answers": named,
                    "group": language,
                }  # fmt: skip
                yield number % TESTED == 0, json.dumps(line, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    lines = [line for path in sorted(arguments.data.glob("*.gz")) for line in questions(path)]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "test"):
        part = [line for tested, line in lines if tested == (name == "test")]
        (arguments.folder / f"{name}.jsonl").write_text("".join(part), "utf-8")
        print(f"{name}.jsonl: {len(part):,} questions")


if __name__ == "__main__":
    main()
