"""`tokenizer.json`: what is in it, and the same with fewer pieces.

The format is that of the library `tokenizers`: a model with the pieces, tokens that were added to
them, and what surrounds a text with special ones; ids stand in each of these.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import StorageError, UnsupportedModel, reason_of
from burnish.optimizer.vocabulary.bpe import Bpe
from burnish.optimizer.vocabulary.kinds import BYTE, Kind
from burnish.optimizer.vocabulary.numbers import Numbers
from burnish.optimizer.vocabulary.unigram import Unigram
from burnish.optimizer.vocabulary.wordpiece import WordPiece

KINDS: dict[str, type[Kind]] = {
    "WordPiece": WordPiece, "WordLevel": WordPiece, "Unigram": Unigram, "BPE": Bpe,
}  # fmt: skip

SURROUND = ("sep", "cls")
"""Fields of post-processors that are a token with its id."""


@dataclass(frozen=True)
class Tokenizer:
    """A `tokenizer.json`.

    Attributes:
        content: of the file.
        kind: its model.
    """

    content: dict[str, Any]
    kind: Kind

    @cached_property
    def pieces(self) -> dict[str, int]:
        """Ids by piece, with those of added tokens."""
        added = {item["content"]: item["id"] for item in self.added}
        return {**self.kind.pieces, **added}

    @property
    def added(self) -> list[dict[str, Any]]:
        """Tokens that were added to the pieces."""
        return list(self.content.get("added_tokens") or [])

    @property
    def of_bytes(self) -> bool:
        """Whether its characters stand for bytes, so that any text is one of them."""
        return '"ByteLevel"' in json.dumps(
            [self.content.get(key) for key in ("pre_tokenizer", "decoder")]
        )

    @cached_property
    def needed(self) -> set[int]:
        """Ids of added tokens and bytes, of those that surround texts, pad, or are unknown."""
        found = {item["id"] for item in self.added}
        found |= {old for piece, old in self.kind.pieces.items() if BYTE.fullmatch(piece)}
        found |= {old for item in _processors(self.content) for old in _surrounding(item)}
        padding = self.content.get("padding")
        found |= {self.kind.unknown, padding["pad_id"] if padding else None} - {None}
        if self.of_bytes:
            kind = self.kind
            found |= {old for piece, old in kind.pieces.items() if kind.character(piece)}
        return {old for old in found if isinstance(old, int)}

    def cut(self, numbers: Numbers) -> dict[str, Any]:
        """The content with only the kept pieces, under their new ids; `needed` are among them."""
        new = numbers.new
        content = copy.deepcopy({k: v for k, v in self.content.items() if k != "model"})
        content["model"] = self.kind.cut(numbers)
        for item in content.get("added_tokens") or []:
            item["id"] = new[item["id"]]
        for processor in _processors(content):
            for key in SURROUND:
                if key in processor:
                    processor[key][1] = new[processor[key][1]]
            for token in (processor.get("special_tokens") or {}).values():
                token["ids"] = [new[old] for old in token["ids"]]
        if content.get("padding"):
            content["padding"]["pad_id"] = new[content["padding"]["pad_id"]]
        return content


def read(path: Path) -> Tokenizer:
    """The tokenizer in a file.

    Raises:
        StorageError: it cannot be read. UnsupportedModel: it is none, or of an unknown kind.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise StorageError(f"tokenizer {path} cannot be read: {reason_of(error)}") from None
    except (ValueError, RecursionError):
        raise UnsupportedModel(f"tokenizer {path} is not JSON") from None
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or "vocab" not in model:
        raise UnsupportedModel(f"{path} is no tokenizer.json: it has no model with a vocabulary")
    name = _kind(model)
    if name not in KINDS:
        raise UnsupportedModel(f"a tokenizer of kind {name} is not known here")
    try:
        found = Tokenizer(content, KINDS[name](model))
        assert found.pieces and found.needed is not None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UnsupportedModel(f"{path} is no tokenizer.json as the library writes it") from None
    return found


def _kind(model: dict[str, Any]) -> str:
    """The kind of a model; files of early versions do not name it."""
    if "type" in model:
        return str(model["type"])
    if isinstance(model["vocab"], list):
        return "Unigram"
    return "BPE" if "merges" in model else "WordPiece"


def _processors(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The post-processors, those in sequences one by one."""
    stack = [content.get("post_processor")]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack += item.get("processors") or []


def _surrounding(processor: dict[str, Any]) -> Iterator[int]:
    """Ids of the tokens that a post-processor puts around texts."""
    for key in SURROUND:
        if key in processor:
            yield processor[key][1]
    for token in (processor.get("special_tokens") or {}).values():
        yield from token["ids"]
