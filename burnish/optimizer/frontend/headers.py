"""The weights of a checkpoint by their headers: names, types and shapes; no weight is read."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import InvalidModel, StorageError, reason_of

NUMBER = re.compile(r"(?:^|\.)(\d+)\.")
"""The number of a layer in a weight's name; the first one counts."""

NAMES = {
    "F64": "DOUBLE", "F32": "FLOAT", "F16": "FLOAT16", "BF16": "BFLOAT16", "I64": "INT64",
    "I32": "INT32", "I16": "INT16", "I8": "INT8", "U8": "UINT8", "BOOL": "BOOL",
    "F8_E4M3": "FLOAT8E4M3FN", "F8_E5M2": "FLOAT8E5M2",
}  # fmt: skip
"""ONNX's names of the types that the format has."""


@dataclass(frozen=True)
class Stored:
    """One weight.

    Attributes:
        name: as the checkpoint calls it.
        dtype: ONNX's name of its type, or the format's where ONNX has none.
        shape: its sizes.
        bytes: in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def layer(self) -> int | None:
        """The number of the layer that its name tells; None where it tells none."""
        found = NUMBER.search(self.name)
        return int(found.group(1)) if found else None

    @property
    def stack(self) -> str:
        """What its name has before the number of a layer: one for encoder and one for decoder."""
        found = NUMBER.search(self.name)
        return self.name[: found.start()] if found else ""

    @property
    def is_matrix(self) -> bool:
        """Whether products or lookups may read it."""
        return len(self.shape) == 2 and min(self.shape) > 1


def stored(files: Iterable[Path]) -> list[Stored]:
    """The weights of safetensors files, in order.

    Raises:
        StorageError, InvalidModel: a file cannot be read, or has no legal header.
    """
    return [weight for path in files for weight in _of_file(path)]


def _of_file(path: Path) -> list[Stored]:
    try:
        with path.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        return [_weight(name, item) for name, item in header.items() if name != "__metadata__"]
    except OSError as error:
        raise StorageError(f"{path.name} cannot be read: {reason_of(error)}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InvalidModel(f"{path.name} has no legal safetensors header") from None


def _weight(name: str, item: dict[str, Any]) -> Stored:
    begin, end = item["data_offsets"]
    kind = str(item["dtype"])
    shape = tuple(int(size) for size in item["shape"])
    return Stored(name, NAMES.get(kind, kind), shape, int(end) - int(begin))


def types(weights: Iterable[Stored]) -> dict[str, dict[str, int]]:
    """Tensors, elements and bytes by type."""
    found: dict[str, dict[str, int]] = {}
    for weight in weights:
        entry = found.setdefault(weight.dtype, {"tensors": 0, "elements": 0, "bytes": 0})
        entry["tensors"] += 1
        entry["elements"] += weight.elements
        entry["bytes"] += weight.bytes
    return found


def by_layer(weights: Iterable[Stored]) -> list[dict[str, Any]]:
    """Elements by the layer that names tell, and those of no layer (null) at the end."""
    found: Counter[int | None] = Counter()
    for weight in weights:
        found[weight.layer] += weight.elements
    order = sorted(found.items(), key=lambda item: (item[0] is None, item[0] or 0))
    return [{"layer": layer, "parameters": count} for layer, count in order]
