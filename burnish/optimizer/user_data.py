"""The user's own data as feeds: .npz, a folder of .npz, or .jsonl and .txt with a tokenizer.

Lines of .jsonl may name a group (a language, a domain) beside what they hold; each group then has
its share of the feeds, and a feed is of one group.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import Array, Feeds
from burnish.optimizer.errors import StorageError, UsageError
from burnish.optimizer.feeds import Masking, Sizes, make
from burnish.optimizer.roles import Role, Slot

BATCH = 16
"""Texts that make one feed."""

MOST_FEEDS = 16
"""Feeds taken from the data; what lies beyond is not read."""

LONGEST = 512
"""Pieces of a text past which it is cut, where the model says no less."""

TOKENIZER = "tokenizer.json"

GROUP = "group"
"""Key of a line that names its group."""


@dataclass(frozen=True)
class Data:
    """Feeds, and the group of each ("" where there are none)."""

    feeds: list[Feeds]
    groups: list[str]

    @classmethod
    def alike(cls, feeds: Sequence[Feeds], group: str = "") -> Data:
        """Feeds of one group."""
        return cls(list(feeds), [group] * len(feeds))


def read(path: Path, slots: Sequence[Slot], beside: Path) -> Data:
    """The feeds in `path`; at most `MOST_FEEDS`, or one for each group.

    Args:
        path: `.npz` (one array per input), a folder of those, `.txt` (a text a line), or
            `.jsonl` (a line holds input arrays by name, or `{"text": ...}`, and maybe `"group"`).
        slots: the model's inputs.
        beside: folder with the model's `tokenizer.json`, for texts.

    Raises:
        StorageError: unreadable. UsageError: the data does not fit the model.
    """
    if not path.exists():
        raise StorageError(f"data {path} does not exist")
    if path.is_dir():
        files = sorted(path.glob("*.npz"))[:MOST_FEEDS]
        if not files:
            raise UsageError(f"data {path} is a folder without .npz files")
        return Data.alike([read_npz(file, slots) for file in files])
    if path.suffix == ".npz":
        return Data.alike([read_npz(path, slots)])
    if path.suffix in (".txt", ".jsonl"):
        return _lines(path, slots, beside)
    raise UsageError(f"data {path} is none of .npz, a folder of .npz, .jsonl, .txt")


def read_npz(path: Path, slots: Sequence[Slot]) -> Feeds:
    """The arrays of a file as the inputs want them; raises as `read` does."""
    try:
        # Opened here: where the archive is broken, `np.load` leaves a file of its own open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile, TypeError, AttributeError):
        raise StorageError(f"data {path} is not an .npz file of plain arrays") from None
    return fit_row(arrays, slots, path)


def fit_row(arrays: Mapping[str, Any], slots: Sequence[Slot], path: Path) -> dict[str, Array]:
    """The arrays as the inputs want them."""
    feed = {}
    for slot in slots:
        if slot.port.name not in arrays:
            raise UsageError(f"data {path} has no array for input {slot.port.name}")
        try:
            given = np.asarray(arrays[slot.port.name])
            with np.errstate(invalid="ignore"):
                array = given.astype(ir.DataType[slot.port.dtype].numpy())
            if array.dtype.kind in "iu" and not (array == given).all():
                raise ValueError("values are cut or wrapped")
        except (ValueError, TypeError, OverflowError):
            raise UsageError(
                f"data {path} holds values that are no array of {slot.port.dtype} for input "
                f"{slot.port.name}"
            ) from None
        if slot.port.shape is not None and array.ndim != len(slot.port.shape):
            raise UsageError(
                f"data {path}: input {slot.port.name} wants {len(slot.port.shape)} axes, "
                f"not {array.ndim}"
            )
        feed[slot.port.name] = _known(array, slot, path) if slot.allowed else array
    return feed


def _known(ids: Array, slot: Slot, path: Path) -> Array:
    """Ids with those that do not count as what stands for them."""
    there = np.isin(ids, slot.allowed) | (ids < 0)
    if slot.unknown < 0 and not there.all():
        raise UsageError(
            f"data {path} holds id {ids[~there][0]}, which the vocabulary has no more",
            hint="texts, which are split anew",
        )
    return np.where(there, ids, np.array(slot.unknown, ids.dtype))


def _lines(path: Path, slots: Sequence[Slot], beside: Path) -> Data:
    lines = _whole_lines(path)
    if path.suffix == ".txt":
        return Data.alike(tokenize(lines[: BATCH * MOST_FEEDS], slots, beside))
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(lines, path):
        groups.setdefault(str(row.get(GROUP, "")), []).append(row)
    share = max(1, MOST_FEEDS // len(groups))
    found = [_group(rows, share, slots, beside, path) for rows in groups.values()]
    named = [Data.alike(feeds, name) for name, feeds in zip(groups, found, strict=True)]
    return Data([x for item in named for x in item.feeds], [x for i in named for x in i.groups])


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file that hold something."""
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise StorageError(f"data {path} is not readable text") from None
    if not lines:
        raise UsageError(f"data {path} is empty")
    return lines


