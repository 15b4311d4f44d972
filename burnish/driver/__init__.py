"""The compiler driver: one request in, one result out; composes passes, runtimes and optimizer.

The functions here run in the caller's process and do no more than supervise: the work is done in
a sandboxed child, so that no model file can end or exhaust the caller.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from burnish.driver import checkpoints, gate, vocabulary
from burnish.driver.foreign import is_foreign
from burnish.driver.gate import Gate
from burnish.driver.narration import Progress, narrated, record
from burnish.driver.net import tolerated
from burnish.driver.recipe_options import options_of
from burnish.driver.request import Request, validate, validate_provider
from burnish.driver.result import Result
from burnish.optimizer import artifact, sandbox
from burnish.optimizer.configurations import told_in
from burnish.optimizer.errors import UsageError
from burnish.optimizer.report import SCHEMA, release
from burnish.runtimes.providers import AUTO, PROVIDERS
from burnish.runtimes.stages import is_pipeline
from burnish.runtimes.targets import NATIVE

__all__ = [
    "Gate",
    "Progress",
    "Request",
    "Result",
    "bench",
    "check",
    "compare",
    "evaluate",
    "inspect",
    "missed",
    "optimize",
    "plan_stages",
    "run",
    "run_artifact",
    "too_far",
    "worse",
]


def optimize(request: Request, progress: Progress | None = None) -> Result:
    """Compile in a sandboxed child; see `Request`.

    Raises:
        BurnishError: see the tree in `optimizer.errors`.
    """
    compiled = _of_checkpoint if checkpoints.is_checkpoint(request.model) else _of_file
    result = compiled(request, progress)
    result.report["options"] = options_of(request)
    return result


def _of_file(request: Request, progress: Progress | None) -> Result:
    """The main job on one graph."""
    validate(request)
    if request.target_cpu != NATIVE:  # times of this machine say nothing of another
        request = replace(request, measure=False)
    beside = request.target
    if request.dry_run:
        beside = Path(tempfile.gettempdir()) / request.target.name
    # A compilation that is killed cannot tidy up: its staging folder is ours.
    with artifact.staging(beside) as folder:
        wanted, facts = request, None
        if vocabulary.is_asked(request):
            home, choose = Path(request.model).parent, _choosing(request, progress)
            wanted, facts = vocabulary.prepared(request, home, folder, choose)
        argument = asdict(wanted) | {"staging": str(folder)}
        job = "compilation:compile_model"
        if request.provider == AUTO or request.auto_precision:
            job = f"{'precisions' if request.auto_precision else 'election'}:compile_fastest"
        report = _supervised(f"burnish.driver.{job}", argument, request, progress)
        if facts is not None:
            report["vocabulary"] = told = vocabulary.told(facts, [report])
            if told["cut"]:
                rows = (report["output"], *report["precisions"])
                written = dict.fromkeys(Path(row["path"]) for row in rows if row.get("path"))
                told["tokenizer"] = vocabulary.publish(request, wanted, [*written])
    return Result(report, None if request.dry_run else Path(report["output"]["path"]))


def _of_checkpoint(request: Request, progress: Progress | None) -> Result:
    """The main job on a folder or a hub id."""

    def work(job: str, argument: dict[str, Any]) -> dict[str, Any]:
        return _supervised(f"burnish.driver.{job}", argument, request, progress)

    return checkpoints.compiled(request, work, lambda part: _of_file(part, progress))


def _choosing(request: Request, progress: Progress | None) -> vocabulary.Choose:
    target = "burnish.driver.vocabulary:choose"
    return lambda argument: _supervised(target, argument, request, progress)


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
    if wrong := _wrong(request, report):
        return wrong
    if request.speedup is not None:
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


def inspect(request: Request) -> dict[str, Any]:
    """What the model is, and what would be done, as data.

    Of a checkpoint, what its configuration and the headers of its weights tell; of an artifact's
    folder, its task and each of its graphs under `parts`.
    """
    folder = Path(request.model)
    if artifact.is_folder(folder):
        manifest = told_in(folder / artifact.MANIFEST)
        graphs = sorted(folder.glob("*.onnx"))
        parts = {item.stem: inspect(replace(request, model=str(item))) for item in graphs}
        about = {"task": manifest.get("task"), "labels": manifest.get("labels")}
        return {"schema": SCHEMA, "input": {"path": request.model}, **about, "parts": parts}
    job = "description:inspect_model"
    if checkpoints.is_checkpoint(request.model):
        job = "unexported:describe_checkpoint"
    return _supervised(f"burnish.driver.{job}", asdict(request), request, None)


def compare(request: Request, other: str) -> dict[str, Any]:
    """Numerical comparison of two models on the same feeds, as data.

    The first runs in ONNX Runtime on the processor, the other one on the request's provider.
    """
    validate_provider(request, auto=False)
    request = _of_graph(request)
    argument = asdict(request) | {"other": artifact.graph_of(other)}
    return _supervised("burnish.driver.inspection:compare_models", argument, request, None)


def too_far(facts: dict[str, Any], max_drop: float) -> str:
    """Why a comparison (see `compare`) finds another model than it may; empty where it does not."""
    if missing := facts["signature"]["missing"]:
        return f"output {missing[0]} is missing"
    drop = facts["fidelity"]["drop"]
    return f"the loss {drop:.3g} is above {max_drop:g}" if drop > max_drop else ""


def evaluate(
    request: Request, against: str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Task metrics of an artifact on annotated data, and of another one before it, as data."""
    validate_provider(request, auto=False)
    if not request.data:
        raise UsageError("there are no annotated examples", hint="--data FILE")
    argument = asdict(request) | {"against": against}
    target = "burnish.driver.evaluation:evaluate_artifacts"
    return _supervised(target, argument, request, progress)


