"""Ids in the configurations beside a model: which there are, and the same under new numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from burnish.optimizer.configurations import told_in
from burnish.optimizer.vocabulary.numbers import Numbers

CONFIGURATIONS = ("config.json", "generation_config.json")
TOKENIZER_CONFIG = "tokenizer_config.json"
ADDED = "added_tokens.json"

ONE = ("_token_id", "_token_ids", "_token_index", "bad_words_ids", "suppress_tokens",
       "force_words_ids")  # fmt: skip
"""Ends of names whose value is an id, or lists of such; -1 and the like stand for none."""

NAMED = ("_to_id", "_code_to_id")
"""Ends of names whose value is an object of ids by language or task."""

AT = "forced_decoder_ids"
"""Pairs of a position and an id."""

SIZE = "vocab_size"


def ids_in(folder: Path) -> set[int]:
    """The ids that configurations name, which a model cannot be without."""
    files = (told_in(folder / name) for name in CONFIGURATIONS)
    return {old for content in files for old in _ids(content) if old >= 0}


def rewrite(folder: Path, numbers: Numbers, pieces: int) -> list[str]:
    """Give the configurations in a folder the new ids; the files that were written anew.

    Args:
        folder: its files are changed in place.
        numbers: ids that are not kept are left out of lists.
        pieces: of the tokenizer before, for which a model has at least as many rows.
    """
    changed = {
        name: _renumbered(told_in(folder / name), numbers, pieces) for name in CONFIGURATIONS
    }
    config = told_in(folder / TOKENIZER_CONFIG)
    decoder = config.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        kept = {numbers.new[int(old)]: token for old, token in decoder.items() if int(old) in
                numbers.new}  # fmt: skip
        config["added_tokens_decoder"] = {str(new): token for new, token in kept.items()}
        changed[TOKENIZER_CONFIG] = config
    added = told_in(folder / ADDED)
    changed[ADDED] = {token: numbers.new[old] for token, old in added.items() if old in numbers.new}
    written = [name for name in changed if (folder / name).exists()]
    for name in written:
        (folder / name).write_text(_text(changed[name]), "utf-8")
    return written


def renumbered(path: Path, numbers: Numbers, pieces: int) -> str:
    """A configuration with the new ids; empty where there is none. See `rewrite`."""
    return _text(_renumbered(told_in(path), numbers, pieces)) if path.exists() else ""


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _ids(content: dict[str, Any]) -> Iterator[int]:
    for key, value in content.items():
        if key == AT:
            yield from (pair[1] for pair in value or [] if isinstance(pair[1], int))
        elif key.endswith(NAMED) and isinstance(value, dict):
            yield from (old for old in value.values() if isinstance(old, int))
        elif key.endswith(ONE):
            yield from _numbers(value)
        elif isinstance(value, dict):
            yield from _ids(value)


def _numbers(value: Any) -> Iterator[int]:
    """The integers in nested lists."""
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value


def _renumbered(content: dict[str, Any], numbers: Numbers, pieces: int) -> dict[str, Any]:
    new: dict[str, Any] = {}
    for key, value in content.items():
        if key == AT and isinstance(value, list):
            new[key] = [[place, numbers.new.get(old, old)] for place, old in value]
        elif key.endswith(NAMED) and isinstance(value, dict):
            new[key] = {name: numbers.new.get(old, old) for name, old in value.items()}
        elif key.endswith(ONE):
            new[key] = _new(value, numbers)
        elif key.endswith(SIZE) and isinstance(value, int) and value >= pieces:
            new[key] = len(numbers.rows(value))
        else:
            new[key] = _renumbered(value, numbers, pieces) if isinstance(value, dict) else value
    return new


def _new(value: Any, numbers: Numbers) -> Any:
    """An id, or lists of such, under new numbers.

    What is not kept is left out of lists, and so are sequences that it is in: there are none of
    them any more.
    """
    if isinstance(value, list):
        return [_new(item, numbers) for item in value if _kept(item, numbers)]
    return numbers.new.get(value, value) if isinstance(value, int) else value


def _kept(item: Any, numbers: Numbers) -> bool:
    return all(old < 0 or old in numbers.new for old in _numbers(item))
