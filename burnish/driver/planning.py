"""`optimize plan`, inside its sandboxed child: a model cut over devices, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish.driver.combining import Planner, shares_of, verdict
from burnish.driver.copies import write_copies
from burnish.driver.devices import Spec, measured, parsed
from burnish.driver.grouped import write_groups
from burnish.driver.original import run_original
from burnish.driver.request import request_from
from burnish.driver.runs import runs_of
from burnish.driver.sending import Sender, Sent, admit
from burnish.driver.staged import Staged, bearable, described, sending
from burnish.driver.wishes import Wish
from burnish.driver.workbench import Emit, Workbench, open_model
from burnish.optimizer import report
from burnish.optimizer.analysis import shapes
from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.partition import cluster
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.cluster import Cluster
from burnish.optimizer.partition.cluster_text import written
from burnish.optimizer.partition.combinations import Combination
from burnish.optimizer.partition.equal import equal_split
from burnish.optimizer.partition.given import ask_inputs
from burnish.optimizer.partition.planner import Plan, Stage
from burnish.optimizer.partition.run_costs import Shares
from burnish.optimizer.partition.stages import stage_models
from burnish.optimizer.partition.wire.kinds import FLOAT32
from burnish.optimizer.partition.wire.sendable import sendable
from burnish.optimizer.signature import Signature


@dataclass(frozen=True)
class Planned:
    """A model on a workbench, and its plan.

    Attributes:
        whole: bytes that cross the place behind each operator, as they are.
        maker: what made the plan.
        combination: of which it is the first replica.
        measured: what was measured of devices of this machine.
    """

    bench: Workbench
    chain: Chain
    devices: Cluster
    sender: Sender
    plan: Plan
    sent: Sent
    whole: list[float]
    maker: Planner
    combination: Combination
    measured: list[dict[str, Any]]


def plan_model(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Plan stages for a model, write them where a folder is named, and check them.

    Args:
        argument: a request's fields; `cluster`, a file; `folder`, where stages are written, or
            empty for a plan only; `wire`, how activations are sent; `wish`, see `combining`;
            `devices`, in place of a cluster, of this machine.
        emit: is told of progress.
    """
    request = request_from(argument)
    given, wish = where(argument), Wish(**argument["wish"])
    with open_model(request, emit) as bench:
        planned, error = prepared(bench, given, argument["wire"], wish), None
        # What is sent in fewer bits is held to the budget also where only a plan is asked for.
        if argument["folder"] or (request.check and not planned.sent.is_exact):
            folder = Path(argument["folder"] or bench.executor.folder())
            error, planned = _checked(planned, folder)
        return _facts(planned) | {"error": error}


def where(argument: dict[str, Any]) -> Cluster | list[Spec]:
    """The cluster of a file, or devices of this machine, that were asked for."""
    if argument["devices"]:
        return parsed(argument["devices"])
    return cluster.read(Path(argument["cluster"]))


def prepared(
    bench: Workbench,
    given: Cluster | Sequence[Spec],
    wire: str = FLOAT32,
    wish: Wish | None = None,
) -> Planned:
    """The plan for the model of a workbench, for a cluster or for devices of this machine.

    Raises:
        UnsupportedModel: there is nothing in it to be spread.
        ResourceLimit: it does not fit.
    """
    bench.accept()
    model = bench.loaded.model
    admit(wire, model.opset_imports.get("", 1))
    shapes.annotate(model)
    ask_inputs(model)
    bench.emit({"stage": "planning"})
    known = shapes.infer(model, bench.sizes(), bounded=True)
    chain = Chain(model, known)
    if not len(chain):
        raise UnsupportedModel("it has no operators that could be spread over devices")
    devices, measurements = given, list[dict[str, Any]]()
    if not isinstance(devices, Cluster):
        bench.settle()
        devices, measurements = measured(bench, chain, devices, runs_of(bench, chain, known))
    whole, values = list(chain.carried), {}
    if wire != FLOAT32:
        values = sendable(model, chain, known)
    wish = wish or Wish()
    shares: Shares = {}
    if wire == FLOAT32:  # ranks hand on their values as they are
        shares = shares_of(wish, model, chain, bench.sizes(), devices)
    maker = Planner(chain, devices, wish, shares)
    sender = Sender(chain, values, maker.plan)
    plan, sent = sender.planned(wire)
    combination = maker.combination(plan)
    if sent.asked != FLOAT32:
        sent = replace(sent, kinds=sender.needed(plan, devices, sent.kinds, sent.asked))
        plan = sender.priced(plan, devices, sent.kinds)
    return Planned(
        bench, chain, devices, sender, plan, sent, whole, maker, combination, measurements
    )


