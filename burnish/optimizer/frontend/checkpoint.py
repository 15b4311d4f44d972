"""A checkpoint: a folder with a configuration and weights, looked at without loading either."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.optimizer.admission import LFS_POINTER
from burnish.optimizer.configurations import object_of
from burnish.optimizer.errors import (
    InvalidModel,
    StorageError,
    UnsafeInput,
    UnsupportedModel,
    reason_of,
)

CONFIG = "config.json"

SAFE = "model.safetensors"
PICKLED = "pytorch_model.bin"
INDEX = ".index.json"

ELSEWHERE = ("tf_model.h5", "flax_model.msgpack", "model.ckpt.index", "rust_model.ot")
"""Weights of other frameworks, which are no input here."""

LONGEST_HEADER = 100_000_000
"""Bytes of the longest header that a safetensors file may have, by its specification."""


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds.

    Attributes:
        folder: where it is.
        config: the content of `config.json`.
        weights: its files of weights.
        pickled: whether those are pickles.
        own_code: whether it comes with code of its own that its model needs.
    """

    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    pickled: bool
    own_code: bool

    @property
    def bytes(self) -> int:
        """Size of the weights."""
        return sum(path.stat().st_size for path in self.weights)


def read(folder: Path, *, allow_pickle: bool = False, trust_code: bool = False) -> Checkpoint:
    """The checkpoint in a folder.

    Raises:
        InvalidModel: it is none, or incomplete.
        UnsafeInput: it has pickled weights, or code of its own, which were not allowed.
        StorageError: a file of it cannot be read, or stands in for one that was not fetched.
    """
    config = _object(folder / CONFIG) if (folder / CONFIG).exists() else None
    if config is None:
        raise _without_config(folder)
    own_code = bool(config.get("auto_map"))
    if own_code and not trust_code:
        raise UnsafeInput(
            "the model needs code that comes with the checkpoint, which could do anything",
            place=f"auto_map in {CONFIG}",
            hint="--trust-remote-code, if you have read it",
        )
    if not isinstance(config.get("model_type"), str):
        raise InvalidModel(f"{CONFIG} names no model_type, so that its architecture is not known")
    weights, pickled = _weights(folder)
    if pickled and not allow_pickle:
        raise UnsafeInput(
            "its weights are pickled, which may run any code as they are loaded",
            place=weights[0].name,
            hint="a checkpoint in safetensors, or --allow-pickle if you trust this one",
        )
    for path in weights:
        _admit(path, pickled=pickled)
    return Checkpoint(folder, config, weights, pickled, own_code)


def _without_config(folder: Path) -> InvalidModel:
    """What to say of a folder that is no checkpoint."""
    models = sorted(folder.glob("*.onnx"))
    if models:
        return InvalidModel(
            f"a folder without {CONFIG}: it is no checkpoint", hint=f"the file {models[0]}"
        )
    return InvalidModel(
        f"a folder without {CONFIG}: it is no checkpoint",
        hint="one that save_pretrained has written, or an .onnx file",
    )


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path.name} cannot be read: {reason_of(error)}") from None
    if text.startswith(LFS_POINTER):
        raise _pointer(path)
    return object_of(text, path.name)


def _weights(folder: Path) -> tuple[tuple[Path, ...], bool]:
    """Files of weights, and whether they are pickles; safetensors first."""
    for name, pickled in ((SAFE, False), (PICKLED, True)):
        if (folder / name).exists():
            return (folder / name,), pickled
        if (folder / (name + INDEX)).exists():
            return _shards(folder / (name + INDEX)), pickled
    for name in ELSEWHERE:
        if (folder / name).exists():
            raise UnsupportedModel(
                f"{name} holds weights of another framework",
                hint="saving it from PyTorch, with from_pretrained(..., from_tf=True) or the like",
            )
    raise InvalidModel(
        f"the checkpoint has no weights: neither {SAFE} nor {PICKLED}, nor an index of either",
        hint="fetching it again",
    )


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index names, each of which has to be there."""
    named = _object(index).get("weight_map")
    names = sorted(set(named.values())) if isinstance(named, dict) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidModel(f"{index.name} names no files of weights")
    for name in names:
        if Path(name).name != name:
            raise UnsafeInput("an index names a file outside of the checkpoint", place=name)
    missing = [name for name in names if not (index.parent / name).exists()]
    if missing:
        raise InvalidModel(
            f"{missing[0]} is missing, one of {len(names)} files of weights"
            + (f"; so are {len(missing) - 1} others" if len(missing) > 1 else ""),
            place=index.name,
            hint="fetching it again",
        )
    return tuple(index.parent / name for name in names)


def _admit(path: Path, *, pickled: bool) -> None:
    """Raise where a file of weights is none, or cut off."""
    try:
        with path.open("rb") as stream:
            start = stream.read(64)
            size = path.stat().st_size
            if start.startswith(LFS_POINTER):
                raise _pointer(path)
            if pickled:
                return
            length = int.from_bytes(start[:8], "little")
            if len(start) < 8 or length > min(size - 8, LONGEST_HEADER):
                raise InvalidModel(f"{path.name} is no safetensors file, or is cut off")
            stream.seek(8)
            header = json.loads(stream.read(length))
            ends = [item["data_offsets"][1] for name, item in header.items() if name[0] != "_"]
    except OSError as error:
        raise StorageError(f"{path.name} cannot be read: {reason_of(error)}") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise InvalidModel(f"{path.name} has no legal safetensors header") from None
    if max(ends, default=0) + 8 + length != size:
        raise InvalidModel(
            f"{path.name} is cut off: it has {size} bytes, and its header tells of "
            f"{max(ends, default=0) + 8 + length}",
            hint="fetching it again",
        )


def _pointer(path: Path) -> StorageError:
    return StorageError(
        f"{path.name} is a Git LFS pointer, not the file itself", hint="git lfs pull"
    )
