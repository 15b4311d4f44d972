"""`optimize simulate`: a plan on devices that need not be here, as its feeds would find it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from burnish.driver.planning import prepared, where
from burnish.driver.request import request_from
from burnish.driver.scenario import Scenario
from burnish.driver.workbench import Emit, open_model
from burnish.optimizer import report
from burnish.optimizer.errors import UsageError
from burnish.optimizer.failures import availability
from burnish.optimizer.partition.lines import lines_of
from burnish.optimizer.simulate import simulate


def simulate_plan(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Plan stages for a model, and say what a simulation makes of them.

    Args:
        argument: a request's fields; `cluster` or `devices`, and `wire`, as for `plan_model`;
            `scenario`, the fields of one.
        emit: is told of progress.
    """
    request, told = request_from(argument), Scenario(**argument["scenario"])
    with open_model(request, emit) as bench:
        planned = prepared(bench, where(argument), argument["wire"])
        plan, sizes = planned.plan, bench.sizes()
        warnings = bench.warnings
    slowed = {int(number) - 1: factor for number, factor in told.slowed.items()}
    if beyond := [number for number in slowed if number >= len(plan.stages)]:
        raise UsageError(f"there is no stage {beyond[0] + 1}: the plan has {len(plan.stages)}")
    emit({"stage": "simulating"})
    lines = lines_of(plan, planned.devices, told.replicas, slowed)
    found = simulate(lines, told.feeds, rate=told.rate, scatter=told.scatter, seed=told.seed)
    up = None
    if told.between is not None:
        each = sum(len(stage.devices) for stage in plan.stages)
        up = asdict(availability(told.replicas, each, told.between, told.recovery, told.seed))
    return {
        "schema": report.SCHEMA,
        "input": {"path": request.model},
        "shape": sizes,
        "scenario": asdict(told),
        "stages": [
            {"device": item.device.name, "seconds": item.seconds, "sends_seconds": item.sends}
            for item in plan.stages
        ],
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
