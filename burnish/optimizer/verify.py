"""Differential check of two models on feeds, and the legality check of a graph.

A pass is checked on the regions it changed: the nodes of both graphs are compared, and what
differs is cut out along the values that both graphs know by the same name. The earlier model says
what flows into the region and what came out of it; the later region must give the same, within
the pass's promise. An error is thus seen where it was made, before later layers blur it.
"""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir

from burnish.optimizer import admission
from burnish.optimizer.analysis.shapes import element_types
from burnish.optimizer.contract import Array, Feeds, Kind, Promise, relative_l2
from burnish.optimizer.errors import BurnishError
from burnish.optimizer.model import save, without_weights
from burnish.optimizer.signature import Signature

STRUCTURE_ABOVE = 1 << 16
"""Bytes of a tensor past which the legality check does without its values."""


@dataclass(frozen=True)
class Job:
    """One model for the executor; see `runtimes.onnxruntime.execute`."""

    path: Path
    feeds: list[list[Path]]
    results: Path
    optimize: bool = False

    def as_json(self) -> dict[str, Any]:
        """The job as it crosses the process boundary."""
        return {
            "path": str(self.path),
            "feeds": [[str(folder) for folder in folders] for folders in self.feeds],
            "results": str(self.results),
            "optimize": self.optimize,
        }


@dataclass(frozen=True)
class Verdict:
    """Whether a rewrite kept its promise.

    Attributes:
        problem: why not, in words; empty where it did.
        error: the largest relative L2 error over the values that it changed.
        errors: that error by value.
    """

    problem: str = ""
    error: float = 0.0
    errors: Mapping[str, float] = field(default_factory=dict)


