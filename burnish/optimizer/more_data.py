"""More feeds of the user's data than everything is checked on, for what learns from many."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from burnish.optimizer.contract import Feeds
from burnish.optimizer.roles import Slot
from burnish.optimizer.user_data import (
    BATCH,
    GROUP,
    MOST_FEEDS,
    fit_row,
    main_ids,
    read_npz,
    tokenize,
)

MOST_MORE = 96
"""Feeds that are read beyond the first ones."""


def read_more(path: Path, slots: Sequence[Slot], beside: Path) -> list[Feeds]:
    """The feeds that `user_data.read` leaves out, at most `MOST_MORE`; see there.

    Raises:
        StorageError: unreadable. UsageError: the data does not fit the model.
    """
    return list(islice(_feeds(path, slots, beside), MOST_MORE))


def _feeds(path: Path, slots: Sequence[Slot], beside: Path) -> Iterator[Feeds]:
    if path.is_dir():
        for file in sorted(path.glob("*.npz"))[MOST_FEEDS:]:
            yield read_npz(file, slots)
    elif path.suffix in (".txt", ".jsonl"):
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        if path.suffix == ".txt":
            yield from _texts(_spread(lines[BATCH * MOST_FEEDS :]), slots, beside)
        else:
            yield from _rows([json.loads(line) for line in lines], path, slots, beside)


def _spread(texts: Sequence[str]) -> Sequence[str]:
    """As many as are read at most, from all over the file: parts of it may be of one kind each."""
    count = BATCH * MOST_MORE
    if len(texts) <= count:
        return texts
    return [texts[index * len(texts) // count] for index in range(count)]


def _texts(texts: Sequence[str], slots: Sequence[Slot], beside: Path) -> Iterator[Feeds]:
    """Batches of texts; those that do not fill a batch of a fixed size are left out."""
    ids = main_ids(slots)
    size = ids.port.shape[0] if ids is not None and ids.port.shape else 1
    least = size if isinstance(size, int) else 1
    for start in range(0, len(texts), BATCH * MOST_FEEDS):
        part = texts[start : start + BATCH * MOST_FEEDS]
        if len(part) >= least:
            yield from tokenize(part, slots, beside)


def _rows(
    rows: Sequence[dict[str, object]], path: Path, slots: Sequence[Slot], beside: Path
) -> Iterator[Feeds]:
    """What is left of each group, in turn with the others."""
    groups: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        groups.setdefault(str(row.get(GROUP, "")), []).append(row)
    share = max(1, MOST_FEEDS // len(groups))
    parts = []
    for members in groups.values():
        if all(isinstance(row.get("text"), str) for row in members):
            left = [str(row["text"]) for row in members[BATCH * share :]]
            parts.append(_texts(left, slots, beside) if left else iter(()))
        else:
            parts.append(fit_row(row, slots, path) for row in members[share:])
    while parts:
        for part in list(parts):
            feed = next(part, None)
            if feed is None:
                parts.remove(part)
            else:
                yield feed
