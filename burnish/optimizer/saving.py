"""Save a model: whole or not at all, large weights streamed to a data file beside it.

Weights that a pass computes are `onnx_ir.LazyTensor`s, evaluated one at a time while they are
written, so that a model's size bounds neither compiling nor saving.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir

from burnish.optimizer.errors import StorageError
from burnish.optimizer.model import SMALL, embed, initializers, weight_bytes

EXTERNAL_ABOVE = 1_500_000_000
"""Bytes of weights past which they are written to a file of their own."""

ALIGNMENT = 4096
"""External tensors start at multiples of this, so that they can be mapped."""


def save(
    model: ir.Model,
    path: Path,
    *,
    external: bool,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[Path, ...]:
    """Write the model so that `path` is at every moment absent, old, or new and whole.

    Weights go to `STEM-DIGEST.data` beside it where `external` says so, where any of them lies in
    a data file already, or where they exceed `EXTERNAL_ABOVE`. The data file is in place before
    the model that names it. A data file of an earlier model at `path` is removed only after that.

    Returns:
        The files of the model, the .onnx file first.

    Raises:
        StorageError: where writing failed; nothing is left behind.
    """
    files: tuple[Path, ...] = (path,)
    before = _files_of(path)
    try:
        outside = any(isinstance(v.const_value, ir.ExternalTensor) for v in initializers(model))
        if external or outside or weight_bytes(model) > EXTERNAL_ABOVE:
            message, data = _write_data(model, path, progress)
            files = (path, data)
        else:
            message = ir.to_proto(model)
        write_message(message, path, keep=files[1:])
    except OSError as error:
        for data in files[1:]:
            if data not in before:
                data.unlink(missing_ok=True)
        raise StorageError(f"writing failed: {(error.strerror or str(error)).lower()}") from None
    return files


def write_message(message: onnx.ModelProto, path: Path, keep: Collection[Path]) -> None:
    """Put the message in place whole, then remove data files of an earlier model at `path`."""
    before = _files_of(path)
    with _atomic(path) as stream:
        stream.write(message.SerializeToString(deterministic=True))
    for old in before:
        if old not in keep:
            old.unlink(missing_ok=True)


def _files_of(path: Path) -> list[Path]:
    """Data files that a model which we wrote to `path` earlier may have."""
    stem = path.name.removesuffix(".onnx")
    pattern_length = len(stem) + 1 + 16 + len(".data")
    return [
        file
        for file in path.parent.glob("*.data")
        if file.name.startswith(f"{stem}-") and len(file.name) == pattern_length
    ]


@contextlib.contextmanager
def _atomic(path: Path) -> Iterator[_Stream]:
    """A temporary file beside `path` that takes its name when everything is on the disk."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            stream = _Stream(file)
            yield stream
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(stream.target or path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class _Stream:
    """A file that knows its position and digest."""

    def __init__(self, file: object) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.position = 0
        self.target: Path | None = None

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)  # type: ignore[attr-defined]
        self._digest.update(data)
        self.position += len(data)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


def _write_data(
    model: ir.Model, path: Path, progress: Callable[[float], None]
) -> tuple[onnx.ModelProto, Path]:
    """Stream the large tensors to a file named by their content; the message refers to it."""
    light = model.clone()
    total = max(weight_bytes(light), 1)
    placed: dict[int, tuple[int, int]] = {}
    large = []
    for value in initializers(light):
        tensor = value.const_value
        assert tensor is not None
        if tensor.nbytes > SMALL and tensor.dtype is not ir.DataType.STRING:
            large.append(value)
        else:
            embed(value)
    stem = path.name.removesuffix(".onnx")
    with _atomic(path) as stream:
        for value in large:
            tensor = value.const_value
            assert tensor is not None
            if id(tensor) in placed:
                continue
            stream.write(b"\0" * (-stream.position % ALIGNMENT))
            data = memoryview(tensor.tobytes())
            placed[id(tensor)] = (stream.position, len(data))
            stream.write(data)
            progress(stream.position / total)
        stream.target = path.parent / f"{stem}-{stream.digest[:16]}.data"
    for value in large:
        tensor = value.const_value
        assert tensor is not None
        offset, length = placed[id(tensor)]
        value.const_value = ir.ExternalTensor(
            stream.target.name,
            offset,
            length,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=value.name or "",
        )
    return ir.to_proto(light), stream.target
