"""Which tokens to keep.

Those of the sentences of each language; those that no text may be without (special tokens, bytes);
those of single characters, so that every word stays one that can be written: each letter of the
alphabets that a language uses, and what else occurs. An alphabet that few tokens are written in is
kept whole, since it tells the language by itself, and a corpus shows few of the words of languages
that put no spaces between them (tokens of 900 Chinese sentences are 0.94 of those of others, and
with all of that alphabet 0.99). What splitting needs comes on top; see `kinds`.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import islice
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import StorageError, UnsupportedModel, UsageError, first_line
from burnish.optimizer.vocabulary.corpus import Texts
from burnish.optimizer.vocabulary.rewriting import Tokenizer

BATCH = 1000
"""Sentences that are split at a time."""

SHARE = 1e-3
"""Share of a language's letters from which on an alphabet is one of its own."""

WHOLE = 0.1
"""Share of the tokens up to which all those of an alphabet are kept: not Latin, nor Cyrillic."""

WORD_START = "\u2581"
"""What SentencePiece writes for a space."""


def chosen(
    tokenizer: Tokenizer, corpus: Mapping[str, Texts], listed: Iterable[int] = ()
) -> tuple[int, ...]:
    """The ids to keep, ascending; `listed` are those that are named one by one."""
    kept = {*listed, *tokenizer.needed}
    characters: set[str] = set()
    splitting = splitter(tokenizer.content)
    for texts in corpus.values():
        for ids in split(splitting, texts.used):
            kept.update(ids)
        characters |= _characters(texts.used)
    if corpus and not tokenizer.of_bytes:
        kept |= _written_in(tokenizer, characters)
    return tuple(sorted(tokenizer.kind.closed(kept)))


def _written_in(tokenizer: Tokenizer, characters: Set[str]) -> set[int]:
    """Tokens of the characters and of their alphabets' letters; of small alphabets all tokens."""
    used = {alphabet(item) for item in characters} - {""}
    found: set[int] = set()
    words: dict[str, set[int]] = {name: set() for name in used}
    for piece, old in tokenizer.kind.pieces.items():
        one = tokenizer.kind.character(piece)
        if one and (one in characters or alphabet(one) in used or one.isascii()):
            found.add(old)
        names = {alphabet(item) for item in piece if item.isalpha()}
        if len(names) == 1 and (name := names.pop()) in used:
            words[name].add(old)
    most = WHOLE * len(tokenizer.kind.pieces)
    return found.union(*(ids for ids in words.values() if len(ids) <= most))


def listed_in(path: Path, tokenizer: Tokenizer) -> set[int]:
    """The ids in a file: an id or a piece a line; a piece of digits is written in quotes (JSON).

    Raises:
        StorageError: it cannot be read. UsageError: a line is no token.
    """
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        raise StorageError(f"list of tokens {path} is not readable text") from None
    known = {*tokenizer.pieces.values()}
    found = set()
    for number, line in enumerate(lines, start=1):
        piece = line.rstrip("\r")
        if not piece:
            continue
        old = int(piece) if piece.isdecimal() else tokenizer.pieces.get(_piece(piece), -1)
        if old not in known:
            raise UsageError(f"line {number} of {path} is no token of the tokenizer: {piece}")
        found.add(old)
    return found


def _piece(line: str) -> str:
    """A piece as it stands in a line, or in quotes."""
    if len(line) > 1 and line[0] == line[-1] == '"':
        try:
            return str(json.loads(line))
        except ValueError:
            pass
    return line


def alphabet(letter: str) -> str:
    """The alphabet of a letter, by the first word of its name in Unicode; empty for others."""
    return unicodedata.name(letter, "").split(" ")[0] if letter.isalpha() else ""


def _characters(sentences: Sequence[str]) -> set[str]:
    """Characters that occur, but for letters of alphabets that are hardly used."""
    counts = Counter(character for sentence in sentences for character in sentence)
    alphabets: Counter[str] = Counter()
    for character, count in counts.items():
        alphabets[alphabet(character)] += count
    letters = sum(count for name, count in alphabets.items() if name)
    rare = {name for name, count in alphabets.items() if name and count < SHARE * letters}
    return {WORD_START, *(item for item in counts if alphabet(item) not in rare)}


def splitter(content: dict[str, Any]) -> Any:
    """The library's tokenizer of some content; it neither cuts nor pads.

    Raises:
        UnsupportedModel: the library does not take it.
    """
    from tokenizers import Tokenizer as Splitter

    try:
        made = Splitter.from_str(json.dumps(content))
    except Exception as error:  # the binding raises plain Exception for every failure
        raise UnsupportedModel(f"the tokenizer cannot be loaded: {first_line(error)}") from None
    made.no_truncation()
    made.no_padding()
    return made


def split(splitting: Any, sentences: Sequence[str]) -> Iterator[list[int]]:
    """The ids of each sentence, without special tokens around it."""
    rest = iter(sentences)
    while batch := list(islice(rest, BATCH)):
        for item in splitting.encode_batch(batch, add_special_tokens=False):
            yield item.ids
