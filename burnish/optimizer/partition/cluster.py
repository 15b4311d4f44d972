"""Devices and the links between them, as a file describes them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish.optimizer import yaml_files
from burnish.optimizer.errors import UsageError, about, nearest
from burnish.optimizer.partition.host import Host
from burnish.optimizer.partition.operators import KINDS

OPERATOR = "operator"
"""Key of a calibration: seconds that any operator takes."""

UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}


@dataclass(frozen=True)
class Device:
    """One device; equal ones are equal in all but their names.

    Attributes:
        name: for the plan.
        flops: floating point operations a second, as matrix products reach them.
        bandwidth: bytes a second that it reads from its memory.
        memory: bytes that weights and caches may take.
        node: the machine that it is in, where the file tells; else empty.
        calibration: by kind of operator, how many times as long it takes as its rates say; and
            seconds for each operator, under `OPERATOR`. What is not there is 1, and 0.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float = math.inf
    node: str = ""
    calibration: tuple[tuple[str, float], ...] = ()

    def seconds(self, flops: float, moved: float, kind: str = "") -> float:
        """The time for so many operations on so many bytes.

        The least one by its rates (roofline, Williams 2009), as it was found for the kind.
        """
        least = max(flops / self.flops, moved / self.bandwidth)
        if not self.calibration:
            return least
        known = dict(self.calibration)
        return least * known.get(kind, 1.0) + known.get(OPERATOR, 0.0)

    @property
    def kind(self) -> tuple[float, float, float, tuple[tuple[str, float], ...]]:
        """What equal devices have in common."""
        return self.flops, self.bandwidth, self.memory, self.calibration

    @property
    def labels(self) -> frozenset[str]:
        """What a file may call it by: gpu:3 by its name, by `gpu`, and by its node."""
        return frozenset({self.name, self.name.rpartition(":")[0] or self.name, self.node})


@dataclass(frozen=True)
class Link:
    """What lies between two devices.

    Attributes:
        bandwidth: bytes a second.
        latency: seconds before the first.
    """

    bandwidth: float = math.inf
    latency: float = 0.0

    def seconds(self, moved: float) -> float:
        """The time that so many bytes take."""
        return self.latency + moved / self.bandwidth


@dataclass(frozen=True)
class Special:
    """The link between two devices, of which one is called `first` and the other `second`."""

    first: str
    second: str
    link: Link


@dataclass(frozen=True)
class Cluster:
    """Devices and their links; of several that a pair could have, the most special one holds.

    Attributes:
        link: between any two devices.
        inside: between two of the same node; None for `link`.
        links: between devices by name; of several that fit, the last.
        host: the machine that all devices share, where they do and it was measured.
    """

    devices: tuple[Device, ...]
    link: Link = Link()
    inside: Link | None = None
    links: tuple[Special, ...] = ()
    host: Host | None = None

    def between(self, first: Device, second: Device) -> Link:
        """The link between two devices."""
        here, there = first.labels, second.labels
        for item in reversed(self.links):
            straight = item.first in here and item.second in there
            if straight or (item.first in there and item.second in here):
                return item.link
        same = bool(first.node) and first.node == second.node
        return self.inside if same and self.inside is not None else self.link

    @property
    def is_uniform(self) -> bool:
        """Whether each pair has the same link."""
        links = {item.link for item in self.links} | ({self.inside} if self.inside else set())
        return links <= {self.link}


def read(path: Path) -> Cluster:
    """A cluster by its file: `devices`, `link`, `inside` and `links`; see `docs/plan.md`.

    Raises:
        StorageError: the file cannot be read.
        UsageError: it is no such description; the message says where.
    """
    told = yaml_files.read(path)
    with about(path):
        if not isinstance(told, dict) or not isinstance(told.get("devices"), list):
            raise UsageError("it has no list of devices", hint=EXAMPLE)
        _known(told, {"devices", "link", "inside", "links", "host"}, "it")
        devices: list[Device] = []
        for index, item in enumerate(told["devices"]):
            devices += _devices(item, f"device {index + 1}")
        if not devices:
            raise UsageError("it has no devices", hint=EXAMPLE)
        if len(devices) > MOST:
            raise UsageError(f"it has {len(devices)} devices, more than {MOST}")
        devices = _numbered(devices)
        inside = _link(told["inside"], "inside") if "inside" in told else None
        if inside is not None and not any(device.node for device in devices):
            raise UsageError("inside is the link within a node, and no device has one", hint=NODES)
        link = _link(told.get("link", {}), "link")
        links = _specials(told.get("links", []), devices)
        host = _host(told["host"]) if "host" in told else None
        return Cluster(tuple(devices), link, inside, links, host)


MOST = 4096
"""Devices of a cluster."""

EXAMPLE = "devices: [{name: gpu, count: 4, flops: 60T, bandwidth: 2T, memory: 24G}]"

NODES = "devices: [{name: gpu, node: one, count: 8, ...}]"

