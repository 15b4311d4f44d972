"""Whether a tensor holds what its shape says, and where its data may be read from."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

import onnx

from burnish.optimizer.errors import InvalidModel, StorageError, UnsafeInput
from burnish.optimizer.wire import Place

MAXIMUM_DIMENSION = 2**48
"""Elements along one axis past which a dimension cannot be meant."""


def admit_tensor(tensor: onnx.TensorProto, folder: Path, place: Place | None = None) -> None:
    """Raise where dimensions, type and data (at `place` in the file, if given) do not fit."""
    where = f"tensor {tensor.name}"
    if any(size < 0 or size > MAXIMUM_DIMENSION for size in tensor.dims):
        raise InvalidModel("a dimension is negative or beyond reason", place=where)
    count = math.prod(tensor.dims)
    if count >= 2**62:
        raise InvalidModel("the number of elements overflows", place=where)
    try:
        bits = _bits(tensor.data_type)
    except (KeyError, ValueError):
        raise InvalidModel(f"data type {tensor.data_type} is not known", place=where) from None
    needed = -(-count * bits // 8)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _admit_external(tensor, folder, needed)
    elif place is not None or tensor.HasField("raw_data"):
        length = len(tensor.raw_data) if place is None else place.length
        if length != needed:
            raise InvalidModel(
                f"{length} bytes of data where the shape needs {needed}", place=where
            )
    elif bits:
        fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
        given = sum(len(getattr(tensor, name)) for name in fields)
        expected = count * (2 if tensor.data_type in _COMPLEX else 1)
        packed = -(-expected * bits // 8) if bits < 8 else expected
        if given not in (expected, packed):
            raise InvalidModel(f"{given} values where the shape needs {expected}", place=where)
    elif len(tensor.string_data) != count:
        raise InvalidModel(
            f"{len(tensor.string_data)} strings where the shape needs {count}", place=where
        )


_COMPLEX = {onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128}


def _bits(data_type: int) -> int:
    """Bits an element takes in raw data; 0 for strings."""
    if data_type == onnx.TensorProto.STRING:
        return 0
    name = onnx.TensorProto.DataType.Name(data_type) if data_type else ""
    sub_byte = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    if name in sub_byte:
        return sub_byte[name]
    return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize) * 8


def _admit_external(tensor: onnx.TensorProto, folder: Path, needed: int) -> None:
    place = f"tensor {tensor.name}"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if len(entries) != len(tensor.external_data):
        raise InvalidModel("an entry of external data is given twice", place=place)
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", needed))
    except ValueError:
        raise InvalidModel(
            "offset or length of external data is not a number", place=place
        ) from None
    path = external_path(entries.get("location", ""), folder, place)
    if offset < 0:
        raise InvalidModel("the offset of external data is negative", place=place)
    if length != needed:
        raise InvalidModel(f"{length} bytes of data where the shape needs {needed}", place=place)
    if offset + length > path.stat().st_size:
        raise InvalidModel(f"external data file {path.name} is too short", place=place)


def external_path(location: str, folder: Path, place: str) -> Path:
    """Where external data lies, if it may be read.

    The file must be beside the model or below it, by its name and after following links. The one
    exception is the cache layout of the Hugging Face hub, where `snapshots/<revision>/` links to
    files in the sibling folder `blobs/`.

    Raises:
        UnsafeInput: absolute, leaving the folder, linked elsewhere (symbolic or hard), no file.
        StorageError: missing.
    """
    if not location or os.path.isabs(location) or "\\" in location or "\0" in location:
        raise UnsafeInput("external data must be named relative to the model", place=place)
    if ".." in Path(location).parts:
        raise UnsafeInput("external data outside of the model's folder", place=place)
    path = folder / location
    try:
        real = path.resolve(strict=True)
        status = real.stat()
    except (OSError, RuntimeError):
        raise StorageError(f"external data file {location} is missing", place=place) from None
    home = folder.resolve()
    if not real.is_relative_to(home) and real.parent not in _blob_folders(home):
        raise UnsafeInput(
            "external data links to a file outside of the model's folder", place=place
        )
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeInput("external data is not a regular file", place=place)
    if status.st_nlink > 1:
        raise UnsafeInput("external data is a hard link to another file", place=place)
    return path


def _blob_folders(home: Path) -> list[Path]:
    """`blobs/` of the hub's cache that `home` is a snapshot (or a folder of a snapshot) of."""
    return [parent.parent / "blobs" for parent in home.parents if parent.name == "snapshots"]
