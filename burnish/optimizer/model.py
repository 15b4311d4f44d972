"""Load and save: the onnx-ir model, memory-mapped weights, external data, atomic writes.

Weights that lie in external files are mapped, never read whole. Weights that a pass computes are
`onnx_ir.LazyTensor`s, evaluated one at a time while they are written, so that a model's size
bounds neither compiling nor saving.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from burnish.optimizer import admission
from burnish.optimizer.errors import InvalidModel, StorageError

EXTERNAL_ABOVE = 1_500_000_000
"""Bytes of weights past which they are written to a file of their own."""

SMALL = 1024
"""Bytes of the largest tensor that stays inside the .onnx file in any case."""

ALIGNMENT = 4096
"""External tensors start at multiples of this, so that they can be mapped."""


@dataclass(frozen=True)
class Loaded:
    """A model and what its file was.

    Attributes:
        model: the graph; its large weights are mapped, not read.
        path: the file.
        files: paths that belong to the model, the .onnx file first.
        external: whether any weight lies outside of the .onnx file.
    """

    model: ir.Model
    path: Path
    files: tuple[Path, ...]
    external: bool

    @functools.cached_property
    def sha256(self) -> str:
        """Digest over the .onnx file and, in order, its external data files."""
        return digest_file(*self.files)


def load(path: Path) -> Loaded:
    """Read, admit and map the model at `path`.

    Raises:
        InvalidModel, UnsafeInput, StorageError: see `admission`.
    """
    content = admission.read_file(path)
    message = admission.parse(content)
    folder = path.parent
    admission.admit(message, folder)
    names = _resolve_external(message, folder)
    files = (path, *(folder / name for name in names))
    try:
        model = ir.from_proto(message)
    except Exception as error:  # the deserializer raises many types on malformed fields
        raise InvalidModel(f"not a legal graph: {_first_line(error)}") from None
    _sort(model)
    return Loaded(model, path, files, bool(names))


def _resolve_external(message: onnx.ModelProto, folder: Path) -> list[str]:
    """Names of the data files; the message refers to them by their places, links followed.

    Admission has said that they may be read. onnx-ir would refuse the hub's links into `blobs/`.
    """
    names = set()
    for graph, _ in admission.graphs(message.graph):
        for tensor in admission.tensors(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                for entry in tensor.external_data:
                    if entry.key == "location":
                        names.add(entry.value)
                        entry.value = str((folder / entry.value).resolve())
    return sorted(names)


def _sort(model: ir.Model) -> None:
    """Put nodes in an order in which each comes after what it needs, if they are not."""
    bodies: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for body in bodies:
        seen: set[ir.Node] = set()
        for node in ir.traversal.RecursiveGraphIterator(body):
            seen.add(node)
            producers = (value.producer() for value in node.inputs if value is not None)
            if any(producer is not None and producer not in seen for producer in producers):
                body.sort()
                break


def initializers(model: ir.Model) -> Iterator[ir.Value]:
    """Every initializer with data, of the graph and of its subgraphs."""
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value


def add_initializer(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """A new initializer of the graph, named `name` or, where that is taken, like it."""
    free, count = name, 1
    taken = {value.name for value in graph.inputs} | set(graph.initializers)
    while free in taken:
        count += 1
        free = f"{name}_{count}"
    tensor.name = free
    kind = ir.TensorType(tensor.dtype)
    value = ir.Value(name=free, shape=ir.Shape(tensor.shape.numpy()), type=kind, const_value=tensor)
    graph.register_initializer(value)
    return value


def weight_bytes(model: ir.Model) -> int:
    """Bytes of all initializers, each tensor counted once."""
    tensors = {id(value.const_value): value.const_value for value in initializers(model)}
    return sum(tensor.nbytes for tensor in tensors.values() if tensor is not None)


def count_nodes(model: ir.Model) -> int:
    """Nodes of the graph, its subgraphs and its functions."""
    bodies: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    return sum(1 for body in bodies for _ in ir.traversal.RecursiveGraphIterator(body))


def without_weights(model: ir.Model, above: int = SMALL) -> onnx.ModelProto:
    """The message of the model with each tensor larger than `above` bytes made a graph input.

    What is left has the same structure, shapes and small constants, and fits anywhere: shape
    inference, simplification and legality checks work on it whatever the model's size.
    """
    light = model.clone()
    for graph in (light.graph, *light.graph.subgraphs()):
        for name, value in list(graph.initializers.items()):
            tensor = value.const_value
            if tensor is None or tensor.nbytes <= above or tensor.dtype is ir.DataType.STRING:
                _embed(value)
                continue
            del graph.initializers[name]
            value.const_value = None
            value.shape, value.dtype = ir.Shape(tensor.shape.numpy()), tensor.dtype
            if graph is not light.graph:
                # A subgraph's inputs have a meaning; the outer scope may hold the weight as well.
                _rename_uniquely(value, light.graph)
            if value not in light.graph.inputs:
                light.graph.inputs.append(value)
    return ir.to_proto(light)


def _embed(value: ir.Value) -> None:
    """Let a value hold its data itself where that lay in an external file."""
    if isinstance(value.const_value, ir.ExternalTensor):
        value.const_value = ir.Tensor(value.const_value.numpy().copy(), name=value.name)


def _rename_uniquely(value: ir.Value, graph: ir.Graph) -> None:
    taken = {item.name for item in graph.inputs}
    while value.name in taken:
        value.name = f"{value.name}_"


def adopt(model: ir.Model, light: onnx.ModelProto) -> None:
    """Give `model` the graph of a message that began as its `without_weights`.

    The weights, and the declared types of inputs and outputs, are the model's own.
    """
    incoming = ir.from_proto(light)
    graph = incoming.graph
    ports = {value.name: value for value in (*model.graph.inputs, *model.graph.outputs)}
    weights = {name: item.const_value for name, item in model.graph.initializers.items()}
    declared_inputs = {value.name for value in model.graph.inputs}
    for value in list(graph.inputs):
        if value.name in weights and value.name not in declared_inputs:
            graph.inputs.remove(value)
            value.const_value = weights[value.name]
            if value.uses() or value.is_graph_output():
                graph.register_initializer(value)
    for value in (*graph.inputs, *graph.outputs):
        if (declared := ports.get(value.name)) is not None:
            value.shape, value.type = declared.shape, declared.type
            value.doc_string = declared.doc_string
            value.metadata_props.clear()
            value.metadata_props.update(declared.metadata_props)
    graph.name, graph.doc_string = model.graph.name, model.graph.doc_string
    graph.metadata_props.update(model.graph.metadata_props)
    model.graph = graph


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
            _embed(value)
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


def digest_file(*paths: Path) -> str:
    """SHA-256 over the files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
