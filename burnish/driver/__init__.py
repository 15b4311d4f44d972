"""The compiler driver: one request in, one result out; composes passes, runtimes and optimizer.

The functions here run in the caller's process and do no more than supervise: the work is done in
a sandboxed child, so that no model file can end or exhaust the caller.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from burnish.driver import checkpoints, gate, goals, over_devices, vocabulary
from burnish.driver.conditions import missed, too_far, worse
from burnish.driver.gate import Gate
from burnish.driver.narration import Progress, narrated, record
from burnish.driver.recipe_options import options_of
from burnish.driver.request import Request, validate, validate_provider
from burnish.driver.result import Result
from burnish.driver.scenario import Scenario
from burnish.driver.wishes import wish
from burnish.optimizer import artifact, sandbox
from burnish.optimizer.configurations import told_in
from burnish.optimizer.errors import UsageError
from burnish.optimizer.report import SCHEMA
from burnish.runtimes.providers import AUTO
from burnish.runtimes.stages import is_pipeline
from burnish.runtimes.targets import NATIVE

__all__ = [
    "Gate",
    "Progress",
    "Request",
    "Result",
    "Scenario",
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
    "simulate",
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
        wanted, facts, work = request, None, _by(request, progress)
        if vocabulary.is_asked(request):
            home, choose = Path(request.model).parent, partial(work, "vocabulary:choose")
            wanted, facts = vocabulary.prepared(request, home, folder, choose)
        argument = asdict(wanted) | {"staging": str(folder)}
        report = work(_job(request), argument)
        if facts is not None:
            report["vocabulary"] = told = vocabulary.told(facts, [report])
            if told["cut"]:
                rows = (report["output"], *report["precisions"], *report.get("points", ()))
                written = dict.fromkeys(Path(row["path"]) for row in rows if row.get("path"))
                told["tokenizer"] = vocabulary.publish(request, wanted, [*written])
    return Result(report, None if request.dry_run else Path(report["output"]["path"]))


def _job(request: Request) -> str:
    """What compiles one graph as the request asks."""
    if goals.searches(request):
        return "search:compile_best"
    if request.auto_precision:
        return "precisions:compile_fastest"
    return "election:compile_fastest" if request.provider == AUTO else "compilation:compile_model"


def _of_checkpoint(request: Request, progress: Progress | None) -> Result:
    """The main job on a folder or a hub id."""
    return checkpoints.compiled(
        request, _by(request, progress), lambda part: _of_file(part, progress)
    )


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
    request: Request,
    cluster: str | None,
    output: str | None = None,
    progress: Progress | None = None,
    *,
    devices: str | None = None,
    wire: str = "float32",
    objective: str | None = None,
    replicas: int | None = None,
    shards: int | None = None,
) -> dict[str, Any]:
    """Cut a model over devices, or split it over ranks; the plan as data; see `over_devices`."""
    if cluster is None and devices is None and shards is not None:
        given: dict[str, Any] = {"shards": over_devices.ranks(shards)}
        return over_devices.planned(_of_graph(request), _by(request, progress), given, output)
    where = over_devices.where(cluster, devices) | {"wire": wire}
    where["wish"] = asdict(wish(objective, replicas, shards, wire))
    return over_devices.planned(_of_graph(request), _by(request, progress), where, output)


def simulate(
    request: Request,
    scenario: Scenario,
    cluster: str | None,
    progress: Progress | None = None,
    *,
    devices: str | None = None,
    wire: str = "float32",
    objective: str | None = None,
    replicas: int | None = None,
    shards: int | None = None,
) -> dict[str, Any]:
    """What a simulation makes of a plan, as data; see `plan_stages` and `Scenario`."""
    given = over_devices.where(cluster, devices) | {"wire": wire, "scenario": asdict(scenario)}
    given["wish"] = asdict(wish(objective, replicas, shards, wire))
    return _by(request, progress)("simulation:simulate_plan", asdict(_of_graph(request)) | given)


def _by(request: Request, progress: Progress | None) -> over_devices.Work:
    return lambda job, argument: _supervised(f"burnish.driver.{job}", argument, request, progress)


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
    # The graph of an artifact folder in the folder's place.
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
