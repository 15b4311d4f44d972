"""`optimize simulate`: a plan on devices that need not be here, as its feeds would find it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from burnish.driver.planning import prepared, where
from burnish.driver.request import request_from
from burnish.driver.scenario import Scenario
from burnish.driver.wishes import Wish
from burnish.driver.workbench import Emit, open_model
from burnish.optimizer import report
from burnish.optimizer.errors import UsageError
from burnish.optimizer.failures import availability
from burnish.optimizer.partition.lines import lines_of
from burnish.optimizer.partition.plans import Stage
from burnish.optimizer.simulate import simulate


def simulate_plan(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Plan stages for a model, and say what a simulation makes of them.

    Args:
        argument: a request's fields; `cluster` or `devices`, `wire` and `wish`, as for
            `plan_model`; `scenario`, the fields of one.
        emit: is told of progress.
    """
    request, told = request_from(argument), Scenario(**argument["scenario"])
    with open_model(request, emit) as bench:
        planned = prepared(bench, where(argument), argument["wire"], Wish(**argument["wish"]))
        sizes = bench.sizes()
        warnings = bench.warnings
    plans = planned.plan, *planned.combination.replicas[1:]
    slowed = {int(number) - 1: factor for number, factor in told.slowed.items()}
    count = len(planned.plan.stages)
    if beyond := [number for number in slowed if number >= count]:
        raise UsageError(f"there is no stage {beyond[0] + 1}: the plan has {count}")
    emit({"stage": "simulating"})
    lines = lines_of(plans, planned.devices, slowed)
    found = simulate(lines, told.feeds, rate=told.rate, scatter=told.scatter, seed=told.seed)
    up = None
    if told.between is not None:
        sizes_of = [len(plan.devices) for plan in plans]
        up = asdict(availability(sizes_of, told.between, told.recovery, told.seed))
    return {
        "schema": report.SCHEMA,
        "input": {"path": request.model},
        "shape": sizes,
        "scenario": asdict(told),
        "replicas": [[_told(stage) for stage in plan.stages] for plan in plans],
        "throughput": found.throughput,
        "latency_seconds": found.latency,
        "latency_99_seconds": found.latency_99,
        "busy": found.busy,
        "idle": {name: max(0.0, 1.0 - share) for name, share in found.busy.items()},
        "binds": found.binds,
        "availability": up,
        "throughput_with_failures": found.throughput * up["up"] if up else None,
        "warnings": warnings,
    }


def _told(stage: Stage) -> dict[str, Any]:
    """A stage as the report shows it."""
    return {
        "devices": [device.name for device in stage.devices],
        "seconds": stage.seconds,
        "reduces_seconds": stage.reduces,
        "sends_seconds": stage.sends,
    }
