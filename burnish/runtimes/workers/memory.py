"""Memory that processes share, and arrays in it.

A region has no name in any file system (`memfd_create(2)`): it is gone with the last process that
has it, however that ends.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import mmap
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401 - its types have names then
import numpy as np

from burnish.optimizer.errors import ResourceLimit, UnsupportedModel
from burnish.runtimes.arrays import Array

ALIGNMENT = 64
"""Bytes that arrays begin at a multiple of, as ONNX Runtime's own do."""

LEAST = 1 << 16
"""Bytes of a region that holds anything."""

TEXT = "text"
"""Stands for the type of strings, which lie in a region as a JSON list."""

_numbers = itertools.count()


class Region:
    """Bytes that processes share; grown where needed, never shrunk.

    Args:
        descriptor: of the memory; None for new memory. Closed with this.
        number: what it is called between a parent and its children.
    """

    def __init__(self, descriptor: int | None = None, number: int | None = None) -> None:
        if descriptor is None:
            if sys.platform != "linux":
                raise UnsupportedModel("worker processes need Linux", hint="workers='threads'")
            descriptor = os.memfd_create("burnish", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            # Where another process made it shorter, reading it would end this one.
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        self.descriptor = descriptor
        self.number = next(_numbers) if number is None else number
        self._view = memoryview(b"")

    def view(self, size: int) -> memoryview:
        """Its bytes, `size` of them at least; what was viewed before stays valid.

        Raises:
            ResourceLimit: there is no memory for it.
        """
        if size > len(self._view):
            room = os.fstat(self.descriptor).st_size
            if room < size:
                room = max(LEAST, -(-size * 5 // 4 // LEAST) * LEAST)
                try:
                    # Never shrinks, and fails here where there is no memory, not at the first use.
                    os.posix_fallocate(self.descriptor, 0, room)
                except OSError:
                    raise ResourceLimit(f"no {room / 1e6:.0f} MB of memory to share") from None
            self._view = memoryview(mmap.mmap(self.descriptor, room))
        return self._view

    def close(self) -> None:
        """Give it up; arrays in it stay valid. A second call does nothing."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor, self._view = -1, memoryview(b"")


class Entry(NamedTuple):
    """Where an array lies; a list where it crosses the process boundary.

    Attributes:
        name: of the value.
        type: of its elements, as numpy or ml_dtypes call it, or `TEXT`.
        shape: its sizes.
        start, size: its place in bytes.
        region: which region it is in.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    start: int
    size: int
    region: int

    @staticmethod
    def of(told: Sequence[Any]) -> Entry:
        """The entry of such a list."""
        name, kind, shape, start, size, region = told
        return Entry(name, kind, tuple(shape), start, size, region)


def put(arrays: Mapping[str, Array], region: Region, start: int = 0) -> list[Entry]:
    """Copy arrays into a region, from a place on.

    Raises:
        UnsupportedModel: a value is no tensor.
        ResourceLimit: there is no memory for it.
    """
    found = []
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise UnsupportedModel(f"{name} is no tensor, which worker processes do not hand on")
        kind, shape = array.dtype.name, tuple(array.shape)
        if array.dtype.kind in "OSU":
            text = json.dumps([str(item) for item in array.ravel().tolist()]).encode()
            kind, array = TEXT, np.frombuffer(text, np.uint8)
        start = -(-start // ALIGNMENT) * ALIGNMENT
        place = np.ndarray(array.shape, array.dtype, region.view(start + array.nbytes), start)
        np.copyto(place, array)
        found.append(Entry(name, kind, shape, start, array.nbytes, region.number))
        start += array.nbytes
    return found


def get(entries: Iterable[Entry], regions: Mapping[int, Region]) -> dict[str, Array]:
    """Arrays where they lie, by name; not to be used once their regions are."""
    found: dict[str, Array] = {}
    for entry in entries:
        view = regions[entry.region].view(entry.start + entry.size)
        if entry.type == TEXT:
            texts = json.loads(bytes(view[entry.start : entry.start + entry.size]))
            found[entry.name] = np.array(texts, object).reshape(entry.shape)
        else:
            kind = np.dtype(entry.type)
            found[entry.name] = np.ndarray(entry.shape, kind, view, entry.start)
    return found


def copied(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays of their own."""
    return {name: array.copy() for name, array in arrays.items()}


def end(entries: Sequence[Entry]) -> int:
    """The first byte behind all of them."""
    return max((entry.start + entry.size for entry in entries), default=0)
