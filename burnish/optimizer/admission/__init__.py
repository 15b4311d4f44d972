"""Admission: what a model file must satisfy before anything else looks at it.

ONNX Runtime and the ONNX checker stop at the first fault with a text about their own insides, and
the checker refuses models that ONNX Runtime runs. So the structure is checked here, on the
protobuf message, without following a single offset: names, order, dimensions, data lengths,
function recursion, and where external data may be read from.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx

from burnish.optimizer.admission.data import MAXIMUM_DIMENSION, admit_tensor
from burnish.optimizer.admission.names import admit_names
from burnish.optimizer.admission.walk import (
    Body,
    constants,
    graphs,
    label,
    normal,
    subgraphs,
    tensors,
)
from burnish.optimizer.errors import (
    InvalidModel,
    StorageError,
    UnsafeInput,
    UnsupportedModel,
    nearest,
    reason_of,
)
from burnish.optimizer.wire import Buffer, Place, mapped, split

LFS_POINTER = b"version https://git-lfs.github.com/spec"

NOWHERE: Mapping[int, Place] = MappingProxyType({})

MAXIMUM_DEPTH = 64
"""Levels of nested subgraphs."""


def read_file(path: Path) -> Buffer:
    """The bytes of a regular file, mapped, or an error in the user's terms."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise StorageError(reason_of(error), hint=_beside(path)) from None
    except OSError as error:
        raise StorageError(reason_of(error)) from None
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeInput("not a regular file")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UnsupportedModel("ONNX Runtime cannot open a file whose path is not UTF-8") from None
    try:
        if not status.st_size:
            # Opened all the same: whether it may be read comes first.
            path.open("rb").close()
            raise InvalidModel("the file is empty")
        content = mapped(path)
    except OSError as error:
        raise StorageError(reason_of(error)) from None
    if content[: len(LFS_POINTER)] == LFS_POINTER:
        raise InvalidModel("a Git LFS pointer, not the model itself", hint="git lfs pull")
    return content


def _beside(path: Path) -> str:
    """A model that a name which no file has may be meant for: the nearest one, or the only one."""
    try:
        models = sorted(item.name for item in path.parent.iterdir() if item.suffix == ".onnx")
    except OSError:
        return ""
    found = nearest(path.name, models) or (models[0] if len(models) == 1 else "")
    return str(path.with_name(found)) if found else ""


def parse(content: Buffer) -> tuple[onnx.ModelProto, dict[int, Place]]:
    """The message in `content`, and where its large weights were left; see `wire.split`."""
    model = onnx.ModelProto()
    try:
        light, places = split(content)
        model.ParseFromString(light)
    except Exception:  # protobuf's decoders raise types of their own backend
        raise InvalidModel(
            "not an ONNX file: it is damaged, cut off or of another format"
        ) from None
    if not model.HasField("graph"):
        raise InvalidModel("not an ONNX file: it has no graph")
    _admit_texts(model)
    return model, places


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


def admit(model: onnx.ModelProto, folder: Path, places: Mapping[int, Place] = NOWHERE) -> None:
    """Raise unless the message is a structurally sound model whose data lies beside it.

    Args:
        model: the message.
        folder: where the file lies.
        places: of data that was left in the model's file, by index of the initializer.
    """
    _admit_opsets(model)
    _admit_functions(model)
    _admit_body(model.graph, model.opset_import, folder, places)
    for function in model.functions:
        _admit_body(function, function.opset_import or model.opset_import, folder)
    for value in (*model.graph.input, *model.graph.output):
        _admit_type(value)
    if not model.graph.output:
        raise InvalidModel("the graph has no output")


def _admit_body(
    body: Body,
    opsets: Sequence[onnx.OperatorSetIdProto],
    folder: Path,
    places: Mapping[int, Place] = NOWHERE,
) -> None:
    imported = {normal(opset.domain) for opset in opsets} or {""}
    for graph, depth in graphs(body):
        if depth > MAXIMUM_DEPTH:
            raise InvalidModel("subgraphs are nested too deeply", place=f"{depth} levels")
        # The initializers are the first of a graph's tensors.
        for index, tensor in enumerate(tensors(graph)):
            admit_tensor(tensor, folder, places.get(index) if depth == 0 else None)
        for tensor in constants(graph):
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
            if normal(node.domain) not in imported:
                raise InvalidModel(
                    f"operator domain {node.domain or 'ai.onnx'} is used but not imported",
                    place=label(node),
                )
            for attribute in node.attribute:
                if not attribute.type:
                    raise InvalidModel(f"attribute {attribute.name} has no type", place=label(node))
    admit_names(body, frozenset())


def _admit_opsets(model: onnx.ModelProto) -> None:
    if not model.opset_import and model.ir_version >= 3:
        raise InvalidModel("no operator set is imported")
    newest = onnx.defs.onnx_opset_version()
    versions: dict[str, int] = {}
    for opset in model.opset_import:
        if versions.setdefault(normal(opset.domain), opset.version) != opset.version:
            raise InvalidModel(
                f"two versions of operator domain {opset.domain or 'ai.onnx'} are imported"
            )
        if normal(opset.domain) == "" and not 1 <= opset.version <= newest:
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
            for subgraph in subgraphs(attribute):
                for graph, _ in graphs(subgraph):
                    yield from ((inner.domain, inner.op_type) for inner in graph.node)


def _admit_type(value: onnx.ValueInfoProto) -> None:
    kind = value.type.WhichOneof("value")
    if kind is None:
        raise InvalidModel(f"{value.name} has no type")
    if kind == "map_type" or value.type.sequence_type.elem_type.HasField("map_type"):
        raise UnsupportedModel(
            "inputs and outputs of maps are not supported",
            place=value.name,
            hint="exporting without ZipMap",
        )
    if kind != "tensor_type":
        return
    if not value.type.tensor_type.elem_type:
        raise InvalidModel(f"{value.name} has no element type")
    for dimension in value.type.tensor_type.shape.dim:
        if dimension.HasField("dim_value") and not (0 <= dimension.dim_value <= MAXIMUM_DIMENSION):
            raise InvalidModel("a dimension is negative or beyond reason", place=value.name)
