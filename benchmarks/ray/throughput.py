"""Replicas and stages on Ray beside those of this process: feeds a second, and latency of one feed.

    python benchmarks/ray/throughput.py examples/tagger/model.onnx [--feeds 96] [--rounds 7]

Starts a cluster of two nodes on this machine, two processors each. Every way runs the same feeds of
8 x 128 tokens, in turn, with one thread for each replica or stage; ratios are medians of the
rounds, with their least and most. Results are held to those of one session.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.cluster_utils import Cluster

import burnish
from burnish import driver
from burnish.driver import Request

STORE = 100 << 20
PAIRS = (
    ("two replicas on Ray", "two replicas here"),
    ("two stages on Ray", "two stages here"),
    ("two replicas on Ray", "one session"),
    ("two stages on Ray", "one session"),
)


def feeds_of(count: int, rows: int, length: int) -> list[dict[str, Any]]:
    """Token ids and masks."""
    random = np.random.default_rng(0)
    size = (rows, length)
    return [
        {"input_ids": random.integers(0, 1000, size), "attention_mask": np.ones(size, np.int64)}
        for _ in range(count)
    ]


def measured(
    ways: dict[str, Any], feeds: list[dict[str, Any]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Seconds for all feeds, and for one alone, by way; all ways in each round."""
    whole: dict[str, list[float]] = {name: [] for name in ways}
    alone: dict[str, list[float]] = {name: [] for name in ways}
    expected = [ways["one session"].run(None, feed)[0] for feed in feeds]
    for index in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            found = list(way.map(feeds)) if hasattr(way, "map") else _each(way.run, feeds)
            middle = time.perf_counter()
            way.run(None, feeds[0])
            end = time.perf_counter()
            for (mine,), theirs in zip(found, expected, strict=True):
                np.testing.assert_allclose(mine, theirs, atol=1e-4)
            if index:  # the first round warms up
                whole[name].append(middle - start)
                alone[name].append(end - middle)
    return whole, alone


def _each(run: Callable[..., Any], feeds: list[dict[str, Any]]) -> list[Any]:
    return [run(None, feed) for feed in feeds]


def main() -> None:
    """Plan, start, run in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--feeds", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    options = parser.parse_args()
    feeds = feeds_of(options.feeds, options.rows, options.length)
    node: dict[str, Any] = {"num_cpus": 2, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        with tempfile.TemporaryDirectory() as scratch:
            file, stages = Path(scratch, "cluster.yaml"), Path(scratch, "stages")
            file.write_text("devices: [{count: 2, flops: 100G, bandwidth: 20G}]\n")
            driver.plan_stages(Request(str(options.model)), str(file), str(stages))
            address = cluster.address
            ways = {
                "one session": burnish.load(options.model, threads=1),
                "two replicas here": burnish.load(options.model, threads=1, replicas=2),
                "two stages here": burnish.load(stages, threads=1),
                "two stages on Ray": burnish.load(stages, threads=1, ray=address),
                "two replicas on Ray": burnish.load(
                    options.model, threads=1, replicas=2, ray=address
                ),
            }
            whole, alone = measured(ways, feeds, options.rounds)
            for way in ways.values():
                way.close()
    finally:
        ray.shutdown()
        cluster.shutdown()
    print("| way | feeds a second | one feed alone, ms |\n|---|---|---|")
    for name in ways:
        rate = len(feeds) / statistics.median(whole[name])
        print(f"| {name} | {rate:.1f} | {1e3 * statistics.median(alone[name]):.2f} |")
    print("\n| way | against | times as fast | least to most |\n|---|---|---|---|")
    for name, against in PAIRS:
        gains = [a / b for a, b in zip(whole[against], whole[name], strict=True)]
        middle = statistics.median(gains)
        print(f"| {name} | {against} | {middle:.2f} | {min(gains):.2f} to {max(gains):.2f} |")


if __name__ == "__main__":
    main()
