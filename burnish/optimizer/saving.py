"""Save a model: whole or not at all, large weights streamed to a data file beside it.

Weights that a pass computes are `onnx_ir.LazyTensor`s, evaluated one at a time while they are
written, so that a model's size bounds neither compiling nor saving.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from burnish.optimizer.errors import not_written
from burnish.optimizer.model import SMALL, embed, initializers, load, weight_bytes
from burnish.optimizer.wire import join, mapped, split

EXTERNAL_ABOVE = 1_500_000_000
"""Bytes of weights past which they are written to a file of their own."""

SHARED = 0.05
"""Share of the weights of several models that is worth a data file in common."""

ALIGNMENT = 4096
"""External tensors start at multiples of this, so that they can be mapped."""


def save(model: ir.Model, path: Path, *, external: bool) -> tuple[Path, ...]:
    """Write the model so that `path` is at every moment absent, old, or new and whole.

    Weights go to `NAME-DIGEST.data` beside it where `external` says so, or where they exceed
    `EXTERNAL_ABOVE`. The data file is in place before the model that names it. A data file of an
    earlier model at `path` is removed only after that.

    Returns:
        The files of the model, the .onnx file first.

    Raises:
        StorageError: where writing failed; nothing is left behind.
    """
    light, large = _lightened(model)
    data: tuple[Path, ...] = ()
    before = files_of(path)
    try:
        if external or weight_bytes(model) > EXTERNAL_ABOVE:
            data = (_write_data(large, path),)
            weights = {}
        else:
            weights = {value.name: tensor for value, tensor in large}
        message = ir.to_proto(light)
        inside = {}
        for index, tensor in enumerate(message.graph.initializer):
            if tensor.name in weights:
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
                inside[index] = weights[tensor.name]
        with _atomic(path) as stream:
            for piece in join(message.SerializeToString(deterministic=True), inside):
                stream.write(piece)
    except OSError as error:
        remove(file for file in data if file not in before)
        raise not_written("writing failed", error) from None
    remove(file for file in before if file not in data)
    return (path, *data)


def store_once(paths: Sequence[Path], name: str) -> int:
    """Give models in one folder, which we wrote, a data file in common; the bytes that saves.

    Weights with the same elements are stored once, as the table of tokens is that an encoder and a
    decoder have both. Nothing changes where that is less than `SHARED` of all.

    Args:
        paths: the .onnx files.
        name: of the data file, before its digest.

    Raises:
        StorageError: writing failed; the models are as they were, or all changed.
    """
    pairs = [_lightened(load(path).model) for path in paths]
    large = [item for _, tensors in pairs for item in tensors]
    unique: dict[tuple[object, ...], ir.TensorProtocol] = {}
    same = [(value, unique.setdefault(_content(tensor), tensor)) for value, tensor in large]
    whole = sum(tensor.nbytes for _, tensor in large)
    saved = whole - sum(tensor.nbytes for tensor in unique.values())
    if saved < SHARED * whole:
        return 0
    before = [file for path in paths for file in files_of(path)]
    try:
        data = _write_data(same, paths[0].with_name(name))
        for path, (light, _) in zip(paths, pairs, strict=True):
            with _atomic(path) as stream:
                stream.write(ir.to_proto(light).SerializeToString(deterministic=True))
    except OSError as error:
        raise not_written("writing failed", error) from None
    remove(file for file in before if file != data)
    return saved


def _content(tensor: ir.TensorProtocol) -> tuple[object, ...]:
    """What tells tensors with other elements apart."""
    return tensor.dtype, tuple(tensor.shape.numpy()), hashlib.sha256(tensor.tobytes()).digest()


def remove(files: Iterable[Path]) -> None:
    """Remove files that may be gone already."""
    for file in files:
        file.unlink(missing_ok=True)


def files_of(path: Path) -> list[Path]:
    """The data files that a model which we wrote to `path` earlier has for itself."""
    ours = re.compile(re.escape(path.name) + r"-[0-9a-f]{16}\.data")
    own = {name for name in locations(path) if ours.fullmatch(name)}
    if own:
        # A model that was renamed, or copied, still reads them.
        for other in path.parent.glob("*.onnx"):
            if own and other.name != path.name:
                own -= locations(other)
    return [path.parent / name for name in sorted(own)]


def locations(path: Path) -> set[str]:
    """Names of the data files of the model at `path`; none where there is no model."""
    message = onnx.ModelProto()
    try:
        message.ParseFromString(split(mapped(path))[0])
    except Exception:  # protobuf's decoders raise types of their own backend
        return set()
    return {
        entry.value
        for tensor in message.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }


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


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all.

    Raises:
        StorageError: where writing failed; what was at `path` is still there.
    """
    try:
        with _atomic(path) as stream:
            stream.write(text.encode())
    except OSError as error:
        raise not_written("writing failed", error) from None


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


def _lightened(model: ir.Model) -> tuple[ir.Model, list[tuple[ir.Value, ir.TensorProtocol]]]:
    """A copy without the large weights of its main graph, and those by value."""
    light = model.clone()
    large = []
    for value in initializers(light):
        tensor = value.const_value
        assert tensor is not None
        small = tensor.nbytes <= SMALL or tensor.dtype is ir.DataType.STRING
        if small or value.graph is not light.graph:
            embed(value)
        else:
            large.append((value, tensor))
            value.const_value = _reference(value, tensor, "", 0)
    return light, large


def _reference(
    value: ir.Value, tensor: ir.TensorProtocol, file: str, offset: int
) -> ir.ExternalTensor:
    shape = ir.Shape(tensor.shape.numpy())
    return ir.ExternalTensor(
        file, offset, tensor.nbytes, tensor.dtype, shape=shape, name=value.name or ""
    )


def _write_data(large: list[tuple[ir.Value, ir.TensorProtocol]], path: Path) -> Path:
    """Stream the tensors to a file named by their content, to which their values then refer."""
    places: dict[int, int] = {}
    with _atomic(path) as stream:
        for _, tensor in large:
            if id(tensor) in places:
                continue
            stream.write(b"\0" * (-stream.position % ALIGNMENT))
            places[id(tensor)] = stream.position
            stream.write(memoryview(tensor.tobytes()))
        target = stream.target = path.parent / f"{path.name}-{stream.digest[:16]}.data"
    for value, tensor in large:
        value.const_value = _reference(value, tensor, target.name, places[id(tensor)])
    return target
