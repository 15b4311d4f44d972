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
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise StorageError(f"data {path} is not readable text") from None
    if not lines:
        raise UsageError(f"data {path} is empty")
    if path.suffix == ".txt":
        return Data.alike(tokenize(lines[: BATCH * MOST_FEEDS], slots, beside))
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(lines, path):
        groups.setdefault(str(row.get(GROUP, "")), []).append(row)
    share = max(1, MOST_FEEDS // len(groups))
    found = [_group(rows, share, slots, beside, path) for rows in groups.values()]
    named = [Data.alike(feeds, name) for name, feeds in zip(groups, found, strict=True)]
    return Data([x for item in named for x in item.feeds], [x for i in named for x in i.groups])


def _rows(lines: Sequence[str], path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file."""
    try:
        rows = [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        raise UsageError(f"data {path} holds a line that is not JSON") from None
    if not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"data {path} holds a line that is not an object")
    return rows


def _group(
    rows: list[dict[str, Any]], share: int, slots: Sequence[Slot], beside: Path, path: Path
) -> list[Feeds]:
    """At most `share` feeds of the rows of one group."""
    if all(isinstance(row.get("text"), str) for row in rows):
        return tokenize([row["text"] for row in rows[: BATCH * share]], slots, beside)
    return [fit_row(row, slots, path) for row in rows[:share]]


def tokenize(texts: Sequence[str], slots: Sequence[Slot], beside: Path) -> list[Feeds]:
    """Batches of texts through `tokenizer.json`.

    They are padded to the longest of each batch, or to what the model's own shape says; texts that
    do not fill a batch of a fixed size are left out.
    """
    from tokenizers import Tokenizer

    file = beside / TOKENIZER if beside.is_dir() else beside
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # the binding raises plain Exception for every failure
        raise UsageError(
            f"texts need a tokenizer, and {file} is none", hint="--tokenizer FILE"
        ) from None
    ids = main_ids(slots)
    if ids is None:
        raise UsageError("the model takes no token ids, so texts are no data for it")
    rows, length = (size if isinstance(size, int) else None for size in ids.port.shape or ())
    limit = min((slot.bound for slot in slots if slot.role is Role.POSITIONS), default=LONGEST)
    tokenizer.enable_truncation(length or min(limit, LONGEST))
    # Which piece pads, and on which side, is the tokenizer's own business where it says so.
    tokenizer.enable_padding(**(tokenizer.padding or {}) | {"length": length})
    feeds: list[Feeds] = []
    step = rows or BATCH
    for start in range(0, len(texts) - (len(texts) % step if rows else 0), step):
        batch = tokenizer.encode_batch(list(texts[start : start + step]))
        shape = len(batch), len(batch[0].ids)
        feed = make(list(slots), Sizes(*shape), Masking.FULL, 0, {})
        for slot in slots:
            name, like = slot.port.name, feed[slot.port.name]
            if slot is ids:
                found = np.array([item.ids for item in batch], like.dtype)
                # A tokenizer of fewer tokens gives their new numbers.
                feed[name] = np.array(slot.allowed, like.dtype)[found] if slot.allowed else found
            elif slot.role is Role.MASK and like.shape == shape:
                feed[name] = np.array([item.attention_mask for item in batch], like.dtype)
            elif slot.role is Role.IDS and like.shape == shape:
                feed[name] = np.array([item.type_ids for item in batch], like.dtype)
        feeds.append(feed)
    if not feeds:
        raise UsageError(f"the model takes {rows} texts at a time, and there are {len(texts)}")
    return feeds[:MOST_FEEDS]


def main_ids(slots: Sequence[Slot]) -> Slot | None:
    """The input that takes token ids: of those that index a table, the one with the largest."""
    found = [slot for slot in slots if slot.role is Role.IDS and len(slot.port.shape or ()) == 2]
    return max(found, key=lambda slot: slot.bound, default=None)
