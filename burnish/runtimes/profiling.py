"""Where the time of a run goes, kernel by kernel, as ONNX Runtime's own profiler tells it."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import UnsupportedModel
from burnish.runtimes.arrays import read_arrays
from burnish.runtimes.onnxruntime import PROVIDERS, explain

Emit = Callable[[dict[str, Any]], None]

LEAST_RUNS, MOST_RUNS = 4, 50
"""The first run is left out: it allocates what the later ones use again."""

HOLDING = ("If", "Loop", "Scan")
"""Operators that other nodes run inside of."""

KERNEL = "_kernel_time"
"""How events of kernels are called, after the node's name."""


def profile(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Run a model on the processor in a stock session with the profiler on.

    `argument` holds `path`, `feeds` (a folder), `threads`, `seconds` (to run for, about) and
    `folder`, for what the runtime writes.

    Returns:
        `kernels`: for each node that ran `name`, `operator` and `ms`, the median over runs;
        `runs`; `model`: the graph that ran, as the runtime's own optimizations had left it.

    Raises:
        UnsupportedModel: it does not run, or the profiler told nothing.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    folder = Path(argument["folder"])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.optimized_model_filepath = str(folder / "ran.onnx")
    if argument["threads"]:
        options.intra_op_num_threads = argument["threads"]
    feeds = read_arrays(Path(argument["feeds"]))
    try:
        session = onnxruntime.InferenceSession(
            str(argument["path"]), options, providers=[PROVIDERS["cpu"]]
        )
        deadline = time.monotonic() + argument["seconds"]
        for run in range(MOST_RUNS):
            session.run(None, feeds)
            if run + 1 >= LEAST_RUNS and time.monotonic() > deadline:
                break
        written = Path(session.end_profiling())
    except Exception as error:  # the binding raises types of its own for each status code
        raise explain(error) from None
    events = json.loads(written.read_text())
    with contextlib.suppress(OSError):
        os.unlink(written)
    kernels, runs = _kernels(events)
    if not kernels:
        raise UnsupportedModel("the profiler told of no kernels")
    return {"kernels": kernels, "runs": runs, "model": str(folder / "ran.onnx")}


def _kernels(events: Iterable[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """The nodes of the graph itself with their median times, and over how many runs.

    In the order in which they ran. What runs within a branch or a body is part of that node's time.
    """
    told = sorted(events, key=lambda event: event.get("ts", 0))
    runs = [event for event in told if event.get("name") == "model_run"][1:]
    operators: dict[str, str] = {}
    spent: dict[str, list[float]] = defaultdict(list)
    until = 0.0
    for event in told:
        name = event.get("name", "")
        if event.get("cat") != "Node" or not name.endswith(KERNEL):
            continue
        operator = event.get("args", {}).get("op_name", "")
        if event["ts"] < until or not any(_within(event, run) for run in runs):
            continue
        if operator in HOLDING:
            until = event["ts"] + event["dur"]
        node = name.removesuffix(KERNEL)
        operators[node] = operator
        spent[node].append(event["dur"] / 1e3)
    kernels = [
        {"name": node, "operator": operators[node], "ms": statistics.median(times)}
        for node, times in spent.items()
    ]
    return kernels, len(runs)


def _within(event: Mapping[str, Any], run: Mapping[str, Any]) -> bool:
    return bool(run["ts"] <= event["ts"] <= run["ts"] + run["dur"])
