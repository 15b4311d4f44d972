"""Devices and the links between them, as a file describes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.optimizer import yaml_files
from burnish.optimizer.errors import UsageError, about

UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}


@dataclass(frozen=True)
class Device:
    """One device; equal ones are equal in all but their names.

    Attributes:
        name: for the plan.
        flops: floating point operations a second, as matrix products reach them.
        bandwidth: bytes a second that it reads from its memory.
        memory: bytes that weights and caches may take.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float = math.inf

    def seconds(self, flops: float, moved: float) -> float:
        """The least time for so many operations on so many bytes (roofline, Williams 2009)."""
        return max(flops / self.flops, moved / self.bandwidth)

    @property
    def kind(self) -> tuple[float, float, float]:
        """What equal devices have in common."""
        return self.flops, self.bandwidth, self.memory


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
class Cluster:
    """Devices, of which each pair has the same link."""

    devices: tuple[Device, ...]
    link: Link = Link()


def read(path: Path) -> Cluster:
    """A cluster by its file: `devices` with `flops`, `bandwidth`, `memory`, `count`; `link`.

    Raises:
        StorageError: the file cannot be read.
        UsageError: it is no such description; the message says where.
    """
    told = yaml_files.read(path)
    with about(path):
        if not isinstance(told, dict) or not isinstance(told.get("devices"), list):
            raise UsageError("it has no list of devices", hint=EXAMPLE)
        _known(told, {"devices", "link"}, "it")
        devices: list[Device] = []
        for index, item in enumerate(told["devices"]):
            devices += _devices(item, f"device {index + 1}")
        if not devices:
            raise UsageError("it has no devices", hint=EXAMPLE)
        return Cluster(tuple(devices), _link(told.get("link", {}), "link"))


EXAMPLE = "devices: [{name: gpu, count: 4, flops: 60T, bandwidth: 2T, memory: 24G}]"


def _devices(item: Any, place: str) -> list[Device]:
    if not isinstance(item, dict):
        raise UsageError(f"{place} is no mapping", hint=EXAMPLE)
    _known(item, {"name", "count", "flops", "bandwidth", "memory"}, place)
    count, name = item.get("count", 1), str(item.get("name", "device"))
    if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= 4096:
        raise UsageError(f"{place}: count is {count!r}, not a number from 1 to 4096")
    memory = _number(item, "memory", place) if "memory" in item else math.inf
    flops, bandwidth = (_number(item, key, place) for key in ("flops", "bandwidth"))
    names = [name] if count == 1 else [f"{name}:{index}" for index in range(count)]
    return [Device(name, flops, bandwidth, memory) for name in names]


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
