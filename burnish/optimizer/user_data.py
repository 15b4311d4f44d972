"""The user's own data as feeds: .npz, a folder of .npz, or .jsonl and .txt with a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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

TOKENIZER = "tokenizer.json"


def read(path: Path, slots: Sequence[Slot], beside: Path) -> list[Feeds]:
    """The feeds in `path`; at most `MOST_FEEDS`.

    Args:
        path: `.npz` (one array per input), a folder of those, `.txt` (a text a line), or
            `.jsonl` (a line holds input arrays by name, or `{"text": ...}`).
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
        return [_npz(file, slots) for file in files]
    if path.suffix == ".npz":
        return [_npz(path, slots)]
    if path.suffix in (".txt", ".jsonl"):
        return _lines(path, slots, beside)
    raise UsageError(f"data {path} is none of .npz, a folder of .npz, .jsonl, .txt")


def _npz(path: Path, slots: Sequence[Slot]) -> Feeds:
    try:
        # Opened here: where the archive is broken, `np.load` leaves a file of its own open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile, TypeError, AttributeError):
        raise StorageError(f"data {path} is not an .npz file of plain arrays") from None
    return _fit(arrays, slots, path)


def _fit(arrays: Mapping[str, Any], slots: Sequence[Slot], path: Path) -> dict[str, Array]:
    """The arrays as the inputs want them."""
    feed = {}
    for slot in slots:
        if slot.port.name not in arrays:
            raise UsageError(f"data {path} has no array for input {slot.port.name}")
        try:
            array = np.asarray(arrays[slot.port.name], ir.DataType[slot.port.dtype].numpy())
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
        feed[slot.port.name] = array
    return feed


def _lines(path: Path, slots: Sequence[Slot], beside: Path) -> list[Feeds]:
    try:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise StorageError(f"data {path} is not readable text") from None
    if not lines:
        raise UsageError(f"data {path} is empty")
    lines = lines[: BATCH * MOST_FEEDS]
    if path.suffix == ".txt":
        return tokenize(lines, slots, beside)
    try:
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        raise UsageError(f"data {path} holds a line that is not JSON") from None
    if all(isinstance(row, dict) and isinstance(row.get("text"), str) for row in rows):
        return tokenize([row["text"] for row in rows], slots, beside)
    if not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"data {path} holds a line that is not an object")
    return [_fit(row, slots, path) for row in rows[:MOST_FEEDS]]


def tokenize(texts: Sequence[str], slots: Sequence[Slot], beside: Path) -> list[Feeds]:
    """Batches of texts through `tokenizer.json`, padded to the longest of each batch."""
    from tokenizers import Tokenizer

    file = beside / TOKENIZER if beside.is_dir() else beside
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # the binding raises plain Exception for every failure
        raise UsageError(
            f"texts need a tokenizer, and {file} is none", hint="--tokenizer FILE"
        ) from None
    limit = min((slot.bound for slot in slots if slot.role is Role.POSITIONS), default=512)
    tokenizer.enable_truncation(min(limit, 512))
    tokenizer.enable_padding()
    ids = _main_ids(slots)
    feeds: list[Feeds] = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer.encode_batch(list(texts[start : start + BATCH]))
        rows, length = len(batch), len(batch[0].ids)
        feed = make(list(slots), Sizes(rows, length), Masking.FULL, 0, {})
        for slot in slots:
            name, like = slot.port.name, feed[slot.port.name]
            if slot is ids:
                feed[name] = np.array([item.ids for item in batch], like.dtype)
            elif slot.role is Role.MASK and like.shape == (rows, length):
                feed[name] = np.array([item.attention_mask for item in batch], like.dtype)
            elif slot.role is Role.IDS and like.shape == (rows, length):
                feed[name] = np.array([item.type_ids for item in batch], like.dtype)
        feeds.append(feed)
    return feeds


def _main_ids(slots: Sequence[Slot]) -> Slot:
    """The input that takes token ids: of those that index a table, the one with the largest."""
    found = [slot for slot in slots if slot.role is Role.IDS and len(slot.port.shape or ()) == 2]
    if not found:
        raise UsageError("the model takes no token ids, so texts are no data for it")
    return max(found, key=lambda slot: slot.bound)
