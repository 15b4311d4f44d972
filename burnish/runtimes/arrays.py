"""Arrays between processes: a file of raw numbers behind a header with names, types and shapes.

One file a folder: opening files takes most of the time where many small arrays are handed over. No
pickle is read or written.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

FILE = "arrays"
"""The file: eight bytes with the length of the header, the header, the arrays end to end."""

HEAD = 8


def _plain(array: Any) -> Array:
    """Sequences of arrays, as Split or control flow give, end to end; strings without objects."""
    if array is None:  # an optional without a value
        return np.zeros(0)
    if isinstance(array, list):
        return np.concatenate([_plain(item).ravel() for item in array])
    plain: Array = array.astype(str) if array.dtype == object else array
    return plain


def write_arrays(folder: Path, arrays: Mapping[str, Array]) -> None:
    """Store arrays in a folder, which is made; names may hold any character."""
    plain = {name: np.asarray(_plain(array), order="C") for name, array in arrays.items()}
    told = [[name, array.dtype.str, array.shape] for name, array in plain.items()]
    header = json.dumps(told).encode()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("wb") as stream:
        stream.write(len(header).to_bytes(HEAD, "little") + header)
        for array in plain.values():
            stream.write(array.reshape(-1).view(np.uint8).data if array.size else b"")


def read_arrays(folder: Path, names: Container[str] | None = None) -> dict[str, Array]:
    """What `write_arrays` stored: all of it, or the arrays of some names.

    Raises:
        ValueError: the file does not hold what its header says.
    """
    found: dict[str, Array] = {}
    with (folder / FILE).open("rb") as stream:
        header = stream.read(int.from_bytes(stream.read(HEAD), "little"))
        at, end = HEAD + len(header), os.fstat(stream.fileno()).st_size
        for name, kind, shape in json.loads(header):
            dtype = np.dtype(kind)
            if dtype.hasobject:
                raise ValueError(f"{name} holds objects")
            size = math.prod(shape) * dtype.itemsize
            if at + size > end:
                raise ValueError(f"{folder} ends within {name}")
            if names is None or name in names:
                found[name] = array = np.empty(shape, dtype)
                stream.seek(at)
                if size:
                    stream.readinto(array.reshape(-1).view(np.uint8).data)
            at += size
    return found
