"""What is measured for a report to look at: the model after each pass, and its kernels by layer.

Each pass's stage of the model is staged, compared with the input on a few feeds, timed in pairs
with the input, and removed, one after the other. Nothing that goes wrong here fails the run.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir

from burnish.driver.candidate import Candidate
from burnish.driver.stages import HEAD
from burnish.driver.workbench import Workbench
from burnish.optimizer import artifact, sandbox
from burnish.optimizer.analysis.costs.work import layers
from burnish.optimizer.errors import BurnishError
from burnish.optimizer.measure import LEAST_PAIRS, Contest, Entrant
from burnish.optimizer.pipeline import Compiled
from burnish.runtimes.providers import REFERENCE

PROFILER = "burnish.runtimes.profiling:profile"

SECONDS = 60.0
"""Time for the stages; where all of them would take longer, the last of each phase is timed."""

BLOCK_SECONDS = 0.1
"""Length of a block of runs of one stage."""

OPENING_SECONDS = 1.0
"""What opening a session takes, about."""

KERNEL_SECONDS = 2.0
"""Time given to the kernels of each model."""

TOLD = 0.95
"""Share of the kernels' time that has to be of known layers."""

Judge = Callable[[Candidate], Candidate]


def facts(bench: Workbench, candidate: Candidate, judge: Judge, folder: Path) -> dict[str, Any]:
    """The report's `profile`: `stages`, `kernels`, and why any of it is missing.

    Args:
        bench: the input model, laid out for work.
        candidate: the artifact, staged, and timed where the model is timed at all.
        judge: compares a staged model with the input.
        folder: where stages can be written.
    """
    told: dict[str, Any] = {"stages": [], "kernels": None, "reasons": []}
    if not candidate.compiled.kept:
        told["reasons"].append("nothing was changed")
        return told
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("stages", lambda: _stages(bench, candidate, judge, folder, told["reasons"])),
        ("kernels", lambda: _kernels(bench, candidate, folder / "kernels", told["reasons"])),
    ]
    for name, measure in steps:
        try:
            told[name] = measure()
        except BurnishError as error:
            told["reasons"].append(f"the {name} were not measured: {error.message}")
        except Exception as error:  # what is only looked at must not cost the artifact
            reason = f"{type(error).__name__}: {error}"
            told["reasons"].append(f"the {name} were not measured: {reason}")
    return told


def _stages(
    bench: Workbench, candidate: Candidate, judge: Judge, scratch: Path, reasons: list[str]
) -> list[dict[str, Any]]:
    """Time and answers of the whole model after each pass that was kept."""
    kept = [index for index, step in enumerate(candidate.compiled.steps) if step.status == "kept"]
    timed = _timed(bench, candidate, kept, reasons)
    if candidate.fidelity is None:  # nothing is compared, so that nothing but times is learnt
        kept = timed
    told = []
    with bench.contest() as contest:
        for index in kept:
            stage = candidate.compiled.after(index)
            facts = {"pass": index, "speedup": None, "ci95": None, "drop": None, "rel_l2": None}
            bench.emit({"stage": f"measuring {stage.steps[-1].transform.name}"})
            folder = scratch / f"stage-{index}"  # a stopwatch opens what has another path
            files = _write(bench, stage, folder)
            facts |= _answers(judge(Candidate(stage, files)))
            if index in timed:
                facts |= _time(bench, contest, stage, files[0])
            told.append(facts)
            shutil.rmtree(folder, ignore_errors=True)
    return told


def _timed(
    bench: Workbench, candidate: Candidate, kept: list[int], reasons: list[str]
) -> list[int]:
    """Which of the kept steps are timed: all, the last of each phase, or none."""
    if candidate.timing is None:
        reasons.append("nothing was timed")
        return []
    run = candidate.timing.baseline_ms / 1e3
    each = OPENING_SECONDS + 2 * (LEAST_PAIRS + 2) * max(run, BLOCK_SECONDS)
    if len(kept) * each <= SECONDS:
        return kept
    steps = candidate.compiled.steps
    last = list({steps[index].transform.phase: index for index in kept}.values())
    if len(last) * each <= 2 * SECONDS:
        reasons.append("passes of one phase were timed together, since a run takes long")
        return last
    reasons.append("passes were not timed one by one, since a run takes too long")
    return []


