"""A cluster as a file that `cluster.read` gives back."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import yaml

from burnish.optimizer.partition.cluster import Cluster, Device, Link


def written(cluster: Cluster) -> str:
    """The text of the file; devices by their names, one a row."""
    told: dict[str, Any] = {"devices": [_device(item) for item in cluster.devices]}
    told["link"] = _link(cluster.link)
    if cluster.inside is not None:
        told["inside"] = _link(cluster.inside)
    if cluster.links:
        told["links"] = [
            {"between": [item.first, item.second], **_link(item.link)} for item in cluster.links
        ]
    if cluster.host is not None:
        told["host"] = asdict(cluster.host)
    text: str = yaml.safe_dump(told, sort_keys=False, width=100)
    return text


def _device(device: Device) -> dict[str, Any]:
    found: dict[str, Any] = {"name": device.name}
    if device.node:
        found["node"] = device.node
    found |= {"flops": device.flops, "bandwidth": device.bandwidth}
    if math.isfinite(device.memory):
        found["memory"] = device.memory
    if device.calibration:
        found["calibration"] = dict(device.calibration)
    return found


def _link(link: Link) -> dict[str, float]:
    return {
        key: value
        for key, value in (("bandwidth", link.bandwidth), ("latency", link.latency))
        if value and math.isfinite(value)
    }
