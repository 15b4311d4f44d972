"""Admission: what a model file must satisfy before anything else looks at it.

ONNX Runtime and the ONNX checker stop at the first fault with a text about their own insides, and
the checker refuses models that ONNX Runtime runs. So the structure is checked here, on the
protobuf message, without following a single offset: names, order, dimensions, data lengths,
function recursion, and where external data may be read from.
"""

from __future__ import annotations

import graphlib
import math
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx

from burnish.optimizer.errors import InvalidModel, StorageError, UnsafeInput, UnsupportedModel

LFS_POINTER = b"version https://git-lfs.github.com/spec"

Body = onnx.GraphProto | onnx.FunctionProto
"""What holds nodes."""

MAXIMUM_DIMENSION = 2**48
"""Elements along one axis past which a dimension cannot be meant."""

MAXIMUM_DEPTH = 64
"""Levels of nested subgraphs."""


def read_file(path: Path) -> bytes:
    """The bytes of a regular file, or an error in the user's terms."""
    try:
        status = path.stat()
    except OSError as error:
        raise StorageError(_reason(error)) from None
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeInput("not a regular file")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UnsupportedModel("ONNX Runtime cannot open a file whose path is not UTF-8") from None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(_reason(error)) from None
    if not content:
        raise InvalidModel("the file is empty")
    if content.startswith(LFS_POINTER):
        raise InvalidModel("a Git LFS pointer, not the model itself", hint="git lfs pull")
    return content


