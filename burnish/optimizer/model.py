"""Load a model: onnx-ir on the graph, large weights mapped where they lie and never read whole."""

from __future__ import annotations

import functools
from collections.abc import Container, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import onnx
import onnx_ir as ir

from burnish.optimizer import admission
from burnish.optimizer.admission.walk import graphs, tensors
from burnish.optimizer.digests import digest_beside
from burnish.optimizer.errors import InvalidModel, first_line
from burnish.optimizer.wire import Place

SMALL = 1024
"""Bytes of the largest tensor that stays inside the .onnx file in any case."""


@dataclass(frozen=True)
class Loaded:
    """A model and what its file was.

    Attributes:
        model: the graph; its large weights are mapped, not read.
        path: the file.
        files: paths that belong to the model, the .onnx file first.
        external: whether any weight lies outside of the .onnx file.
        overridable: initializers that the file also offers as inputs; they are constants here.
    """

    model: ir.Model
    path: Path
    files: tuple[Path, ...]
    external: bool
    overridable: tuple[str, ...] = ()

    @functools.cached_property
    def _digest(self) -> Future[str]:
        return digest_beside(*self.files)

    def hash_beside(self) -> None:
        """Begin with the digest, in a thread."""
        _ = self._digest

    @property
    def sha256(self) -> str:
        """Digest over the .onnx file and, in order, its external data files."""
        return self._digest.result()


def load(path: Path) -> Loaded:
    """Read, admit and map the model at `path`.

    Raises:
        InvalidModel, UnsafeInput, StorageError: see `admission`.
    """
    message, places = admission.parse(admission.read_file(path))
    folder = path.parent
    admission.admit(message, folder, places)
    names = _resolve_external(message, folder)
    files = (path, *(folder / name for name in names))
    try:
        model = ir.from_proto(message)
    except Exception as error:  # the deserializer raises many types on malformed fields
        raise InvalidModel(f"not a legal graph: {first_line(_first_cause(error))}") from None
    _normalize_domains(model)
    for index, place in places.items():
        _map(model.graph.initializers[message.graph.initializer[index].name], place, path)
    _sort(model)
    return Loaded(model, path, files, bool(names), _fix_constants(model))


def _fix_constants(model: ir.Model) -> tuple[str, ...]:
    """Take initializers off the inputs; the names of those that a caller might have given.

    Until version 4 of the format every initializer was an input as well, and meant nothing by it.
    """
    graph = model.graph
    both = [value for value in graph.inputs if value.name in graph.initializers]
    for value in both:
        graph.inputs.remove(value)
    if model.ir_version >= 4:
        return tuple(value.name or "" for value in both)
    model.ir_version = 4
    return ()