def _facts(planned: Planned) -> dict[str, Any]:
    """The plan as the report shows it."""
    bench, chain, plan, sent = planned.bench, planned.chain, planned.plan, planned.sent
    equal = equal_split(chain, planned.devices)
    told = verdict(planned.maker, planned.combination, plan)
    others = [item.stages for item in planned.combination.replicas[1:]]
    return told | {
        "schema": report.SCHEMA,
        "input": report.file_facts(bench.loaded.files, bench.loaded.model),
        "signature": Signature.of(bench.loaded.model).as_json(),
        "shape": bench.sizes(),
        "stages": [_told(item, planned) for item in plan.stages],
        "replicas": [[_told(item, planned) for item in s] for s in (plan.stages, *others)],
        "devices": len(planned.devices.devices),
        "bottleneck_seconds": plan.bottleneck,
        "latency_seconds": plan.latency,
        "equal_split": equal.bottleneck * told["throughput"] if equal is not None else None,
        "wire": {
            "asked": sent.asked,
            "cuts": list(sent.kinds),
            "losses": list(sent.losses),
            "drop": sent.drop,
            "fidelity": sent.fidelity,
        },
        "measured": planned.measured,
        "cluster": written(planned.devices),
        "loose": chain.loose,
        "warnings": bench.warnings,
    }


def _told(stage: Stage, planned: Planned) -> dict[str, Any]:
    """A stage, as the report shows it."""
    chain, end = planned.chain, stage.end - 1
    return {
        "device": stage.device.name,
        "devices": [device.name for device in stage.devices],
        "first": chain.atoms[stage.start].name,
        "last": chain.atoms[end].name,
        "operators": stage.end - stage.start,
        "flops": sum(atom.flops for atom in chain.atoms[stage.start : stage.end]),
        "seconds": stage.seconds,
        "reduces_seconds": stage.reduces,
        "memory_bytes": stage.memory,
        "sends": list(chain.crossing[end]),
        "sends_bytes": stage.carried,
        "sends_bytes_whole": planned.whole[end],
        "sends_seconds": stage.sends,
    }


def _checked(planned: Planned, folder: Path) -> tuple[float | None, Planned]:
    """Write stages and manifest; the error of their answers as they are, and how they send.

    Stages that send in fewer bits are also run as they are, to find out what the bits cost.
    """
    bench, plan, sender, sent = planned.bench, planned.plan, planned.sender, planned.sent
    if any(stage.others for stage in plan.stages):
        copies = write_copies(bench, planned.chain, planned.combination, folder)
        return write_groups(bench, planned.chain, plan, folder, copies), planned
    plain_at = folder if sent.is_exact else bench.executor.folder()
    stages = stage_models(bench.loaded.model, planned.chain, plan)
    plain, error = Staged(bench, stages, plain_at), None
    told: dict[str, Any] = {}
    if bench.request.check:
        bench.emit({"stage": "comparing with the input"})
        reference = run_original(bench)
        error = plain.error(reference)
        sent = bearable(bench, plain, sender, plan, sent, reference)
        plan = sender.priced(plan, planned.devices, sent.kinds)
    if plain_at != folder:
        staged, stages, told = sending(bench, planned.chain, plan, sender, sent, folder)
        if bench.request.check and not sent.is_exact:
            kept = staged.kept(reference)
            told_of = report.fidelity_facts(kept, reference.description, len(reference.folders))
            sent = replace(sent, drop=kept.drop, fidelity=told_of)
    told |= write_copies(bench, planned.chain, planned.combination, folder)
    described(stages, plan, bench, folder, told)
    return error, replace(planned, plan=plan, sent=sent)