def texts_in(path: Path) -> list[str]:
    """All texts of a `.txt` or `.jsonl` file; none where it holds arrays.

    Raises:
        StorageError: unreadable. UsageError: a line is no object.
    """
    if path.suffix not in (".txt", ".jsonl"):
        return []
    lines = _whole_lines(path)
    if path.suffix == ".txt":
        return lines
    rows = _rows(lines, path)
    return [row["text"] for row in rows] if _are_texts(rows) else []


def feeds_in(path: Path, slots: Sequence[Slot]) -> list[Feeds]:
    """All feeds that a file, or a folder of `.npz` files, holds as arrays.

    Raises:
        StorageError: unreadable. UsageError: the data does not fit the model.
    """
    if path.suffix == ".jsonl":
        return [fit_row(row, slots, path) for row in _rows(_whole_lines(path), path)]
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    return [read_npz(file, slots) for file in files]


def _rows(lines: Sequence[str], path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file."""
    try:
        rows = [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        raise UsageError(f"data {path} holds a line that is not JSON") from None
    if not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"data {path} holds a line that is not an object")
    return rows


def _are_texts(rows: Sequence[Mapping[str, Any]]) -> bool:
    return all(isinstance(row.get("text"), str) for row in rows)


def _group(
    rows: list[dict[str, Any]], share: int, slots: Sequence[Slot], beside: Path, path: Path
) -> list[Feeds]:
    """At most `share` feeds of the rows of one group."""
    if _are_texts(rows):
        return tokenize([row["text"] for row in rows[: BATCH * share]], slots, beside)
    return [fit_row(row, slots, path) for row in rows[:share]]


def tokenize(texts: Sequence[str], slots: Sequence[Slot], beside: Path) -> list[Feeds]:
    """Batches of texts through `tokenizer.json`.

    They are padded to the longest of each batch, or to what the model's own shape says; texts that
    do not fill a batch of a fixed size are left out.
    """
    splitter = Splitter(slots, beside)
    rows, step = splitter.rows, splitter.rows or BATCH
    whole = len(texts) - (len(texts) % step if rows else 0)
    feeds = [splitter.feed(texts[start : start + step]) for start in range(0, whole, step)]
    if not feeds:
        raise UsageError(f"the model takes {rows} texts at a time, and there are {len(texts)}")
    return feeds[:MOST_FEEDS]


class Splitter:
    """Makes feeds of texts, by a tokenizer.

    Args:
        slots: the model's inputs.
        beside: a `tokenizer.json`, or the folder that holds one.
        longest: pieces of a text past which it is cut, where neither the shape says nor fewer are
            what the model knows.

    Attributes:
        rows: texts of a feed where the model fixes that; else 0.

    Raises:
        UsageError: there is no tokenizer, or the model takes no token ids.
    """

    def __init__(self, slots: Sequence[Slot], beside: Path, longest: int = LONGEST) -> None:
        self._slots = list(slots)
        self._tokenizer = _tokenizer(beside)
        ids = main_ids(slots)
        if ids is None:
            raise UsageError("the model takes no token ids, so texts are no data for it")
        self._ids = ids
        rows, length = (size if isinstance(size, int) else 0 for size in ids.port.shape or ())
        self.rows = rows
        limit = min((slot.bound for slot in slots if slot.role is Role.POSITIONS), default=longest)
        self._tokenizer.enable_truncation(length or min(limit, longest))
        # Which piece pads, and on which side, is the tokenizer's own business where it says so.
        padding = (self._tokenizer.padding or {}) | {"length": length or None}
        self._tokenizer.enable_padding(**padding)

    def feed(self, texts: Sequence[str]) -> Feeds:
        """One feed of these texts, padded to the longest of them."""
        batch = self._tokenizer.encode_batch(list(texts))
        shape = len(batch), len(batch[0].ids)
        feed = make(self._slots, Sizes(*shape), Masking.FULL, 0, {})
        for slot in self._slots:
            name, like = slot.port.name, feed[slot.port.name]
            if slot is self._ids:
                found = np.array([item.ids for item in batch], like.dtype)
                # A tokenizer of fewer tokens gives their new numbers.
                feed[name] = np.array(slot.allowed, like.dtype)[found] if slot.allowed else found
            elif slot.role is Role.MASK and like.shape == shape:
                feed[name] = np.array([item.attention_mask for item in batch], like.dtype)
            elif slot.role is Role.IDS and like.shape == shape:
                feed[name] = np.array([item.type_ids for item in batch], like.dtype)
        return feed


def _tokenizer(beside: Path) -> Any:
    from tokenizers import Tokenizer

    file = beside / TOKENIZER if beside.is_dir() else beside
    try:
        return Tokenizer.from_file(str(file))
    except Exception:  # the binding raises plain Exception for every failure
        raise UsageError(
            f"texts need a tokenizer, and {file} is none", hint="--tokenizer FILE"
        ) from None


def main_ids(slots: Sequence[Slot]) -> Slot | None:
    """The input that takes token ids: of those that index a table, the one with the largest."""
    found = [slot for slot in slots if slot.role is Role.IDS and len(slot.port.shape or ()) == 2]
    return max(found, key=lambda slot: slot.bound, default=None)
