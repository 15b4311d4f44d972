"""Differential check of two models on feeds, and the legality check of a graph.

A pass is checked on the regions it changed: the nodes of both graphs are compared, and what
differs is cut out along the values that both graphs know by the same name. The earlier model says
what flows into the region and what came out of it; the later region must give the same, within
the pass's promise. An error is thus seen where it was made, before later layers blur it.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from burnish.optimizer import admission
from burnish.optimizer.contract import Array, Kind, Promise, relative_l2
from burnish.optimizer.emulation import emulated
from burnish.optimizer.errors import BurnishError
from burnish.optimizer.executor import Executor, Job
from burnish.optimizer.model import without_weights
from burnish.optimizer.regions import Region, changed_region, cut, same_tensor
from burnish.optimizer.saving import save
from burnish.optimizer.signature import Signature
from burnish.optimizer.undefined import Undefined, cleared
from burnish.optimizer.widening import widened

STRUCTURE_ABOVE = 1 << 16
"""Bytes of a tensor past which the legality check does without its values."""


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


def _rewritten_constant(before: ir.Model, after: ir.Model) -> str:
    """What became of constants that feeds cannot vouch for; empty where nothing did.

    Feeds read a sample of a table's rows, so that another row could change unseen: a constant
    that kept its name, type and shape, and the table of a lookup that kept its output, must hold
    what they held.
    """
    for name, value in after.graph.initializers.items():
        earlier = before.graph.initializers.get(name)
        first, second = (earlier.const_value if earlier else None), value.const_value
        if first is None or second is None or same_tensor(first, second):
            continue
        if first.dtype == second.dtype and first.shape.numpy() == second.shape.numpy():
            return f"constant {name} has other values under the same name"
    tables = dict(_tables(before))
    for name, table in _tables(after):
        if name in tables and not same_tensor(tables[name], table):
            return f"the lookup {name} reads another table"
    return ""


def _tables(model: ir.Model) -> Iterator[tuple[str, ir.TensorProtocol]]:
    """Constant tables with the name of what is looked up in them by rows."""
    for node in model.graph:
        if node.op_type != "Gather" or node.domain != "":
            continue
        table = node.inputs[0].const_value if node.inputs[0] is not None else None
        rows = node.attributes.get_int("axis", 0) == 0
        if rows and table is not None and len(table.shape) == 2:
            yield node.outputs[0].name or "", table


class Checker:
    """Holds rewrites to their promises on a set of feeds.

    Args:
        executor: runs models.
        feeds: folders of feeds; without any, results are checked for legality alone.
        probes: further feeds, made to find faults, for what has to hold on any input. A lossy pass
            is held to its promise on `feeds` only.
        longer: makes feeds of more than so many tokens, for ways that only those take.
    """

    def __init__(
        self,
        executor: Executor,
        feeds: Sequence[Path],
        probes: Sequence[Path] = (),
        longer: Callable[[int], Sequence[Path]] = lambda length: (),
    ) -> None:
        self._executor = executor
        self._feeds = list(feeds)
        self._probes = list(probes)
        self._longer = longer

    def check(
        self,
        before: ir.Model,
        after: ir.Model,
        promise: Promise,
        undefined: Sequence[Undefined] = (),
        lengths: Sequence[int] = (),
    ) -> Verdict:
        """Legality, signature and the changed region; see the module's docstring.

        Elements of outputs that are `undefined` must be what that says. What computes in bfloat16
         is emulated, and transforms are computed in float64. Feeds longer than each of
        `lengths` are added.
        """
        before, after = (widened(emulated(model)) for model in (before, after))
        if problem := Signature.of(before).difference(Signature.of(after)):
            return Verdict(problem)
        folder = self._executor.folder()
        feeds = self._feeds if promise.kind is Kind.LOSSY else [*self._feeds, *self._probes]
        if feeds:
            feeds = [*feeds, *(path for length in lengths for path in self._longer(length))]
        try:
            if promise.kind is not Kind.LOSSY and (problem := _rewritten_constant(before, after)):
                return Verdict(problem)
            region = changed_region(before, after)
            return self._check(before, after, promise, region, folder, feeds, undefined)
        except BurnishError as error:
            return Verdict(error.message)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _check(
        self,
        before: ir.Model,
        after: ir.Model,
        promise: Promise,
        region: Region,
        folder: Path,
        feeds: list[Path],
        undefined: Sequence[Undefined],
    ) -> Verdict:
        light = without_weights(after, above=STRUCTURE_ABOVE)
        admission.admit(light, folder)
        (folder / "light.onnx").write_bytes(light.SerializeToString())
        jobs = [Job(folder / "light.onnx", [], folder)]
        if region.outputs and feeds:
            if problem := _missing(before, region):
                return Verdict(problem)
            jobs += _region_jobs(before, after, region, folder, feeds)
        reports = self._executor.run(jobs)
        for report in reports:
            if report["error"]:
                return Verdict(f"the result is not legal: {report['error']}")
        if len(jobs) == 1:
            return Verdict()
        return self._compare(jobs, reports, region, promise, feeds, undefined)

    def _compare(
        self,
        jobs: list[Job],
        reports: list[dict[str, Any]],
        region: Region,
        promise: Promise,
        feeds: list[Path],
        undefined: Sequence[Undefined],
    ) -> Verdict:
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in region.outputs}
        for index, feed in enumerate(feeds):
            if str(index) in reports[1]["failed"]:
                continue
            if str(index) in reports[2]["failed"]:
                return Verdict(f"it no longer runs: {reports[2]['failed'][str(index)]}")
            reference = self._executor.read(jobs[1].results / str(index))
            candidate = self._executor.read(jobs[2].results / str(index))
            if undefined:
                reference = cleared(reference, self._executor.read(feed), undefined)
            for name in region.outputs:
                error = relative_l2(reference[name], candidate[name])
                if reference[name].dtype != candidate[name].dtype:
                    error = math.inf
                found[name].append((error, _norm(reference[name])))
        if not all(found.values()):
            return Verdict("none of the feeds ran through the changed region")
        together = _together if promise.kind is Kind.LOSSY else _largest
        errors = {name: together(items) for name, items in found.items()}
        worst = max(errors, key=lambda name: errors[name])
        broken = [name for name in errors if errors[name] > _bound(promise, reference[name])]
        if broken:
            worst = max(broken, key=lambda name: errors[name])
            return Verdict(
                f"promised {promise.kind.value} (relative error at most "
                f"{_bound(promise, reference[worst]):g}), but "
                f"{worst} differs by {errors[worst]:.3g}",
                errors[worst],
                errors,
            )
        return Verdict("", errors[worst], errors)


def _bound(promise: Promise, array: Array) -> float:
    """The error that a promise allows for a value of this type.

    A function that is reassociated in a short type differs by a few of its roundings.
    """
    if promise.kind is Kind.ROUNDING and array.dtype == np.float16:
        return 4 * float(np.finfo(np.float16).eps)
    return promise.rel_l2


def _norm(array: Array) -> float:
    if array.dtype.kind not in "fc":
        return 0.0
    return float(np.linalg.norm(array[np.isfinite(array)].astype(np.float64)))


def _largest(found: Sequence[tuple[float, float]]) -> float:
    return max(error for error, _ in found)


def _together(found: Sequence[tuple[float, float]]) -> float:
    """The relative error over all feeds as one, from each one's error and reference norm.

    What a lossy pass loses is a matter of averages: one token by itself may give a value so small
    that rounding is most of it. That a feed loses all it has is no rounding, though.
    """
    worst, total = _largest(found), math.hypot(*(norm for _, norm in found))
    if worst >= 1.0 or total == 0.0:
        return worst
    return math.hypot(*(error * norm for error, norm in found)) / total


def _region_jobs(
    before: ir.Model, after: ir.Model, region: Region, folder: Path, feeds: list[Path]
) -> list[Job]:
    ports = {value.name for value in before.graph.inputs}
    flows = [name for name in region.inputs if name not in ports]
    observed = cut(before, ports_of(before), {*flows, *region.outputs})
    changed = cut(after, region.inputs, region.outputs)
    save(observed, folder / "before.onnx", external=False)
    save(changed, folder / "after.onnx", external=False)
    first, second = folder / "0", folder / "1"
    return [
        Job(folder / "before.onnx", [[feed] for feed in feeds], first),
        Job(
            folder / "after.onnx",
            [[feed, first / str(index)] for index, feed in enumerate(feeds)],
            second,
        ),
    ]


def ports_of(model: ir.Model) -> list[str]:
    """Names of the graph's inputs that are not initializers."""
    return [port.name for port in Signature.of(model).inputs]


def _missing(before: ir.Model, region: Region) -> str:
    known = {value.name for node in before.graph for value in node.outputs}
    known |= {value.name for value in before.graph.inputs} | set(before.graph.initializers)
    unknown = [name for name in (*region.inputs, *region.outputs) if name not in known]
    return f"value {unknown[0]} did not exist before" if unknown else ""
