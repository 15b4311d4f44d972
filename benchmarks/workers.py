"""Workers as threads against workers as processes, and what memory processes take.

    python benchmarks/workers.py MODEL [--feeds 48] [--rounds 7]
    python benchmarks/workers.py MODEL --memory

The first times two replicas and two stages, each as two threads of this process and as two
processes, of one thread each, in turn, against one worker; at feeds of 1 x 32 and of 8 x 128
tokens. Ratios are medians of the rounds, with their least and most; beside them the processor time
of a feed, in all processes together, over that of the one worker.

The second says what memory of its own (`smaps_rollup`: private, so neither libraries nor shared
memory) each stage has beyond a worker with a model of one operator, as a share of what a worker
with the whole model has beyond it; beside the stage's share of the bytes of all stages.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from devices import feeds_of
from onnx import TensorProto, helper

import burnish
from burnish import driver
from burnish.driver import Request

SIZES = ((1, 32), (8, 128))


def planned(model: Path, scratch: Path, count: int) -> Path:
    """The model in so many stages."""
    cluster = scratch / f"cluster-{count}.yaml"
    cluster.write_text(f"devices: [{{count: {count}, flops: 100G, bandwidth: 20G}}]\n")
    driver.plan_stages(Request(str(model)), str(cluster), str(scratch / f"stages-{count}"))
    return scratch / f"stages-{count}"


def processor(service: Any) -> float:
    """Seconds of processor time of this process, and of a service's."""
    spent = time.process_time()
    for row in service.told():
        if row["pid"] is not None:
            fields = Path(f"/proc/{row['pid']}/stat").read_text().rpartition(")")[2].split()
            spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent


def times(model: Path, stages: Path, count: int, rounds: int) -> None:
    """Print the first table."""
    one = burnish.load(model, threads=1)
    ways: dict[str, Any] = {}
    for kind in ("threads", "processes"):
        ways[f"two replicas, {kind}"] = burnish.load(model, threads=1, replicas=2, workers=kind)
        ways[f"two stages, {kind}"] = burnish.load(stages, threads=1, workers=kind)
    print("| size | workers | times as fast as one | least to most | processor time, times |")
    print("|---|---|---|---|---|")
    for size in SIZES:
        feeds = feeds_of(one, count if size[0] > 1 else 10 * count, size)
        gains: dict[str, list[float]] = {name: [] for name in ways}
        costs: dict[str, list[float]] = {name: [] for name in ways}
        for index in range(rounds + 1):
            for name, way in ways.items():
                start, used = time.perf_counter(), processor(way)
                for feed in feeds:
                    one.run(None, feed)
                middle, between = time.perf_counter(), processor(way)
                for _ in way.map(feeds):
                    pass
                if index:  # the first round warms up
                    gains[name].append((middle - start) / (time.perf_counter() - middle))
                    costs[name].append((processor(way) - between) / (between - used))
        for name, found in gains.items():
            print(
                f"| {size[0]} x {size[1]} | {name} | {statistics.median(found):.2f} | "
                f"{min(found):.2f} to {max(found):.2f} | {statistics.median(costs[name]):.2f} |",
                flush=True,
            )  # fmt: skip
    for way in ways.values():
        way.close()


def private(pid: int) -> int:
    """Bytes that only one process has."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(row.split()[1]) for row in rows if row.startswith("Private"))


def memory_of(path: Path, feed: dict[str, Any]) -> list[int]:
    """Private bytes of each worker after ten runs."""
    with burnish.load(path, threads=1, workers="processes") as service:
        for _ in range(10):
            service.run(None, feed)
        return [private(row["pid"]) for row in service.told()]


def memory(model: Path, scratch: Path) -> None:
    """Print the second table."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), scratch / "one.onnx")
    (empty,) = memory_of(scratch / "one.onnx", {"x": np.ones(1, np.float32)})
    session = burnish.load(model, threads=1)
    (feed,) = feeds_of(session, 1, (1, 32))
    session.close()
    whole = memory_of(model, feed)[0] - empty
    print(f"an empty worker has {empty / 1e6:.0f} MB, the whole model takes {whole / 1e6:.0f} MB\n")
    print("| stages | stage | MB | share of the whole's | of the files' |\n|---|---|---|---|---|")
    for count in (2, 3, 4):
        folder = planned(model, scratch, count)
        sizes = [path.stat().st_size for path in sorted(folder.glob("stage-*.onnx"))]
        for index, used in enumerate(memory_of(folder, feed)):
            own = used - empty
            print(
                f"| {count} | {index + 1} | {own / 1e6:.0f} | {own / whole:.0%} | "
                f"{sizes[index] / sum(sizes):.0%} |", flush=True,
            )  # fmt: skip


def main() -> None:
    """Plan, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--feeds", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.memory:
            memory(options.model, Path(scratch))
        else:
            stages = planned(options.model, Path(scratch), 2)
            times(options.model, stages, options.feeds, options.rounds)


if __name__ == "__main__":
    main()