def _write(bench: Workbench, stage: Compiled, folder: Path) -> tuple[Path, ...]:
    model = stage.ports.exposed(stage.model)
    external = bench.loaded.external
    return artifact.stage(model, folder, bench.request.target, external=external)


def _answers(judged: Candidate) -> dict[str, Any]:
    if judged.fidelity is None:
        return {}
    errors = [item.rel_l2 for item in judged.fidelity.outputs.values()]
    return {"drop": judged.fidelity.drop, "rel_l2": max(errors, default=None)}


def _time(bench: Workbench, contest: Contest, stage: Compiled, path: Path) -> dict[str, Any]:
    feed = bench.timing_feed()
    folders = bench.executor.store([feed, stage.ports.given(feed)])
    entrants = {
        "input": Entrant(bench.loaded.path.absolute(), folders[0]),
        "stage": Entrant(path.absolute(), folders[1]),
    }
    found = contest.compare(entrants, 0.0, BLOCK_SECONDS)["stage"]
    return {
        "speedup": round(found.speedup, 4),
        "ci95": [round(found.low, 4), round(found.high, 4)],
    }


def _kernels(
    bench: Workbench, candidate: Candidate, folder: Path, reasons: list[str]
) -> dict[str, Any] | None:
    """Times of kernels by operator and by layer, in the input and in the artifact."""
    if candidate.timing is None or bench.request.provider != REFERENCE:
        reasons.append("kernels are told apart on the processor, where models are timed")
        return None
    feed = bench.timing_feed()
    folders = bench.executor.store([feed, candidate.compiled.ports.given(feed)])
    paths = {"before": bench.loaded.path, "after": candidate.files[0]}
    told = {}
    for (name, path), feeds in zip(paths.items(), folders, strict=True):
        bench.emit({"stage": f"profiling the kernels {name}"})
        folder.mkdir(parents=True, exist_ok=True)
        argument = {
            "path": str(path.absolute()),
            "feeds": str(feeds),
            "threads": bench.request.threads,
            "seconds": KERNEL_SECONDS,
            "folder": str(folder),
        }
        told[name] = _summed(sandbox.call(PROFILER, argument, bench.limits))
        shutil.rmtree(folder, ignore_errors=True)
    return told


def _summed(found: dict[str, Any]) -> dict[str, Any]:
    """Kernels by operator and by layer of the graph that ran.

    Without layers where less than `TOLD` of the time is of nodes that are found in the graph.
    """
    places = _Places(ir.load(found["model"]))
    operators: dict[str, float] = defaultdict(float)
    by_layer: dict[str, float] = defaultdict(float)
    for kernel in found["kernels"]:
        operators[kernel["operator"]] += kernel["ms"]
        layer = places.take(kernel["name"], kernel["operator"])
        if layer is not None:
            by_layer[layer] += kernel["ms"]
    total = sum(operators.values())
    known = sum(by_layer.values()) >= TOLD * total
    return {
        "runs": found["runs"],
        "ms": round(total, 4),
        "operators": _rounded(operators),
        "layers": _rounded(by_layer) if known else {},
    }


class _Places:
    """The layers of a graph's nodes, as the profiler calls these.

    A node without a name goes by its operator and a number that no file holds. Nodes run in the
    order of the file, so that the first of an operator that runs is the first of it there.
    """

    def __init__(self, model: ir.Model) -> None:
        known = layers(model)
        self._named: dict[str, str] = {}
        self._unnamed: dict[str, list[str]] = defaultdict(list)
        for node in reversed(model.graph):
            layer = known.get(node, 0)
            told = HEAD if layer is None else str(layer)
            if node.name:
                self._named[node.name] = told
            else:
                self._unnamed[node.op_type].append(told)

    def take(self, name: str, operator: str) -> str | None:
        """The layer of the next kernel; None where it is not in the graph."""
        if name in self._named:
            return self._named[name]
        left = self._unnamed[operator]
        return left.pop() if left else None


def _rounded(times: dict[str, float]) -> dict[str, float]:
    ordered = sorted(times.items(), key=lambda item: -item[1])
    return {name: round(ms, 4) for name, ms in ordered}
