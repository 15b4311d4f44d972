"""Arrays between processes: `.npy` files without pickles, with an index of their names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def _plain(array: Any) -> Array:
    """Sequences of arrays, as Split or control flow give, end to end; strings without objects."""
    if array is None:  # an optional without a value
        return np.zeros(0)
    if isinstance(array, list):
        return np.concatenate([_plain(item).ravel() for item in array])
    plain: Array = array.astype(str) if array.dtype == object else array
    return plain


def write_arrays(folder: Path, arrays: Mapping[str, Array]) -> None:
    """Store arrays as `.npy` files with an index of their names (names may hold any character)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "names.json").write_text(json.dumps(list(arrays)))
    for index, array in enumerate(arrays.values()):
        np.save(folder / f"{index}.npy", _plain(array), allow_pickle=False)


def read_arrays(folder: Path) -> dict[str, Array]:
    """What `write_arrays` stored."""
    names = json.loads((folder / "names.json").read_text())
    return {
        name: np.load(folder / f"{index}.npy", allow_pickle=False)
        for index, name in enumerate(names)
    }
