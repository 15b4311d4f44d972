"""`--devices cpu:1,cpu:1`: what the devices of this machine can do with the model at hand.

Rates come from products of the model's own shapes and from weights that are streamed. How far each
kind of operator is from what they say comes from runs of the model itself, one of each kind of
layer, timed by themselves in stock sessions.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish.driver.workbench import STOPWATCH, Workbench
from burnish.optimizer import sandbox, tuner
from burnish.optimizer.contract import Choice
from burnish.optimizer.errors import BurnishError, UsageError
from burnish.optimizer.measure import Contest, Entrant
from burnish.optimizer.partition import probes
from burnish.optimizer.partition.chain import Atom, Chain
from burnish.optimizer.partition.cluster import OPERATOR, Cluster, Device, Link
from burnish.optimizer.partition.fit import factors
from burnish.optimizer.partition.host import Host
from burnish.optimizer.partition.operators import KINDS
from burnish.optimizer.partition.segments import Segment
from burnish.optimizer.tuner import Tuner
from burnish.runtimes.providers import PROVIDERS, REFERENCE, version

EXAMPLE = "--devices cpu:1,cpu:1 or cuda:0,cpu"

BLOCKS, BLOCK_SECONDS = 7, 0.04
"""Blocks of runs that a time is the median of, and how long one is."""

TOGETHER_SECONDS = 0.3
"""Length of a block of runs of several workers at once."""

AS_IT_IS = "as it is"
"""The one form of a run that is timed, for the tuning record."""

ON_CARDS = ("cuda", "tensorrt")
"""Providers whose devices are numbered cards."""


@dataclass(frozen=True)
class Spec:
    """A device as it is asked for.

    Attributes:
        provider: a row of `runtimes.providers`.
        threads: of a session; 0 for the runtime's default.
        card: of several; None where there is none to choose.
    """

    provider: str
    threads: int = 0
    card: int | None = None

    def __str__(self) -> str:
        number = self.card if self.card is not None else self.threads or None
        return self.provider if number is None else f"{self.provider}:{number}"


@dataclass(frozen=True)
class Timed:
    """A run of the chain as a file, with what flows into it."""

    segment: Segment
    path: Path
    feeds: Path


def parsed(text: str) -> list[Spec]:
    """The devices of `--devices`.

    Raises:
        UsageError: one is none.
    """
    found = []
    for item in text.split(","):
        name, colon, number = item.strip().partition(":")
        if name not in PROVIDERS:
            known = ", ".join(PROVIDERS)
            raise UsageError(f"--devices {item.strip() or text}: {name} is not known", hint=known)
        least = 0 if name in ON_CARDS else 1
        if colon and not (number.isdecimal() and least <= int(number) <= 4096):
            what = "no card" if name in ON_CARDS else "no number of threads"
            raise UsageError(f"--devices {item.strip()}: {number or 'nothing'} is {what}",
                             hint=EXAMPLE)  # fmt: skip
        count = int(number) if colon else 0
        found.append(Spec(name, card=count) if name in ON_CARDS else Spec(name, count))
    return found


def measured(
    bench: Workbench, chain: Chain, specs: Sequence[Spec], runs: Sequence[Timed]
) -> tuple[Cluster, list[dict[str, Any]]]:
    """The devices as a cluster, and what was measured of each kind, as data.

    Args:
        bench: of the model.
        chain: of the model.
        specs: the devices.
        runs: of the chain, one for each kind of layer.

    Raises:
        UsageError: a device does not start here.
    """
    kinds = list(dict.fromkeys(specs))
    told, found = [], {}
    for spec in kinds:
        bench.emit({"stage": f"measuring {spec}"})
        _start(bench, spec)
        device, facts = _device(bench, chain, spec, runs)
        found[spec] = device
        told.append(facts)
    devices = _named(specs, found)
    host, link = _host(bench, specs)
    return Cluster(tuple(devices), link, host=host), told


def _named(specs: Sequence[Spec], found: dict[Spec, Device]) -> list[Device]:
    """A device for each that was asked for, with its share of the machine's memory."""
    on_host = sum(spec.provider not in ON_CARDS for spec in specs)
    share = float(sandbox.default_memory() // max(on_host, 1))
    devices = []
    for index, spec in enumerate(specs):
        several = specs.count(spec) > 1
        name = f"{spec}/{specs[: index + 1].count(spec)}" if several else str(spec)
        memory = {} if spec.provider in ON_CARDS else {"memory": share}
        devices.append(replace(found[spec], name=name, **memory))  # type: ignore[arg-type]
    return devices


def _start(bench: Workbench, spec: Spec) -> None:
    """Raise where the device does not start; what is installed proves nothing."""
    if spec.provider == REFERENCE:
        return
    argument = {"provider": spec.provider, "folder": str(bench.executor.folder())}
    with _on_card(spec):
        try:
            sandbox.call("burnish.runtimes.work:start", argument, bench.limits)
        except BurnishError as error:
            raise UsageError(f"{spec} does not start: {error.message}", hint=error.hint) from None


@contextlib.contextmanager
def _on_card(spec: Spec) -> Iterator[None]:
    """Children that start in here see one card only, as their first."""
    key, before = "CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES")
    if spec.card is not None:
        os.environ[key] = str(spec.card)
    try:
        yield
    finally:
        if spec.card is not None:
            os.environ.pop(key)
            os.environ.update({key: before} if before is not None else {})


