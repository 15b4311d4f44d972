"""Workers that are killed and stopped under load, and more load than they can take.

    python benchmarks/faults.py [--kills 100] [--hangs 20] [--seconds 10]

Runs the tagger of `examples/` on two replicas, and on two stages, in processes. Callers keep
requests waiting all the time, while a random worker is killed (SIGKILL) or stopped (SIGSTOP) at
random moments. Counted are the answers to each request, and whether they are right; recovery is the
time from the signal to the first answer of the worker in its place. At the end nothing may be left:
processes, files in /dev/shm, descriptors of this process.

Then requests come at twice the rate that the replicas reach, with room for 32 to wait.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

import burnish
from burnish import driver
from burnish.driver import Request
from burnish.optimizer.errors import Overloaded

TAGGER = Path(__file__).parents[1] / "examples" / "tagger" / "model.onnx"
CLUSTER = "devices: [{count: 2, flops: 100G, bandwidth: 20G}]\n"
WAITING = 32


def feeds_of(count: int) -> list[dict[str, Any]]:
    """Token ids of 1 to 4 rows and 8 to 128 tokens, some of them padded."""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(count):
        mask = np.ones((int(draw.integers(1, 5)), int(draw.integers(8, 129))), np.int64)
        mask[:, mask.shape[1] - int(draw.integers(0, 4)) :] = 0
        found.append({"input_ids": draw.integers(0, 1000, mask.shape), "attention_mask": mask})
    return found


class Load:
    """Callers that ask, compare and ask again, until they are stopped."""

    def __init__(self, service: Any, feeds: list[Any], right: list[Any]) -> None:
        self.service, self.feeds, self.right = service, feeds, right
        self.asked = self.good = self.wrong = self.again = 0
        self.errors: list[str] = []
        self._lock, self._going = threading.Lock(), True
        self._threads = [threading.Thread(target=self._call, args=(i,)) for i in range(8)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._going = False
        for thread in self._threads:
            thread.join()

    def _call(self, seed: int) -> None:
        draw = random.Random(seed)
        while self._going:
            place, told = draw.randrange(len(self.feeds)), list[Any]()
            future = self.service.submit(self.feeds[place])
            future.add_done_callback(told.append)
            try:
                (found,) = future.result(120)
                near = np.allclose(found, self.right[place], atol=1e-5, rtol=0)
            except burnish.BurnishError as error:
                near = None
                self.errors.append(error.message)
            with self._lock:
                self.asked += 1
                self.good += near is True
                self.wrong += near is False
                self.again += len(told) != 1


def recovered(service: Any, place: int, old: int) -> float:
    """Seconds until another process answers in the place of one."""
    start = time.perf_counter()
    answers = None
    while True:
        row = service.told()[place]
        if row["pid"] != old:
            answers = row["answers"] if answers is None else answers
            if row["answers"] > answers:
                return time.perf_counter() - start
        if time.perf_counter() - start > 120:
            raise SystemExit(f"{row['name']} did not recover")
        time.sleep(0.002)


def struck(service: Any, load: Load, names: list[str], seed: int) -> dict[str, list[float]]:
    """Signals at random moments to random workers; seconds of recovery."""
    draw, found = random.Random(seed), dict[str, list[float]]()
    for name in names:
        time.sleep(draw.uniform(0.05, 0.5))
        place = draw.randrange(2)
        pid = service.told()[place]["pid"]
        os.kill(pid, getattr(signal, name))
        found.setdefault(name, []).append(recovered(service, place, pid))
    return found


def left_behind(before: tuple[int, list[str]], started: set[int]) -> str:
    """What is still there of a service that was closed; empty where nothing is."""
    alive = [pid for pid in started if Path(f"/proc/{pid}").exists()]
    descriptors, shared = len(os.listdir("/proc/self/fd")), sorted(os.listdir("/dev/shm"))
    kept = [f"{len(alive)} processes"] if alive else []
    kept += [f"{descriptors - before[0]} descriptors"] if descriptors > before[0] else []
    return ", ".join(kept + (["/dev/shm"] if shared != before[1] else [])) or "nothing"


def under_fire(name: str, opened: Callable[[], Any], options: Any, feeds: Any, right: Any) -> None:
    """One row for each signal."""
    before = len(os.listdir("/proc/self/fd")), sorted(os.listdir("/dev/shm"))
    service = opened()
    names = ["SIGKILL"] * options.kills + ["SIGSTOP"] * options.hangs
    random.Random(1).shuffle(names)
    with Load(service, feeds, right) as load:
        seconds = struck(service, load, names, 2)
    started = {row["pid"] for row in service.told()}
    service.close()
    left = left_behind(before, started)
    for key in ("SIGKILL", "SIGSTOP"):
        if times := seconds.get(key):
            print(
                f"| {name} | {len(times)} {key} | {load.asked} | {load.good} | {load.wrong} | "
                f"{load.again} | {len(load.errors)} | {statistics.median(times):.2f} s | "
                f"{max(times):.2f} s | {left} |", flush=True,
            )  # fmt: skip
    for error in sorted(set(load.errors)):
        print(f"\n    {error}")


def overloaded(service: Any, feeds: list[Any], seconds: float) -> None:
    """Twice what the replicas reach; what becomes of it."""
    list(service.map(feeds[:100]))
    start = time.perf_counter()
    list(service.map(feeds))
    rate = len(feeds) / (time.perf_counter() - start)
    latencies, refusals, futures = list[float](), list[float](), list[Future[Any]]()
    begin, count = time.perf_counter(), 0
    while (now := time.perf_counter()) < begin + seconds:
        if (due := begin + count / (2 * rate)) > now:
            time.sleep(due - now)
        count, start = count + 1, time.perf_counter()
        try:
            future = service.submit(feeds[count % len(feeds)])
        except Overloaded:
            refusals.append(time.perf_counter() - start)
            continue
        done = lambda _, start=start: latencies.append(time.perf_counter() - start)  # noqa: E731
        future.add_done_callback(done)
        futures.append(future)
    for future in futures:
        future.result(60)
    bound, late = 1e3 * (WAITING + 4) / rate, 1e3 * np.array(latencies)
    print(
        f"\nReached {rate:.0f} a second; asked for {2 * rate:.0f} a second for {seconds:.0f} s, "
        f"with room for {WAITING}: {len(refusals) / count:.0%} of {count} refused, each within "
        f"{1e3 * max(refusals):.2f} ms ({1e3 * statistics.median(refusals):.3f} in the median). "
        f"Accepted ones: {np.median(late):.0f} ms in the median, {np.quantile(late, 0.99):.0f} ms "
        f"in 99 of 100, {late.max():.0f} ms at most; {WAITING + 4} of them take {bound:.0f} ms."
    )


def main() -> None:
    """Plan, shoot, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--hangs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    feeds = feeds_of(200)
    session = burnish.load(TAGGER, threads=1)
    right = [session.run(None, feed)[0] for feed in feeds]
    one: dict[str, Any] = {"threads": 1, "workers": "processes"}
    two = one | {"replicas": 2}
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "cluster.yaml").write_text(CLUSTER)
        stages = f"{scratch}/stages"
        driver.plan_stages(Request(str(TAGGER)), f"{scratch}/cluster.yaml", stages)
        burnish.load(TAGGER, **two).close()  # what is opened once stays open
        print(
            "| workers | signals | requests | right | wrong | answered more than once | errors | "
            "recovery, median | worst | left behind |\n|---|---|---|---|---|---|---|---|---|---|"
        )
        for name, path, how in (("two replicas", TAGGER, two), ("two stages", Path(stages), one)):
            under_fire(
                name,
                lambda path=path, how=how: burnish.load(path, restarts=1000, **how),
                options, feeds, right,
            )  # fmt: skip
        with burnish.load(TAGGER, capacity=WAITING, **two) as service:
            overloaded(service, feeds, options.seconds)


if __name__ == "__main__":
    main()
