"""Sentences by language, from the files of a folder.

A file is of the language that its last ending names (`train.de`, `train.en-de.de.gz`), else of
the one that its name begins with (`de.txt`, `de_pud-ud-test.conllu.gz`), else of the nearest folder
that is called so (`de/news.txt`). `.txt`, and what ends in the language, has a sentence a line; of
`.conllu` the comments `# text = ` are read. `.gz` may follow. Other files are none of the corpus.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.optimizer.errors import StorageError, UsageError

MOST = 1_000_000
"""Sentences of a language; what lies beyond is not read."""

HELD_OUT = 10
"""One sentence of so many is held out."""

LEAST = 2 * HELD_OUT
"""Different sentences that a language must have."""

TREES = ".conllu"
TEXT = "# text = "


@dataclass(frozen=True)
class Texts:
    """The different sentences of a language, in order.

    Attributes:
        used: those that tokens are taken from.
        held: those that tell what is lost; every tenth.
    """

    used: list[str]
    held: list[str]


def read(folder: Path, languages: Sequence[str]) -> dict[str, Texts]:
    """The sentences of each language.

    Raises:
        StorageError: the folder or a file in it cannot be read.
        UsageError: a language has no file, or too few sentences.
    """
    if not folder.is_dir():
        raise StorageError(f"corpus {folder} is no folder")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found: dict[str, list[Path]] = {language: [] for language in languages}
    for path in files:
        language = language_of(path.relative_to(folder), languages)
        if language:
            found[language].append(path)
    return {language: _texts(language, paths, folder) for language, paths in found.items()}


def language_of(path: Path, languages: Sequence[str]) -> str:
    """The language of a file; empty where it is of none of them. See the module."""
    name = path.name.removesuffix(".gz")
    stem, _, ending = name.rpartition(".")
    if stem and ending in languages:
        return ending
    if ending not in ("txt", TREES[1:]):
        return ""
    first = re.split(r"[._-]", name)[0]
    folders = reversed(path.parts[:-1])
    return next((item for item in (first, *folders) if item in languages), "")


def _texts(language: str, paths: Sequence[Path], folder: Path) -> Texts:
    if not paths:
        raise UsageError(
            f"corpus {folder} has no file of language {language}",
            hint=f"{language}.txt, a sentence a line",
        )
    sentences: dict[str, None] = {}
    for path in paths:
        for sentence in _sentences(path):
            sentences[sentence] = None
            if len(sentences) == MOST:
                break
    every = list(sentences)
    if len(every) < LEAST:
        raise UsageError(
            f"corpus {folder} has {len(every)} different sentences of language {language}; "
            f"{LEAST} are the least that tell anything"
        )
    held = every[HELD_OUT - 1 :: HELD_OUT]
    return Texts([item for i, item in enumerate(every) if i % HELD_OUT != HELD_OUT - 1], held)


def _sentences(path: Path) -> Iterator[str]:
    """The sentences of a file."""
    trees = path.name.removesuffix(".gz").endswith(TREES)
    opened = gzip.open if path.name.endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8") as stream:
            for line in stream:
                if trees and not line.startswith(TEXT):
                    continue
                if text := line.removeprefix(TEXT if trees else "").strip():
                    yield text
    except (OSError, UnicodeDecodeError, EOFError, zlib.error):
        raise StorageError(f"{path} is not readable text") from None
