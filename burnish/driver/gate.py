"""The gate of a build: a model is compiled, and held to a report of an earlier run.

Both the input and the artifact are timed in this run; it is their ratio that is compared with the
baseline's, since milliseconds of two machines say nothing. Bytes and losses are compared as they
are.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from burnish.driver import checkpoints
from burnish.driver.recipe_options import checked, options_of
from burnish.driver.recipes import Recipe
from burnish.driver.request import Request
from burnish.driver.result import Result
from burnish.driver.verdicts import FAILED, Bounds, Report, failures, rows, share
from burnish.optimizer import artifact
from burnish.optimizer.errors import StorageError, UsageError, about, reason_of
from burnish.optimizer.report import SCHEMA
from burnish.runtimes.providers import AUTO

Examine = Callable[[Request, dict[str, Any]], dict[str, Any]]
"""Does the job of `checking.examine` in a sandboxed child."""

MADE_UP = "on made-up inputs"
"""What reports call feeds that are not the user's."""

AGAIN = "writing it again with --update"


@dataclass(frozen=True)
class Gate:
    """What is asked of a run beside its request.

    Attributes:
        against: path of the baseline, a report as JSON.
        optimized: the artifact, where it is there already; else the model is compiled.
        bounds: what may be worse than in the baseline.
        update: the baseline is written from this run, and nothing is held to it.
    """

    against: str
    optimized: str | None = None
    bounds: Bounds = field(default_factory=Bounds)
    update: bool = False


def baseline(gate: Gate) -> dict[str, Any] | None:
    """The report that a gate is about; None where it is still to be written.

    Raises:
        StorageError: it cannot be read.
        UsageError: it is no report of one graph.
    """
    path = Path(gate.against)
    if gate.update and not path.exists():
        return None
    with about(path):
        try:
            report = json.loads(path.read_text("utf-8"))
        except OSError as error:
            hint = "--update, which writes it" if isinstance(error, FileNotFoundError) else ""
            raise StorageError(f"it cannot be read: {reason_of(error)}", hint=hint) from None
        except (ValueError, RecursionError):
            raise UsageError("it is no JSON", hint=AGAIN) from None
        if isinstance(report, dict) and "parts" in report:
            raise UsageError("a report of several graphs", hint="the report of one .onnx file")
        if wrong := _wrong(report):
            raise UsageError(f"it is no report: {wrong}", hint=AGAIN)
    return dict(report)


def recipe_of(report: Report, gate: Gate) -> Recipe:
    """The options that a baseline's artifact was made, or compared, with.

    Raises:
        UsageError: they do not say how to make one, and none is given.
    """
    if "passes" not in report and not gate.optimized:
        raise _about(gate, "it is of an artifact that was given", "--optimized FILE, or --recipe")
    with about(Path(gate.against)):
        return Recipe("baseline", "", checked(report.get("options") or {}))


def run(
    request: Request,
    gate: Gate,
    before: Report | None,
    compiled: Callable[[Request], tuple[Result, str]],
    examine: Examine,
) -> dict[str, Any]:
    """Compile (or take) an artifact, measure it, and hold it to the baseline.

    Args:
        request: names the input; `output` keeps the artifact.
        gate: what is asked.
        before: what `baseline` gave.
        compiled: does the main job; the second is a condition that its result does not meet.
        examine: see `Examine`.

    Returns:
        A report as of the main job, with `rows`, `passed` and `against`.

    Raises:
        BurnishError: see the tree in `optimizer.errors`.
    """
    if checkpoints.is_checkpoint(request.model) and not artifact.is_folder(Path(request.model)):
        raise UsageError("a checkpoint, which is not timed here", hint="an .onnx file of it")
    recorded = share(before) if before and not gate.update else None
    if before and not gate.update:
        _comparable(gate, before, request)
    order = {"recorded": recorded, "bound": gate.bounds.latency}
    if gate.optimized:
        graph = replace(request, model=artifact.graph_of(request.model))
        other = artifact.graph_of(gate.optimized)
        facts = examine(graph, order | {"other": other, "compare": True})
        facts["options"] = options_of(request)
    else:
        with tempfile.TemporaryDirectory(prefix="burnish-") as folder:
            output = request.output or str(Path(folder) / "artifact.onnx")
            result, missed = compiled(replace(request, output=output))
            facts = result.report | {"latency": None, "missed": missed}
            if request.measure:
                # Of several providers the fastest was taken: the ratio is the one there.
                provider = result.report["target"]["provider"]
                timed = replace(request, provider=provider)
                told = examine(timed, order | {"other": output, "compare": False})
                facts["latency"] = told["latency"]
    return _judged(facts, gate, before)


