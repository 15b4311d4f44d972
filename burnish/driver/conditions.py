"""What a request asks of its result, and where it is not met: exit code 1."""

from __future__ import annotations

from typing import Any

from burnish.driver import goals, pruning
from burnish.driver.foreign import is_foreign
from burnish.driver.net import tolerated
from burnish.driver.request import Request
from burnish.optimizer.report import release
from burnish.runtimes.providers import PROVIDERS


def missed(request: Request, report: dict[str, Any]) -> str:
    """The first of the request's conditions that the result does not meet; empty where none."""
    trimmed = report.get("vocabulary")
    if trimmed and not trimmed["cut"] and trimmed["after"] < trimmed["before"]:
        return f"the vocabulary stays whole: {trimmed['reason']}"
    if "parts" in report:
        failed = (missed(request, part) for part in report["parts"].values())
        return next(filter(None, failed), "")
    latency, needed = report["latency"], report["target"]["least_onnxruntime"]
    if report["over_budget"]:
        first = report["over_budget"][0]
        return f"--max-drop is not met by {first['name']}: {first['reason']}"
    if wrong := _wrong(request, report) or pruning.missed(request, report.get("pruning")):
        return wrong
    if search := report.get("search"):
        if wrong := goals.missed(search):
            return wrong
    elif request.speedup is not None:
        kept = any(step["status"] == "kept" for step in report["passes"])
        # What is unchanged is as fast as it was; a change that was not timed may be anything.
        reached = latency["speedup"] if latency else 0.0 if kept else 1.0
        if reached < request.speedup:
            told = "it was not timed" if kept and not latency else f"{reached:.2f}"
            return f"--speedup {request.speedup:g} is not met: {told}"
    if request.opset is not None and report["target"]["opset"] != request.opset:
        return (
            f"--opset {request.opset} is not met: it has {report['target']['opset']}, which can "
            "only be raised"
        )
    if request.min_ort is not None and release(needed) > release(request.min_ort):
        return f"--min-ort {request.min_ort} is not met: it needs ONNX Runtime {needed}"
    return ""


def _wrong(request: Request, report: dict[str, Any]) -> str:
    """Where another runtime than the reference's gives other answers than it may."""
    provider = report["target"]["provider"]
    drop = report["fidelity"]["drop"] if report["fidelity"] else 0.0
    limit = tolerated(request.max_drop)
    if not is_foreign(provider) or drop <= limit:
        return ""
    runtime = PROVIDERS[provider].runtime
    return f"in {runtime} its answers are not those of the input (loss {drop:.3g}, above {limit:g})"


def too_far(facts: dict[str, Any], max_drop: float) -> str:
    """Why a comparison (see `compare`) finds another model than it may; empty where it does not."""
    if missing := facts["signature"]["missing"]:
        return f"output {missing[0]} is missing"
    drop = facts["fidelity"]["drop"]
    return f"the loss {drop:.3g} is above {max_drop:g}" if drop > max_drop else ""


def worse(facts: dict[str, Any], most: float) -> str:
    """Why an artifact (see `evaluate`) lost more than it may; empty where it did not."""
    drop = facts["drop"]
    if drop["points"] <= most:
        return ""
    unit = "percent" if facts["lower"] else "points"
    where = f" of {drop['group']}" if facts["groups"] else ""
    return f"{facts['metric']}{where} is worse by {drop['points']:.2f} {unit}, allowed {most:g}"