def _resolve_external(message: onnx.ModelProto, folder: Path) -> list[str]:
    """Names of the data files; the message refers to them by their places, links followed.

    Admission has said that they may be read. onnx-ir would refuse the hub's links into `blobs/`.
    """
    names = set()
    for graph, _ in graphs(message.graph):
        for tensor in tensors(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                for entry in tensor.external_data:
                    if entry.key == "location":
                        names.add(entry.value)
                        entry.value = str((folder / entry.value).resolve())
    return sorted(names)


def _normalize_domains(model: ir.Model) -> None:
    """Call the standard domain by the shorter of its two names, as everybody else does."""
    bodies: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for body in bodies:
        if "ai.onnx" in body.opset_imports:
            body.opset_imports.setdefault("", body.opset_imports.pop("ai.onnx"))
        for node in ir.traversal.RecursiveGraphIterator(body):
            if node.domain == "ai.onnx":
                node.domain = ""


def _map(value: ir.Value, place: Place, path: Path) -> None:
    """Let a value's data be that at a place in the model's own file."""
    tensor = value.const_value
    assert tensor is not None
    value.const_value = ir.ExternalTensor(
        str(path.resolve()),
        place.offset,
        place.length,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=value.name or "",
    )


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


_TAKEN: WeakKeyDictionary[ir.Graph, set[str]] = WeakKeyDictionary()
"""Names of the graphs that initializers were added to, collected once for each: a pass gets a graph
of its own, and what it adds besides is named by the graph itself."""


def add_initializer(graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """A new initializer of the graph, named `name` or, where that is taken, like it."""
    taken = _TAKEN.get(graph)
    if taken is None:
        taken = _TAKEN[graph] = value_names(graph)
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name}_{count}"
    taken.add(free)
    tensor.name = free
    kind = ir.TensorType(tensor.dtype)
    value = ir.Value(name=free, shape=ir.Shape(tensor.shape.numpy()), type=kind, const_value=tensor)
    graph.register_initializer(value)
    return value


def separate_names(model: ir.Model, gone: Container[str] = ()) -> None:
    """Rename values that are called like another value anywhere in the model, or in `gone`.

    New values are named graph by graph, and a name in a subgraph must be none of those around it.
    Those in `gone` were of values that there are no more, of which something is known by name.
    """
    taken: set[str | None] = {value.name for value in model.graph.inputs}
    taken |= set(model.graph.initializers)
    outer = [value for node in model.graph for value in node.outputs if value.name]
    taken |= {value.name for value in outer}
    reused = [value for value in outer if value.name in gone and not value.is_graph_output()]
    inner = [
        value
        for graph in model.graph.subgraphs()
        for node in graph
        for value in node.outputs
        if value.name
    ]
    for value in (*reused, *inner):
        name, count = value.name, 1
        while value.name in taken or value.name in gone:
            count += 1
            value.name = f"{name}_{count}"
        taken.add(value.name)


def value_names(graph: ir.Graph) -> set[str]:
    """Every name of a value in the graph and its subgraphs."""
    found: set[str] = set()
    for scope in (graph, *graph.subgraphs()):
        found |= {value.name or "" for value in scope.inputs} | set(scope.initializers)
        found |= {value.name or "" for node in scope for value in node.outputs}
    return found


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
    for graph, value, name in _named_uniquely(light):
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= above or tensor.dtype is ir.DataType.STRING:
            embed(value)
            continue
        del graph.initializers[value.name or ""]
        value.const_value = None
        value.shape, value.dtype = ir.Shape(tensor.shape.numpy()), tensor.dtype
        value.name = name
        if value not in light.graph.inputs:
            light.graph.inputs.append(value)
    return ir.to_proto(light)


def _named_uniquely(model: ir.Model) -> list[tuple[ir.Graph, ir.Value, str]]:
    """Every initializer with its graph and the name that it can have in the main graph."""
    found = [(model.graph, value, name) for name, value in model.graph.initializers.items()]
    taken = value_names(model.graph)
    for graph in model.graph.subgraphs():
        for name, value in graph.initializers.items():
            # A subgraph's inputs have a meaning, so that its weights go to the main graph's.
            free = f"{name}_inner"
            while free in taken:
                free = f"{free}_"
            taken.add(free)
            found.append((graph, value, free))
    return found


def embed(value: ir.Value) -> None:
    """Let a value hold its data itself where that lay in an external file."""
    if isinstance(value.const_value, ir.ExternalTensor):
        value.const_value = ir.Tensor(value.const_value.numpy().copy(), name=value.name)


def adopt(model: ir.Model, light: onnx.ModelProto) -> None:
    """Give `model` the graph of a message that began as its `without_weights`.

    The weights, and the declared types of inputs and outputs, are the model's own. Weights of
    subgraphs, where they were taken out, become the main graph's.
    """
    incoming = ir.from_proto(light)
    graph = incoming.graph
    ports = {value.name: value for value in (*model.graph.inputs, *model.graph.outputs)}
    weights = {name: value.const_value for _, value, name in _named_uniquely(model)}
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


def _first_cause(error: BaseException) -> BaseException:
    """What went wrong first: the library wraps one error for each level that it was at."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
