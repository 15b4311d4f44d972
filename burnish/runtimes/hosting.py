"""What a machine costs its devices beside computing, measured in a child of the sandbox.

Feeds that take no work show what handing them on takes; a model that several workers run at once,
beside one worker alone, shows what they cost each other.
"""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from burnish.optimizer.artifact import MANIFEST, PIPELINE
from burnish.runtimes.arrays import read_arrays
from burnish.runtimes.interface import Runtime
from burnish.runtimes.pipeline import Pipeline
from burnish.runtimes.providers import PROVIDERS
from burnish.runtimes.replicas import Replicas

Emit = Callable[[dict[str, Any]], None]

FEEDS = 400
"""Small feeds of a round."""

LARGE = 1 << 20
"""Elements of a large feed: 4 MB."""

ROUNDS = 5


def handing_over(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Seconds of feeds that take no work; `argument` holds `folder`, which is written to.

    Returns:
        `handover`, `dispatch`: see `optimizer.partition.host.Host`; `byte`: seconds of a byte.
    """
    folder = Path(argument["folder"])
    files = [_stage(folder, *ends) for ends in (("x", "between"), ("between", "y"))]
    _manifest(folder)
    open_cpu = PROVIDERS["cpu"].open
    sessions = [open_cpu(file, provider="cpu", threads=1) for file in files]
    small, large = (np.ones(count, np.float32) for count in (1, LARGE))
    pipeline = Pipeline(folder, threads=1)
    handover = _spent(pipeline.map, small, FEEDS)
    byte = _spent(pipeline.map, large, FEEDS // 20) - _spent(_through(sessions), large, FEEDS // 20)
    pipeline.close()
    two = Replicas([open_cpu(files[0], provider="cpu", threads=1) for _ in range(2)])
    dispatch = _spent(two.map, small, FEEDS)
    two.close()
    return {
        "handover": handover / len(files),
        "dispatch": dispatch,
        "byte": max(byte - handover, 0.0) / (len(files) * LARGE * 4),
    }


def _through(sessions: Sequence[Runtime]) -> Callable[[list[dict[str, Any]]], Iterator[None]]:
    """Runs feeds through sessions one after the other, with nothing between."""

    def run(feeds: list[dict[str, Any]]) -> Iterator[None]:
        names = [session.get_inputs()[0].name for session in sessions]
        for feed in feeds:
            given = feed["x"]
            for session, name in zip(sessions, names, strict=True):
                (given,) = session.run(None, {name: given})
            yield

    return run


def _spent(run: Callable[[list[dict[str, Any]]], Any], array: np.ndarray, count: int) -> float:
    """Seconds of a feed."""
    feeds, found = [{"x": array}] * count, []
    for index in range(ROUNDS + 1):
        start = time.perf_counter()
        for _ in run(feeds):
            pass
        if index:  # the first round warms up
            found.append((time.perf_counter() - start) / count)
    return statistics.median(found)


def _stage(folder: Path, source: str, target: str) -> Path:
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in (source, target)]
    node = helper.make_node("Neg", [source], [target])
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / f"{target}.onnx"
    onnx.save(model, path)
    return path


def _manifest(folder: Path) -> None:
    rows = [
        {"file": f"{target}.onnx", "device": "cpu", "inputs": [source], "outputs": [target]}
        for source, target in (("x", "between"), ("between", "y"))
    ]
    told = {"schema": 1, "task": PIPELINE, "inputs": ["x"], "outputs": ["y"], "stages": rows}
    (folder / MANIFEST).write_text(json.dumps(told), encoding="utf-8")


def together(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """How much longer a run takes while others run as well; `slower`, relative to one alone.

    `argument` holds `path`, `feeds` (a folder), `workers` (threads of each worker) and `seconds`
    of a block. All run on the processor, each worker in a thread of this process.
    """
    open_cpu, feeds = PROVIDERS["cpu"].open, read_arrays(Path(argument["feeds"]))
    sessions = [
        open_cpu(Path(argument["path"]), provider="cpu", threads=threads)
        for threads in argument["workers"]
    ]
    for session in sessions:
        session.run(None, feeds)
    ratios = []
    for _ in range(ROUNDS):
        alone = _block(sessions[:1], feeds, argument["seconds"])
        ratios.append(_block(sessions, feeds, argument["seconds"]) / alone)
    return {"slower": max(statistics.median(ratios) - 1.0, 0.0)}


def _block(sessions: Sequence[Runtime], feeds: Any, seconds: float) -> float:
    """Seconds of a run of the first session while all of them run.

    Waiting for a processor is a part of them: workers cost each other that, too.
    """
    start, runs = time.perf_counter(), [list[float]() for _ in sessions]

    def work(session: Runtime, mine: list[float]) -> None:
        while time.perf_counter() < start + seconds or not mine:
            session.run(None, feeds)
            mine.append(time.perf_counter())

    threads = [
        threading.Thread(target=work, args=pair, daemon=True)
        for pair in zip(sessions, runs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (runs[0][-1] - start) / len(runs[0])