def _judged(facts: dict[str, Any], gate: Gate, before: Report | None) -> dict[str, Any]:
    """The facts with what the gate says of them."""
    facts["against"] = {"path": gate.against}
    if gate.update or before is None:
        return facts | {"rows": [], "passed": True}
    facts["against"] |= {
        "input": before["input"].get("sha256"),
        "device": before["target"].get("device"),
        "versions": before["target"].get("versions", {}),
    }
    _same_provider(gate, before, facts["target"]["provider"])
    facts["warnings"] = [*facts["warnings"], *_differences(before, facts)]
    found = rows(before, facts, gate.bounds)
    passed = not any(row.status == FAILED for row in found)
    return facts | {
        "rows": [asdict(row) for row in found],
        "passed": passed,
        "failed": failures(found),
    }


def _comparable(gate: Gate, before: Report, request: Request) -> None:
    """Raise where the baseline's numbers mean something else than this run's will."""
    if request.measure and share(before) is None:
        raise _about(gate, "it has no times", f"{AGAIN}, or --no-measure")
    if request.provider != AUTO:
        _same_provider(gate, before, request.provider)
    feeds = before["fidelity"] and before["fidelity"]["feeds"]
    if feeds and (feeds == MADE_UP) == bool(request.data):
        here = f"on {request.data}" if request.data else MADE_UP
        raise _about(gate, f"its loss is {feeds}, this run's {here}", f"its --data, or {AGAIN}")


def _same_provider(gate: Gate, before: Report, here: str) -> None:
    was = before["target"].get("provider")
    if was != here:
        raise _about(gate, f"it is for provider {was}, this run for {here}", f"--provider {was}")


def _about(gate: Gate, message: str, hint: str) -> UsageError:
    error = UsageError(message, hint=hint)
    error.file = gate.against
    return error


def _differences(before: Report, now: Report) -> list[str]:
    """What is not as it was when the baseline was written, in words."""
    told = []
    if before["input"].get("sha256") != now["input"].get("sha256"):
        told.append("the input is another model than the baseline's")
    for name, word in (("device", "processor"), ("threads", "number of threads")):
        was, here = before["target"].get(name), now["target"].get(name)
        if was != here:
            told.append(f"the baseline is of another {word}: {was}, here {here}")
    was, here = (item["target"].get("versions", {}) for item in (before, now))
    told += [
        f"{name} was {was.get(name, 'not there')}, and is {here.get(name, 'not there')}"
        for name in sorted({*was, *here})
        if was.get(name) != here.get(name)
    ]
    was, here = before.get("options"), now["options"]
    if was is not None and was != here:
        told.append(f"the baseline has options {json.dumps(was)}, this run {json.dumps(here)}")
    first, second = (item["latency"] and item["latency"].get("inputs") for item in (before, now))
    if first and second and first != second:
        told.append("the baseline was timed at other sizes (--shape)")
    for name in ("feeds", "metric") if before["fidelity"] and now["fidelity"] else ():
        # Of several outputs the worst one decides, whatever its loss is measured by.
        first, second = (item["fidelity"][name] for item in (before, now))
        if first != second:
            told.append(f"the baseline's loss is {first}, this run's {second}")
    return told


def _wrong(report: Any) -> str:
    """What of a report is not as the gate needs it; empty where all is."""
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        return f"schema {SCHEMA} is not in it"
    for name in ("input", "output", "target"):
        if not isinstance(report.get(name), dict):
            return f"{name} is not in it"
    if not _positive(report["output"].get("bytes")):
        return "the size of the output is not in it"
    for name in ("latency", "fidelity"):
        if name not in report or not isinstance(report[name], dict | None):
            return f"{name} is not in it"
    latency, fidelity = report["latency"], report["fidelity"]
    if latency:
        ends = latency.get("ci95")
        known = isinstance(ends, list) and len(ends) == 2 and all(map(_positive, ends))
        if not known or not _positive(latency.get("speedup")):
            return "its latency has no speedup with an interval"
    if fidelity:
        groups = fidelity.get("groups")
        losses = [fidelity.get("drop"), *(groups.values() if isinstance(groups, dict) else [None])]
        if not all(isinstance(loss, int | float) and math.isfinite(loss) for loss in losses):
            return "its fidelity has no loss"
        if not all(isinstance(fidelity.get(name), str) for name in ("metric", "feeds")):
            return "its fidelity has no metric"
    return ""


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0
