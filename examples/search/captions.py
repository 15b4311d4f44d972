"""Makes pairs of sentences in two languages from a folder of parallel sentences.

    python captions.py DATA FOLDER [--languages en,de,fr,cs]

`DATA` is what `../translation/train.py` takes. Each line of its `train` part becomes a pair of two
languages drawn at random, in `train.jsonl`. Each line of its `val` part becomes one of the first
and another language that mean the same (score 5), and one with a line of another meaning (score 0),
in `test.jsonl`, in groups by language.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from pathlib import Path
from typing import Any


def lines(folder: Path, part: str, language: str) -> list[str]:
    """The sentences of a part, in order."""
    with gzip.open(folder / f"{part}.{language}.gz", "rt", encoding="utf-8") as stream:
        return [line.strip() for line in stream.read().rstrip("\n").split("\n")]


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--languages", default="en,de,fr,cs")
    arguments = parser.parse_args()
    rng, languages = random.Random(0), arguments.languages.split(",")
    columns = [lines(arguments.data, "train", language) for language in languages]
    train: list[dict[str, Any]] = []
    for row in zip(*columns, strict=True):
        first, second = rng.sample(row, 2)
        train.append({"text1": first, "text2": second})
    test: list[dict[str, Any]] = []
    source = lines(arguments.data, "val", languages[0])
    for language in languages[1:]:
        target = lines(arguments.data, "val", language)
        for place, text in enumerate(source):
            other = target[(place + rng.randrange(1, len(target))) % len(target)]
            test.append({"text1": text, "text2": target[place], "score": 5, "group": language})
            test.append({"text1": text, "text2": other, "score": 0, "group": language})
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        made = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (arguments.folder / f"{name}.jsonl").write_text(made, "utf-8")


if __name__ == "__main__":
    main()