def _device(
    bench: Workbench, chain: Chain, spec: Spec, runs: Sequence[Timed]
) -> tuple[Device, dict[str, Any]]:
    """One device, and what was measured of it."""
    watch = _Watch(bench, spec)
    with _on_card(spec), watch:
        rates = probes.rates(chain, watch.seconds)
        floor = watch.seconds(*probes.nothing())
        times = [max(watch.run(item) - floor, floor / 10.0) for item in runs]
    device = Device(str(spec), *rates)
    atoms = [chain.atoms[item.segment.start : item.segment.end] for item in runs]
    rows = [_by_kind(part, device) for part in atoms]
    each, operator = factors(rows, [len(part) for part in atoms], times)
    known = [(kind, factor) for index, (kind, factor) in enumerate(zip(KINDS, each, strict=True))
             if any(row[index] for row in rows)]  # fmt: skip
    device = replace(device, calibration=(*known, (OPERATOR, operator)))
    forecast = [sum(device.seconds(a.flops, a.moved, a.kind) for a in part) for part in atoms]
    off = [a / b - 1.0 for a, b in zip(forecast, times, strict=True)]
    return device, {
        "device": str(spec),
        "flops": device.flops,
        "bandwidth": device.bandwidth,
        "calibration": dict(device.calibration),
        "runs": [
            {"operators": len(part), "seconds": seconds, "fitted": fitted}
            for part, seconds, fitted in zip(atoms, times, forecast, strict=True)
        ],
        "off": max(map(abs, off)),
    }


def _by_kind(atoms: Sequence[Atom], device: Device) -> list[float]:
    """Seconds of operators by the rates alone, by their kinds."""
    sums = dict.fromkeys(KINDS, 0.0)
    for atom in atoms:
        sums[atom.kind] += device.seconds(atom.flops, atom.moved)
    return [*sums.values()]


class _Watch:
    """Times models on a device; a context."""

    def __init__(self, bench: Workbench, spec: Spec) -> None:
        self._bench, self._spec = bench, spec
        self._contest = Contest(
            STOPWATCH, bench.limits, provider=spec.provider, threads=spec.threads,
            turn=bench.request.turn, undisturbed=True,
        )  # fmt: skip
        record = bench.request.tuning
        name, _ = tuner.processor()
        self._tuner = Tuner(
            None, bench.executor, Path(record) if record else tuner.default_record(),
            f"{name}, {spec.threads} threads, {spec.provider}, {version(spec.provider)}",
            replay=record is not None, warn=bench.warnings.append,
        )  # fmt: skip

    def __enter__(self) -> None:
        self._contest.__enter__()

    def __exit__(self, *_: Any) -> None:
        self._contest.__exit__(None, None, None)

    def seconds(self, model: bytes, feeds: dict[str, Any]) -> float:
        """Of a run of a model."""
        folder = self._bench.executor.folder()
        path = folder / "probe.onnx"
        path.write_bytes(model)
        return self._time(path, self._bench.executor.store([feeds])[0])

    def run(self, item: Timed) -> float:
        """Of a run of the chain, which the tuning record may know."""
        key = f"run of {item.segment.end - item.segment.start} operators {item.segment.key}"
        known = self._tuner.recall(key, {AS_IT_IS})
        if known is None:
            milliseconds = 1e3 * self._time(item.path, item.feeds)
            choice = Choice(AS_IT_IS, 1.0, measured=True, ms=round(milliseconds, 6))
            known = self._tuner.remember(key, choice, {AS_IT_IS})
        return known.ms / 1e3

    def _time(self, path: Path, feeds: Path) -> float:
        blocks = self._contest.turns({"run": Entrant(path, feeds)}, BLOCK_SECONDS)
        return statistics.median(next(blocks)["run"] for _ in range(BLOCKS))


def _host(bench: Workbench, specs: Sequence[Spec]) -> tuple[Host | None, Link]:
    """What the machine costs its devices beside computing, and what lies between them."""
    bench.emit({"stage": "measuring what lies between them"})
    folder = bench.executor.folder()
    told = sandbox.call(
        "burnish.runtimes.hosting:handing_over", {"folder": str(folder)}, bench.limits
    )
    host = Host(told["handover"], told["dispatch"])
    link = Link(1.0 / told["byte"], 0.0) if told["byte"] else Link()
    threads = [spec.threads for spec in specs if spec.provider == REFERENCE]
    if len(threads) > 1 and not bench.too_costly():
        feeds = bench.executor.store([bench.timing_feed()])[0]
        order = {"path": str(bench.loaded.path.absolute()), "feeds": str(feeds),
                 "workers": threads, "seconds": TOGETHER_SECONDS}  # fmt: skip
        slower = sandbox.call("burnish.runtimes.hosting:together", order, bench.limits)["slower"]
        host = replace(host, contention=slower)
    return host, link