PAIR = "links: [{between: [gpu, old], bandwidth: 16G, latency: 0.00001}]"


def _devices(item: Any, place: str) -> list[Device]:
    if not isinstance(item, dict):
        raise UsageError(f"{place} is no mapping", hint=EXAMPLE)
    known = {"name", "node", "count", "nodes", "flops", "bandwidth", "memory", "calibration"}
    _known(item, known, place)
    count, nodes = _count(item, "count", place), _count(item, "nodes", place)
    name, node = str(item.get("name", "device")), str(item.get("node", ""))
    memory = _number(item, "memory", place) if "memory" in item else math.inf
    flops, bandwidth = (_number(item, key, place) for key in ("flops", "bandwidth"))
    found = _calibration(item.get("calibration", {}), place)
    homes = [f"{node or name}.{index}" for index in range(nodes)] if "nodes" in item else [node]
    return [
        Device(name, flops, bandwidth, memory, home, found) for home in homes for _ in range(count)
    ]


def _calibration(item: Any, place: str) -> tuple[tuple[str, float], ...]:
    if not isinstance(item, dict):
        raise UsageError(f"{place}: calibration is no mapping", hint="calibration: {moves: 2.5}")
    _known(item, {*KINDS, OPERATOR}, f"{place}: calibration")
    keys = [key for key in (*KINDS, OPERATOR) if key in item]
    return tuple((key, _least(item, key, f"{place}: calibration")) for key in keys)


def _host(item: Any) -> Host:
    if not isinstance(item, dict):
        raise UsageError("host is no mapping", hint="host: {handover: 0.0001}")
    _known(item, {"handover", "dispatch", "contention"}, "host")
    return Host(**{key: _least(item, key, "host") for key in item})


def _least(item: Mapping[str, Any], key: str, place: str) -> float:
    """A number that may be 0."""
    return 0.0 if item[key] in (0, 0.0) else _number(item, key, place)


def _numbered(devices: Sequence[Device]) -> list[Device]:
    """Devices of the same name are told apart by numbers."""
    many = Counter(device.name for device in devices)
    numbers: Counter[str] = Counter()
    found = []
    for device in devices:
        name = device.name
        found.append(replace(device, name=f"{name}:{numbers[name]}") if many[name] > 1 else device)
        numbers[name] += 1
    if twice := [name for name, count in Counter(d.name for d in found).items() if count > 1]:
        raise UsageError(f"two devices are called {twice[0]}", hint="another name for one of them")
    return found


def _count(item: Mapping[str, Any], key: str, place: str) -> int:
    count = item.get(key, 1)
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= MOST:
        raise UsageError(f"{place}: {key} is {count!r}, not a number from 1 to {MOST}")
    return count


def _specials(told: Any, devices: Sequence[Device]) -> tuple[Special, ...]:
    if not isinstance(told, list):
        raise UsageError("links is no list", hint=PAIR)
    labels = frozenset(label for device in devices for label in device.labels if label)
    found = []
    for index, item in enumerate(told):
        place = f"link {index + 1}"
        if not isinstance(item, dict):
            raise UsageError(f"{place} is no mapping", hint=PAIR)
        pair = item.get("between")
        if not isinstance(pair, list) or len(pair) != 2:
            raise UsageError(f"{place}: between does not name two devices", hint=PAIR)
        first, second = map(str, pair)
        for name in (first, second):
            if name not in labels:
                hint = nearest(name, labels) or PAIR
                raise UsageError(f"{place}: no device or node is called {name}", hint=hint)
        rest = {key: value for key, value in item.items() if key != "between"}
        found.append(Special(first, second, _link(rest, place)))
    return tuple(found)


def _link(item: Any, place: str) -> Link:
    if not isinstance(item, dict):
        raise UsageError(f"{place} is no mapping", hint="link: {bandwidth: 16G, latency: 0.00001}")
    _known(item, {"bandwidth", "latency"}, place)
    bandwidth = _number(item, "bandwidth", place) if "bandwidth" in item else math.inf
    return Link(bandwidth, _number(item, "latency", place) if item.get("latency") else 0.0)


def _number(item: Mapping[str, Any], key: str, place: str) -> float:
    """A positive number; text may end in a unit, as in 24G."""
    told = item.get(key)
    try:
        if isinstance(told, str):
            unit = told.strip()[-1:] if told.strip()[-1:] in UNITS else ""
            value = float(told.strip().removesuffix(unit)) * UNITS[unit]
        else:
            value = float(told)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        value = math.nan
    if isinstance(told, bool) or not value > 0.0 or math.isinf(value):
        raise UsageError(f"{place}: {key} is {told!r}, not a positive number", hint=EXAMPLE)
    return value


def _known(item: Mapping[str, Any], keys: set[str], place: str) -> None:
    if unknown := sorted(str(key) for key in item if key not in keys):
        raise UsageError(f"{place}: {unknown[0]} is not known", hint=", ".join(sorted(keys)))
