"""Two workers of one thread each against one: replicas, a pipeline, and uneven workers.

    python benchmarks/devices.py MODEL [--feeds 48] [--rounds 5]

Runs feeds of 8 x 128 tokens through one session of one thread, through two replicas, and through
a pipeline of two stages that `optimize plan` cuts, in turn. Then one of the replicas is slowed by
half (it sleeps as long as it has computed): feeds that are dealt out evenly against feeds that
whoever is free takes. Ratios are medians of the rounds, with their least and most.

Last, what `optimizer.partition.simulate` forecasts for the pipeline and for the replicas, from the
times of stages and of the whole model by themselves, against what they reach, at five sizes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import burnish
from burnish import driver
from burnish.driver import Request
from burnish.optimizer.partition.simulate import simulate
from burnish.runtimes.replicas import Replicas

Feeds = list[dict[str, Any]]


class Slowed:
    """A runtime that takes twice the time."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def __getattr__(self, name: str) -> Any:
        """Ports and the end are the runtime's own."""
        return getattr(self._runtime, name)

    def run(self, names: Sequence[str] | None, feed: Mapping[str, Any]) -> list[Any]:
        """Compute, then wait as long again."""
        start = time.perf_counter()
        found = self._runtime.run(names, feed)
        time.sleep(time.perf_counter() - start)
        return found


SIZES = ((1, 32), (1, 128), (4, 64), (8, 128), (16, 32))


def feeds_of(runtime: Any, count: int, size: tuple[int, int] = (8, 128)) -> Feeds:
    """Token ids, masks and token types."""
    random = np.random.default_rng(0)
    names = [port.name for port in runtime.get_inputs()]
    arrays = {
        "input_ids": lambda: random.integers(0, 1000, size),
        "attention_mask": lambda: np.ones(size, np.int64),
        "token_type_ids": lambda: np.zeros(size, np.int64),
    }
    return [{name: arrays[name]() for name in names} for _ in range(count)]


def dealt(workers: list[Any], feeds: Feeds) -> None:
    """Half of the feeds to each of two workers, whoever is done."""
    with ThreadPoolExecutor(len(workers)) as pool:
        parts = [feeds[index :: len(workers)] for index in range(len(workers))]
        jobs = [
            pool.submit(lambda worker, part: [worker.run(None, feed) for feed in part], *pair)
            for pair in zip(workers, parts, strict=True)
        ]
        for job in jobs:
            job.result()


def alone(files: list[Path], feed: dict[str, Any], runs: int) -> list[float]:
    """Median seconds of each of some models by itself, one given what the ones before it gave."""
    values, found = dict(feed), []
    for file in files:
        runtime = burnish.load(file, threads=1)
        given = {port.name: values[port.name] for port in runtime.get_inputs()}
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            outputs = runtime.run(None, given)
            times.append(time.perf_counter() - start)
        values |= {p.name: v for p, v in zip(runtime.get_outputs(), outputs, strict=True)}
        found.append(statistics.median(times[1:]))
        runtime.close()
    return found


def forecasts(model: Path, folder: Path, two: Any, stages: Any, count: int) -> None:
    """Print the second table."""
    print("\n| size | way | forecast a second | reached | off by |\n|---|---|---|---|---|")
    files = sorted(folder.glob("stage-*.onnx"))
    for size in SIZES:
        feeds = feeds_of(two, count, size)
        parts, (whole,) = alone(files, feeds[0], 9), alone([model], feeds[0], 9)
        row = [item for seconds in parts for item in (seconds, 0.0)][:-1]
        ways = {
            "two stages": (stages, simulate(row, 400)),
            "two replicas": (two, simulate([whole], 400, replicas=2)),
        }
        for name, (runtime, forecast) in ways.items():
            rates = []
            for _ in range(4):
                start = time.perf_counter()
                list(runtime.map(feeds))
                rates.append(count / (time.perf_counter() - start))
            reached = statistics.median(rates[1:])
            off = forecast.throughput / reached - 1.0
            print(
                f"| {size[0]} x {size[1]} | {name} | {forecast.throughput:.1f} | {reached:.1f} | "
                f"{100 * off:+.1f} % |", flush=True,
            )  # fmt: skip


def main() -> None:
    """Plan, run in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--feeds", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cluster = Path(scratch, "cluster.yaml")
        cluster.write_text("devices: [{count: 2, flops: 100G, bandwidth: 20G}]\n")
        plan = driver.plan_stages(Request(str(options.model)), str(cluster), f"{scratch}/stages")
        print("stages:", [f"{1e3 * stage['seconds']:.2f} ms" for stage in plan["stages"]])
        stages = burnish.load(f"{scratch}/stages", threads=1)
        one = burnish.load(options.model, threads=1)
        two = burnish.load(options.model, threads=1, replicas=2)
        pair = [burnish.load(options.model, threads=1) for _ in range(2)]
        uneven = [pair[0], Slowed(pair[1])]
        balanced = Replicas(uneven)
        feeds = feeds_of(one, options.feeds)
        ways: dict[str, Callable[[], Any]] = {
            "one worker": lambda: [one.run(None, feed) for feed in feeds],
            "two replicas": lambda: list(two.map(feeds)),
            "two stages": lambda: list(stages.map(feeds)),
            "one slow, dealt out evenly": lambda: dealt(uneven, feeds),
            "one slow, whoever is free": lambda: list(balanced.map(feeds)),
        }
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for index in range(options.rounds + 1):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                if index:  # the first round warms up
                    spent[name].append(time.perf_counter() - start)
        forecasts(options.model, Path(scratch, "stages"), two, stages, options.feeds)
    print("\n| way | against | times as fast | least to most |\n|---|---|---|---|")
    for name, against in (
        ("two replicas", "one worker"),
        ("two stages", "one worker"),
        ("one slow, whoever is free", "one slow, dealt out evenly"),
    ):
        gains = [a / b for a, b in zip(spent[against], spent[name], strict=True)]
        middle = statistics.median(gains)
        print(f"| {name} | {against} | {middle:.2f} | {min(gains):.2f} to {max(gains):.2f} |")


if __name__ == "__main__":
    main()
