"""The work of the sandbox's children, on any provider of the table.

The functions with the signature `(argument, emit)` run inside a child of `sandbox`; they are
the only places that let a runtime look at a model during a compilation.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from burnish.optimizer.errors import ResourceLimit, UnsupportedModel
from burnish.runtimes.arrays import Array, read_arrays, write_arrays
from burnish.runtimes.providers import PROVIDERS

Emit = Callable[[dict[str, Any]], None]


def execute(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Do jobs in order; each opens a model and runs it on feeds, optimizations off unless asked.

    A job holds `path`, `provider`, `optimize`, `feeds` (one list of folders per run, merged, of
    which the model takes the inputs it has) and `results` (the folder that gets one folder of
    outputs per run). A later job may read what an earlier one wrote. A job without feeds is a
    check that the provider accepts the model.

    Returns:
        `jobs`: for each one `error` (the model is not accepted) and maybe a `hint`, `failed` (by
        run, why) and `fallen` (see `interface.Runtime`).
    """
    return {"jobs": [_job(job, argument.get("threads", 0)) for job in argument["jobs"]]}


def _job(job: dict[str, Any], threads: int) -> dict[str, Any]:
    report: dict[str, Any] = {"error": "", "failed": {}, "fallen": None}
    provider = PROVIDERS[job["provider"]]
    try:
        session = provider.open(
            Path(job["path"]),
            provider=provider.name,
            optimize=job.get("optimize", False),
            threads=threads,
            runs=bool(job["feeds"]),
        )
    except UnsupportedModel as error:
        remedy = {"hint": error.hint} if error.hint else {}
        return report | {"error": error.message} | remedy
    report["fallen"] = session.fallen()
    inputs = {item.name for item in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]
    for index, arrays in enumerate(_feeds(job["feeds"], inputs)):
        if arrays is None:
            report["failed"][str(index)] = "the run that makes its feed failed"
            continue
        try:
            outputs = session.run(names, arrays)
        except Exception as error:  # the bindings raise types of their own
            reason = provider.explain(error)
            if isinstance(reason, ResourceLimit):
                raise reason from None
            report["failed"][str(index)] = str(reason)
            continue
        if sequences := [
            name
            for name, value in zip(names, outputs, strict=True)
            if not isinstance(value, np.ndarray)
        ]:
            report["failed"][str(index)] = f"{sequences[0]} is no tensor"
            continue
        write_arrays(Path(job["results"]) / str(index), dict(zip(names, outputs, strict=True)))
    return report


def _feeds(runs: list[list[str]], inputs: Container[str]) -> Iterator[dict[str, Array] | None]:
    """What each run is given; None where a folder of it is not there.

    Folders that all runs share, which may hold weights, are read once.
    """
    common = set.intersection(*map(set, runs)) if len(runs) > 1 else set()
    known: dict[str, dict[str, Array]] = {}
    for folders in runs:
        if not all(Path(folder).is_dir() for folder in folders):
            yield None
            continue
        arrays: dict[str, Array] = {}
        for folder in folders:
            found = known.get(folder) or read_arrays(Path(folder), inputs)
            if folder in common:
                known[folder] = found
            arrays |= found
        yield arrays


def executor(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Answer each line on standard input, an argument of `execute`, with what that returns."""
    for line in sys.stdin:
        emit(execute(json.loads(line), emit))
    return {}


def stopwatch(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Time blocks of runs on command, one line on standard input each: `PATH FEEDS RUNS`.

    Opens a session when the path or the provider changes, and reports the seconds of each run; and
    `undisturbed`, their mean without the time in which there was no processor for it.
    """
    current, session, feeds = None, None, {}
    for line in sys.stdin:
        order = json.loads(line)
        provider = PROVIDERS[order["provider"]]
        if (order["path"], provider.name) != current:
            session = None
            session = provider.open(
                Path(order["path"]), provider=provider.name, threads=order["threads"]
            )
            feeds = read_arrays(Path(order["feeds"]))
            current = order["path"], provider.name
        seconds = []
        assert session is not None
        with undisturbed() as block:
            for _ in range(order["runs"]):
                start = time.perf_counter()
                try:
                    session.run(None, feeds)
                except Exception as error:  # the bindings raise types of their own
                    raise provider.explain(error) from None
                seconds.append(time.perf_counter() - start)
        emit({"seconds": seconds, "undisturbed": block.seconds / order["runs"]})
    return {}


@dataclass
class Spent:
    """Seconds of a context; see `undisturbed`."""

    seconds: float = 0.0


@contextlib.contextmanager
def undisturbed() -> Iterator[Spent]:
    """Takes the time of a context without that in which there was no processor for its thread."""
    spent, begun, waited = Spent(), time.perf_counter(), _waited()
    yield spent
    spent.seconds = max(time.perf_counter() - begun - (_waited() - waited), 1e-9)


def _waited() -> float:
    """Seconds that this thread was ready to run and had no processor, since it began.

    Linux tells (Documentation/scheduler/sched-stats.rst); 0 where the system does not.
    """
    try:
        with open("/proc/thread-self/schedstat") as table:
            return int(table.read().split()[1]) * 1e-9
    except (OSError, IndexError, ValueError):
        return 0.0


def start(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Open a model of one node on a provider; raises UsageError where that does not start here.

    `argument` holds `provider` and `folder`, where the model may be written. What is installed
    proves nothing: libraries that a provider needs may be missing.
    """
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = Path(argument["folder"]) / "start.onnx"
    onnx.save(model, path)
    name = argument["provider"]
    PROVIDERS[name].open(path, provider=name).close()
    return {}