class Executor:
    """Runs models in a child; owns a scratch folder.

    Args:
        execute: hands `{"jobs": [...]}` to a child and returns its report.
        read, write: arrays from and to a folder.
    """

    def __init__(
        self,
        scratch: Path,
        execute: Callable[[dict[str, Any]], dict[str, Any]],
        read: Callable[[Path], dict[str, Array]],
        write: Callable[[Path, Mapping[str, Array]], None],
    ) -> None:
        self.scratch = scratch
        self.read = read
        self.write = write
        self._execute = execute
        self._names = itertools.count()

    def folder(self) -> Path:
        """A new empty folder in the scratch space."""
        path = self.scratch / str(next(self._names))
        path.mkdir(parents=True)
        return path

    def store(self, feeds: Iterable[Feeds]) -> list[Path]:
        """Write feeds once, to be run by several jobs."""
        root = self.folder()
        folders = []
        for index, feed in enumerate(feeds):
            folders.append(root / str(index))
            self.write(folders[-1], feed)
        return folders

    def run(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """Do the jobs in one child; one report each."""
        report = self._execute({"jobs": [job.as_json() for job in jobs]})
        reports: list[dict[str, Any]] = report["jobs"]
        return reports


@dataclass(frozen=True)
class Region:
    """What a rewrite changed, along values that both graphs know.

    Attributes:
        inputs: values that flow into the later graph's changed nodes.
        outputs: values that the unchanged rest (or the caller) takes from them.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def changed_region(before: ir.Model, after: ir.Model) -> Region:
    """Where the graphs differ; no outputs where they do not."""
    tensors = {name: value.const_value for name, value in before.graph.initializers.items()}
    replaced = {
        name
        for name, value in after.graph.initializers.items()
        if not _same_tensor(tensors.get(name), value.const_value)
    }
    known = {_fingerprint(node) for node in before.graph}
    functions = {
        name
        for name, body in after.functions.items()
        if _body(before.functions.get(name)) != _body(body)
    }
    ranks = {
        value.name: len(value.shape)
        for node in before.graph
        for value in node.outputs
        if value.shape is not None
    }
    inputs: dict[str, None] = {}
    outputs: dict[str, None] = {}
    changed = {
        node
        for node in after.graph
        if _fingerprint(node) not in known
        or any(name in replaced for name in _captured_names(node))
        or node.op_identifier() in functions
        or _set_raised(node, before, after)
        or any(_moved(ranks.get(value.name), value) for value in node.outputs)
    }
    for node in after.graph:
        needs = [value for value in captured(node) if value.name not in after.graph.initializers]
        for value in needs:
            inside = value.producer() in changed
            if node in changed and not inside:
                inputs[value.name or ""] = None
            if node not in changed and inside:
                outputs[value.name or ""] = None
    for value in after.graph.outputs:
        producer = value.producer()
        if (
            producer in changed
            or value.name in replaced
            or (producer is None and _output_moved(value, before))
        ):
            outputs[value.name or ""] = None
    return Region(tuple(inputs), tuple(outputs))


def _overwritten(before: ir.Model, after: ir.Model) -> str:
    """A constant that kept its name, type and shape, but not its values.

    Feeds read a sample of a table's rows, so that such a change could pass unseen.
    """
    for name, value in after.graph.initializers.items():
        earlier = before.graph.initializers.get(name)
        first, second = (earlier.const_value if earlier else None), value.const_value
        if first is None or second is None or _same_tensor(first, second):
            continue
        if first.dtype == second.dtype and first.shape.numpy() == second.shape.numpy():
            return name
    return ""


def _body(function: ir.Function | None) -> bytes:
    if function is None:
        return b""
    return bytes(ir.serde.serialize_function(function).SerializeToString(deterministic=True))


def _set_raised(node: ir.Node, before: ir.Model, after: ir.Model) -> bool:
    """Whether the node now is of another version of its operator set."""
    versions = [model.opset_imports.get(node.domain) for model in (before, after)]
    return None not in versions and versions[0] != versions[1]


def _moved(rank: int | None, value: ir.Value) -> bool:
    """Whether a value of the same name now has another rank: what it holds was reshaped."""
    return rank is not None and value.shape is not None and len(value.shape) != rank


def _output_moved(value: ir.Value, before: ir.Model) -> bool:
    """Whether an output that is now a constant or an input was something else."""
    original = next((item for item in before.graph.outputs if item.name == value.name), None)
    return original is not None and original.producer() is not None


def _same_tensor(first: ir.TensorProtocol | None, second: ir.TensorProtocol | None) -> bool:
    if first is second:
        return True
    if first is None or second is None or first.dtype != second.dtype:
        return False
    return first.nbytes == second.nbytes and (
        tuple(first.shape) == tuple(second.shape) and first.tobytes() == second.tobytes()
    )


def _fingerprint(node: ir.Node) -> tuple[Any, ...]:
    attributes = tuple(
        (name, ir.serde.serialize_attribute(value).SerializeToString(deterministic=True))
        for name, value in sorted(node.attributes.items())
        if isinstance(value, ir.Attr)
    )
    inputs = tuple(value.name if value is not None else None for value in node.inputs)
    outputs = tuple(value.name for value in node.outputs)
    return (node.domain, node.op_type, node.overload, attributes, inputs, outputs)


def captured(node: ir.Node) -> list[ir.Value]:
    """The values a node reads, those its subgraphs take from outside included."""
    found = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        for subgraph in _graphs_of(attribute):
            for inner in ir.traversal.RecursiveGraphIterator(subgraph):
                found += [
                    value
                    for value in inner.inputs
                    if value is not None and value.graph is node.graph
                ]
    return found


def _captured_names(node: ir.Node) -> list[str]:
    return [value.name or "" for value in captured(node)]


def _graphs_of(attribute: ir.Attr) -> Sequence[ir.Graph]:
    if attribute.type is ir.AttributeType.GRAPH:
        return (attribute.as_graph(),)
    return attribute.as_graphs() if attribute.type is ir.AttributeType.GRAPHS else ()


def identical(before: ir.Model, after: ir.Model) -> bool:
    """Whether nothing at all differs: nodes, order, initializers, ports."""
    first = [_fingerprint(node) for node in before.graph]
    second = [_fingerprint(node) for node in after.graph]
    return (
        first == second
        and Signature.of(before) == Signature.of(after)
        and before.opset_imports == after.opset_imports
        and list(before.graph.initializers) == list(after.graph.initializers)
        and all(
            _same_tensor(value.const_value, after.graph.initializers[name].const_value)
            for name, value in before.graph.initializers.items()
        )
    )


def cut(model: ir.Model, inputs: Iterable[str], outputs: Iterable[str]) -> ir.Model:
    """The part of the model between values, as a model of its own with the same weights."""
    model = model.clone()
    names = set(outputs)
    graph = ir.convenience.extract(
        model.graph, [name for name in inputs if name not in names], sorted(names)
    )
    if any(value.type is None for value in graph.inputs):
        types = element_types(model)
        for value in graph.inputs:
            # What inference does not know comes out of a fused operator, and those give floats.
            known = types.get(value.name or "", ir.DataType.FLOAT)
            value.type = value.type or ir.TensorType(known)
    return ir.Model(graph, ir_version=model.ir_version, functions=list(model.functions.values()))


class Checker:
    """Holds rewrites to their promises on a set of feeds."""

    def __init__(self, executor: Executor, feeds: Sequence[Path]) -> None:
        self._executor = executor
        self._feeds = list(feeds)

    def check(self, before: ir.Model, after: ir.Model, promise: Promise) -> Verdict:
        """Legality, signature and the changed region; see the module's docstring."""
        if problem := Signature.of(before).difference(Signature.of(after)):
            return Verdict(problem)
        folder = self._executor.folder()
        try:
            if promise.kind is not Kind.LOSSY and (name := _overwritten(before, after)):
                return Verdict(f"constant {name} has other values under the same name")
            region = changed_region(before, after)
            return self._check(before, after, promise, region, folder)
        except BurnishError as error:
            return Verdict(error.message)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _check(
        self, before: ir.Model, after: ir.Model, promise: Promise, region: Region, folder: Path
    ) -> Verdict:
        light = without_weights(after, above=STRUCTURE_ABOVE)
        admission.admit(light, folder)
        (folder / "light.onnx").write_bytes(light.SerializeToString())
        jobs = [Job(folder / "light.onnx", [], folder)]
        if region.outputs and self._feeds:
            if problem := _missing(before, region):
                return Verdict(problem)
            jobs += self._region_jobs(before, after, region, folder)
        reports = self._executor.run(jobs)
        for report in reports:
            if report["error"]:
                return Verdict(f"the result is not legal: {report['error']}")
        return self._compare(jobs, reports, region, promise) if len(jobs) > 1 else Verdict()

    def _region_jobs(
        self, before: ir.Model, after: ir.Model, region: Region, folder: Path
    ) -> list[Job]:
        ports = {value.name for value in before.graph.inputs}
        flows = [name for name in region.inputs if name not in ports]
        observed = cut(before, ports_of(before), {*flows, *region.outputs})
        changed = cut(after, region.inputs, region.outputs)
        save(observed, folder / "before.onnx", external=False)
        save(changed, folder / "after.onnx", external=False)
        first, second = folder / "0", folder / "1"
        return [
            Job(folder / "before.onnx", [[feed] for feed in self._feeds], first),
            Job(
                folder / "after.onnx",
                [[feed, first / str(index)] for index, feed in enumerate(self._feeds)],
                second,
            ),
        ]

    def _compare(
        self, jobs: list[Job], reports: list[dict[str, Any]], region: Region, promise: Promise
    ) -> Verdict:
        errors = dict.fromkeys(region.outputs, 0.0)
        compared = 0
        for index in range(len(self._feeds)):
            if str(index) in reports[1]["failed"]:
                continue
            if str(index) in reports[2]["failed"]:
                return Verdict(f"it no longer runs: {reports[2]['failed'][str(index)]}")
            reference = self._executor.read(jobs[1].results / str(index))
            candidate = self._executor.read(jobs[2].results / str(index))
            compared += 1
            for name in region.outputs:
                error = relative_l2(reference[name], candidate[name])
                if reference[name].dtype != candidate[name].dtype:
                    error = math.inf
                errors[name] = max(errors[name], error)
        if not compared:
            return Verdict("none of the feeds ran through the changed region")
        worst = max(errors, key=lambda name: errors[name])
        if errors[worst] > promise.rel_l2:
            return Verdict(
                f"promised {promise.kind.value} (relative error at most {promise.rel_l2:g}), but "
                f"{worst} differs by {errors[worst]:.3g}",
                errors[worst],
                errors,
            )
        return Verdict("", errors[worst], errors)


def ports_of(model: ir.Model) -> list[str]:
    """Names of the graph's inputs that are not initializers."""
    return [port.name for port in Signature.of(model).inputs]


def _missing(before: ir.Model, region: Region) -> str:
    known = {value.name for node in before.graph for value in node.outputs}
    known |= {value.name for value in before.graph.inputs} | set(before.graph.initializers)
    unknown = [name for name in (*region.inputs, *region.outputs) if name not in known]
    return f"value {unknown[0]} did not exist before" if unknown else ""
