"""The user's annotated examples: .jsonl, .txt, or columns of words and tags; plain or gzipped.

A folder stands for its files. The group of an example (a language, a domain) is its line's
`"group"`; else the `xx:` before each word of its file; else, in a folder, the file's name up to the
first dot.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import StorageError, UsageError
from burnish.optimizer.metrics.spans import is_tag
from burnish.optimizer.user_data import GROUP

TEXT, TOKENS, TAGS = "text", "tokens", "tags"
"""Fields of examples that are no objects."""

MOST_BYTES = 1 << 30
"""Of a file, unpacked: it is read at once."""

LANGUAGE = re.compile(r"[a-z]{2,3}:")
BEGINNING = "-DOCSTART-"


@dataclass(frozen=True)
class Example:
    """One example.

    Attributes:
        fields: what its line holds; of columns, `tokens` and `tags`.
        group: its group, empty where there are none.
        place: file and line, for messages.
    """

    fields: dict[str, Any]
    group: str
    place: str

    def wrong(self, reason: str) -> UsageError:
        """What to raise where it cannot be used."""
        return UsageError(f"data: {reason}", place=self.place)


def read(path: Path, *, columns: bool) -> list[Example]:
    """All examples of a file or a folder.

    Args:
        path: a file, or a folder of such.
        columns: whether a .txt file holds words and tags in columns, not a text a line.

    Raises:
        StorageError: unreadable. UsageError: there is none in it, or it is in no known form.
    """
    if not path.exists():
        raise StorageError(f"data {path} does not exist")
    files = [path]
    if path.is_dir():
        files = sorted(item for item in path.iterdir() if item.is_file() and item.name[0] != ".")
    found = []
    for file in files:
        examples = list(_file(file, columns=columns))
        if path.is_dir() and not any(item.group for item in examples):
            group = file.name.split(".")[0]
            examples = [replace(item, group=group) for item in examples]
        found += examples
    if not found:
        raise UsageError(f"data {path} holds no examples")
    return found


def _file(path: Path, *, columns: bool) -> Iterator[Example]:
    name = path.name.removesuffix(".gz")
    lines = _text(path).split("\n")
    if name.endswith((".jsonl", ".ndjson")):
        return _objects(lines, path)
    if name.endswith(".txt") and not columns:
        return (
            Example({TEXT: line.strip()}, "", f"{path.name}:{number}")
            for number, line in enumerate(lines, 1)
            if line.strip()
        )
    if columns and not name.endswith((".npz", ".json")):
        return _columns(lines, path)
    raise UsageError(f"data {path} is neither .jsonl nor .txt")


def _text(path: Path) -> str:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError(f"data {path} is longer than {MOST_BYTES >> 20} MiB")
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, EOFError, UnicodeDecodeError):
        raise StorageError(f"data {path} is not readable text") from None


def _objects(lines: list[str], path: Path) -> Iterator[Example]:
    for number, line in enumerate(lines, 1):
        place = f"{path.name}:{number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise UsageError("data: the line is not JSON", place=place) from None
        if not isinstance(row, dict):
            raise UsageError("data: the line is not an object", place=place)
        yield Example(row, str(row.get(GROUP, "")), place)


def _columns(lines: list[str], path: Path) -> Iterator[Example]:
    """Sentences between empty lines; a word first on its line, its tag last."""
    sentences = list(_sentences(lines, path))
    prefixes = [LANGUAGE.match(word) for words, _, _ in sentences for word in words]
    marked = bool(prefixes) and all(prefixes)
    for words, tags, number in sentences:
        group = words[0].split(":")[0] if marked else ""
        plain = [word.split(":", 1)[1] for word in words] if marked else words
        yield Example({TOKENS: plain, TAGS: tags}, group, f"{path.name}:{number}")


def _sentences(lines: list[str], path: Path) -> Iterator[tuple[list[str], list[str], int]]:
    """Words, tags, and the number of the first line."""
    words: list[str] = []
    tags: list[str] = []
    first = 1
    for number, line in enumerate([*lines, ""], 1):
        cells = line.rstrip().split("\t") if "\t" in line else line.split()
        comment = not words and line.startswith("#") and not (cells[1:] and is_tag(cells[-1]))
        if not line.strip() or cells[0] == BEGINNING or comment:
            if words:
                yield words, tags, first
            words, tags = [], []
            continue
        if len(cells) < 2 or not cells[0] or not cells[-1]:
            raise UsageError("data: a line holds a word and a tag", place=f"{path.name}:{number}")
        first = first if words else number
        words.append(cells[0])
        tags.append(cells[-1].strip())