def parse(content: bytes) -> onnx.ModelProto:
    """The protobuf message in `content`."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception:  # protobuf's decoders raise types of their own backend
        raise InvalidModel(
            "not an ONNX file: it is damaged, cut off or of another format"
        ) from None
    if not model.HasField("graph"):
        raise InvalidModel("not an ONNX file: it has no graph")
    _admit_texts(model)
    return model


def _admit_texts(message: Any) -> None:
    """Raise where a text is not UTF-8, which the decoder leaves as bytes."""
    if isinstance(message, onnx.TensorProto):
        # Listing a tensor's fields would copy its data.
        texts: list[str | bytes] = [message.name, message.doc_string]
        texts += [text for entry in message.external_data for text in (entry.key, entry.value)]
        _admit_text("TensorProto", texts)
        return
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            _admit_text(field.full_name, [value] if isinstance(value, str | bytes) else value)
        elif field.type == field.TYPE_MESSAGE:
            for item in value if isinstance(value, Sequence) else [value]:
                _admit_texts(item)


def _admit_text(place: str, texts: Iterable[str | bytes]) -> None:
    if any(isinstance(text, bytes) for text in texts):
        raise InvalidModel("a text is not UTF-8", place=place.removeprefix("onnx."))


def admit(model: onnx.ModelProto, folder: Path) -> None:
    """Raise unless the message is a structurally sound model whose data lies beside it."""
    _admit_opsets(model)
    _admit_functions(model)
    _admit_body(model.graph, model.opset_import, folder)
    for function in model.functions:
        _admit_body(function, function.opset_import or model.opset_import, folder)
    for value in (*model.graph.input, *model.graph.output):
        _admit_type(value)
    if not model.graph.output:
        raise InvalidModel("the graph has no output")


def _admit_body(body: Body, opsets: Sequence[onnx.OperatorSetIdProto], folder: Path) -> None:
    imported = {_normal(opset.domain) for opset in opsets} or {""}
    for graph, depth in graphs(body):
        if depth > MAXIMUM_DEPTH:
            raise InvalidModel("subgraphs are nested too deeply", place=f"{depth} levels")
        for tensor in tensors(graph):
            _admit_tensor(tensor, folder)
        for tensor in _constants(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                raise UnsupportedModel(
                    "external data of an attribute is not supported", place=f"tensor {tensor.name}"
                )
        if isinstance(graph, onnx.GraphProto) and graph.sparse_initializer:
            place = f"tensor {graph.sparse_initializer[0].values.name}"
            raise UnsupportedModel("sparse weights are not supported", place=place)
        for node in graph.node:
            if not node.op_type:
                raise InvalidModel("a node has no operator", place=node.name)
            if _normal(node.domain) not in imported:
                raise InvalidModel(
                    f"operator domain {node.domain or 'ai.onnx'} is used but not imported",
                    place=_label(node),
                )
            for attribute in node.attribute:
                if not attribute.type:
                    raise InvalidModel(
                        f"attribute {attribute.name} has no type", place=_label(node)
                    )
    _admit_names(body, frozenset())


def _admit_opsets(model: onnx.ModelProto) -> None:
    if not model.opset_import and model.ir_version >= 3:
        raise InvalidModel("no operator set is imported")
    newest = onnx.defs.onnx_opset_version()
    versions: dict[str, int] = {}
    for opset in model.opset_import:
        if versions.setdefault(_normal(opset.domain), opset.version) != opset.version:
            raise InvalidModel(
                f"two versions of operator domain {opset.domain or 'ai.onnx'} are imported"
            )
        if _normal(opset.domain) == "" and not 1 <= opset.version <= newest:
            raise UnsupportedModel(
                f"operator set {opset.version} is not known (1 to {newest} are)",
                hint="exporting with an older opset",
            )


def _admit_functions(model: onnx.ModelProto) -> None:
    bodies = {(function.domain, function.name): function for function in model.functions}
    finished: set[tuple[str, str]] = set()
    for start in bodies:
        stack = [(start, iter(_calls(bodies[start])))]
        active = [start]
        while stack:
            current, calls = stack[-1]
            called = next(calls, None)
            if called is None:
                stack.pop()
                active.pop()
                finished.add(current)
            elif called in active:
                raise InvalidModel("a function calls itself", place=called[1])
            elif called in bodies and called not in finished:
                stack.append((called, iter(_calls(bodies[called]))))
                active.append(called)


def _calls(function: onnx.FunctionProto) -> Iterator[tuple[str, str]]:
    for node in function.node:
        yield node.domain, node.op_type
        for attribute in node.attribute:
            for subgraph in _subgraphs(attribute):
                for graph, _ in graphs(subgraph):
                    yield from ((inner.domain, inner.op_type) for inner in graph.node)


def graphs(body: Body, depth: int = 0) -> Iterator[tuple[Body, int]]:
    """The graph (or function) and its subgraphs at every level, each with its level."""
    yield body, depth
    for node in body.node:
        for attribute in node.attribute:
            for subgraph in _subgraphs(attribute):
                yield from graphs(subgraph, depth + 1)


def _subgraphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def tensors(body: Body) -> Iterator[onnx.TensorProto]:
    """The tensors that a graph or function holds itself: initializers and attributes."""
    if isinstance(body, onnx.GraphProto):
        yield from body.initializer
        for sparse in body.sparse_initializer:
            yield sparse.values
            yield sparse.indices
    yield from _constants(body)


def _constants(body: Body) -> Iterator[onnx.TensorProto]:
    for node in body.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            for item in (*sparse, *attribute.sparse_tensors):
                yield item.values
                yield item.indices


def _admit_tensor(tensor: onnx.TensorProto, folder: Path) -> None:
    place = f"tensor {tensor.name}"
    if any(size < 0 or size > MAXIMUM_DIMENSION for size in tensor.dims):
        raise InvalidModel("a dimension is negative or beyond reason", place=place)
    count = math.prod(tensor.dims)
    if count >= 2**62:
        raise InvalidModel("the number of elements overflows", place=place)
    try:
        bits = _bits(tensor.data_type)
    except (KeyError, ValueError):
        raise InvalidModel(f"data type {tensor.data_type} is not known", place=place) from None
    needed = -(-count * bits // 8)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _admit_external(tensor, folder, needed)
    elif tensor.HasField("raw_data") and len(tensor.raw_data) != needed:
        raise InvalidModel(
            f"{len(tensor.raw_data)} bytes of data where the shape needs {needed}", place=place
        )
    elif not tensor.HasField("raw_data") and bits:
        fields = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
        given = sum(len(getattr(tensor, name)) for name in fields)
        expected = count * (2 if tensor.data_type in _COMPLEX else 1)
        packed = -(-expected * bits // 8) if bits < 8 else expected
        if given not in (expected, packed):
            raise InvalidModel(f"{given} values where the shape needs {expected}", place=place)
    elif not bits and len(tensor.string_data) != count:
        raise InvalidModel(
            f"{len(tensor.string_data)} strings where the shape needs {count}", place=place
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


def _admit_names(body: Body, outer: frozenset[str]) -> None:
    """Every value is defined once, and no node waits for itself."""
    given, initial, results = _ports(body)
    produced = [name for node in body.node for name in node.output if name]
    for names, kind in ((given, "input"), (initial, "initializer"), (produced, "value")):
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidModel(f"{kind} {twice} is defined twice")
    clash = (set(given) | set(initial)) & set(produced)
    if clash:
        raise InvalidModel(f"value {min(clash)} is defined twice")
    base = outer | set(given) | set(initial)
    everything = base | set(produced)
    for node in body.node:
        for name in node.input:
            if name and name not in everything:
                raise InvalidModel(f"input {name} is not defined anywhere", place=_label(node))
    for name in results:
        if name not in everything:
            raise InvalidModel(f"output {name} is not produced by any node")
    _admit_order(body, base)
    for node in body.node:
        for attribute in node.attribute:
            for subgraph in _subgraphs(attribute):
                _admit_names(subgraph, frozenset(everything))


def _ports(body: Body) -> tuple[list[str], list[str], list[str]]:
    """Names of inputs, of initializers and of outputs."""
    if isinstance(body, onnx.FunctionProto):
        return list(body.input), [], list(body.output)
    initial = [tensor.name for tensor in body.initializer]
    initial += [tensor.values.name for tensor in body.sparse_initializer]
    return [value.name for value in body.input], initial, [value.name for value in body.output]


def _admit_order(body: Body, base: frozenset[str]) -> None:
    """Raise where nodes form a cycle (a mere wrong order is mended on loading)."""
    producer = {name: index for index, node in enumerate(body.node) for name in node.output}
    order = graphlib.TopologicalSorter(
        {
            index: {
                producer[name] for name in _reads(node) if name in producer and name not in base
            }
            for index, node in enumerate(body.node)
        }
    )
    try:
        order.prepare()
    except graphlib.CycleError as error:
        place = _label(body.node[error.args[1][0]])
        raise InvalidModel("nodes wait for each other in a cycle", place=place) from None


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names of the values that a node takes, those of its subgraphs from outside included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for subgraph in _subgraphs(attribute):
            given, initial, results = _ports(subgraph)
            own = {*given, *initial, *(name for inner in subgraph.node for name in inner.output)}
            taken = set(results).union(*(_reads(inner) for inner in subgraph.node))
            names |= taken - own
    return names


def _admit_type(value: onnx.ValueInfoProto) -> None:
    kind = value.type.WhichOneof("value")
    if kind is None:
        raise InvalidModel(f"{value.name} has no type")
    if kind != "tensor_type":
        return
    if not value.type.tensor_type.elem_type:
        raise InvalidModel(f"{value.name} has no element type")
    for dimension in value.type.tensor_type.shape.dim:
        if dimension.HasField("dim_value") and not (0 <= dimension.dim_value <= MAXIMUM_DIMENSION):
            raise InvalidModel("a dimension is negative or beyond reason", place=value.name)


def _normal(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _label(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name or (node.output[0] if node.output else '')}".strip()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