def worse(facts: dict[str, Any], most: float) -> str:
    """Why an artifact (see `evaluate`) lost more than it may; empty where it did not."""
    drop = facts["drop"]
    if drop["points"] <= most:
        return ""
    unit = "percent" if facts["lower"] else "points"
    where = f" of {drop['group']}" if facts["groups"] else ""
    return f"{facts['metric']}{where} is worse by {drop['points']:.2f} {unit}, allowed {most:g}"


def check(
    request: Request,
    asked: Gate,
    baseline: dict[str, Any] | None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Hold a model to the report of an earlier run (see `gate.baseline`); the rows, as data."""
    validate_provider(request)

    def compiled(wanted: Request) -> tuple[Result, str]:
        result = optimize(wanted, progress)
        return result, missed(wanted, result.report)

    def examine(wanted: Request, order: dict[str, Any]) -> dict[str, Any]:
        target = "burnish.driver.checking:examine"
        return _supervised(target, asdict(wanted) | order, wanted, progress)

    return gate.run(request, asked, baseline, compiled, examine)


def plan_stages(
    request: Request, cluster: str | None, output: str | None = None,
    progress: Progress | None = None, *, shards: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Cut a model over the devices of a cluster file, or over ranks; the plan as data.

    Args:
        request: names the model, its shapes and limits.
        cluster: a file; see `optimizer.partition.cluster`. None to split it over `shards` ranks.
        output: a folder for the stages' models; None for the plan alone.
        progress: told of what goes on.
    """
    request = _of_graph(request)
    argument = asdict(request) | {"cluster": cluster, "folder": "", "shards": shards}
    job = f"burnish.driver.{'planning:plan_model' if cluster else 'sharding:shard_model'}"
    if output is None:
        return _supervised(job, argument, request, progress)
    target = Path(output)
    artifact.admit_folder(target, request.model)
    with artifact.staging(target) as folder:
        staged = folder / target.name
        staged.mkdir()
        facts = _supervised(job, argument | {"folder": str(staged)}, request, progress)
        artifact.publish_folder(staged, target)
    return facts | {"output": str(target)}


def bench(request: Request, others: list[str], progress: Progress | None = None) -> dict[str, Any]:
    """Paired timing of models in stock sessions, the first the baseline, as data."""
    validate_provider(request, auto=False)
    request = _of_graph(request)
    argument = asdict(request) | {"others": [artifact.graph_of(other) for other in others]}
    return _supervised("burnish.driver.inspection:bench_models", argument, request, progress)


def run(request: Request) -> dict[str, Any]:
    """Run a model, or the stages of one, on data or made-up inputs; what came out, as data."""
    if is_pipeline(Path(request.model)):
        validate_provider(request, auto=False)
        return _supervised("burnish.driver.stage_runs:run_stages", asdict(request), request, None)
    request = _of_graph(request)
    return _supervised("burnish.driver.inspection:run_model", asdict(request), request, None)


def run_artifact(
    request: Request, argument: dict[str, Any], progress: Progress | None = None
) -> dict[str, Any]:
    """Run an artifact on texts or images; what came, as data.

    Args:
        request: names the folder or file, its task, the provider, threads and limits.
        argument: see `running.run_artifact`.
        progress: told of pieces of text as they come: `row` and `text`.
    """
    validate_provider(request, auto=False)
    asked = asdict(request) | argument
    return _supervised("burnish.driver.running:run_artifact", asked, request, progress)


def _of_graph(request: Request) -> Request:
    """The request with the graph of an artifact folder in the folder's place."""
    return replace(request, model=artifact.graph_of(request.model))


def _supervised(
    target: str, argument: dict[str, Any], request: Request, progress: Progress | None
) -> dict[str, Any]:
    limits = request.limits
    # What is free changes while the work goes on: the children get the same limits as this one.
    argument |= {"memory_limit": limits.memory, "time_limit": limits.wall}
    with sandbox.Worker(target, argument, limits, narrated(progress)) as worker:
        report = worker.result()
        report.setdefault("memory", {})["compile_peak_rss_bytes"] = worker.peak_memory
    record(report)
    return report
