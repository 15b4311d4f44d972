"""Descriptions of devices, right and wrong."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from burnish.optimizer.errors import StorageError, UsageError
from burnish.optimizer.partition.cluster import Device, Link, read


def file(folder: Path, text: str) -> Path:
    (folder / "cluster.yaml").write_text(text)
    return folder / "cluster.yaml"


def test_units_counts_and_links(tmp_path: Path) -> None:
    cluster = read(
        file(
            tmp_path,
            "devices:\n- {name: gpu, count: 2, flops: 60T, bandwidth: 2e12, memory: 24G}\n"
            "- {name: cpu, flops: 200G, bandwidth: 40G}\nlink: {bandwidth: 16G, latency: 1.0e-5}\n",
        )
    )
    assert cluster.devices == (
        Device("gpu:0", 6e13, 2e12, 2.4e10),
        Device("gpu:1", 6e13, 2e12, 2.4e10),
        Device("cpu", 2e11, 4e10, math.inf),
    )
    assert cluster.link == Link(1.6e10, 1e-5)
    assert cluster.link.seconds(1.6e10) == pytest.approx(1.00001)
    assert cluster.devices[0].seconds(6e13, 4e12) == 2.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("devices: [", "it is no YAML"),
        ("[]", "has no list of devices"),
        ("devices: []", "has no devices"),
        ("devices: [3]", "device 1 is no mapping"),
        ("devices: [{flops: 1, bandwidth: 1, memroy: 1}]", "memroy is not known"),
        ("devices: [{flops: 0, bandwidth: 1}]", "flops is 0, not a positive number"),
        ("devices: [{flops: 1X, bandwidth: 1}]", "flops is '1X'"),
        ("devices: [{flops: 1}]", "bandwidth is None"),
        ("devices: [{flops: true, bandwidth: 1}]", "flops is True"),
        ("devices: [{flops: 1, bandwidth: .inf}]", "bandwidth is inf"),
        ("devices: [{flops: 1, bandwidth: 1, count: 0}]", "count is 0"),
        ("devices: [{flops: 1, bandwidth: 1}]\nlink: 3", "link is no mapping"),
        ("devices: [{flops: 1, bandwidth: 1}]\nlinks: {}", "links is not known"),
    ],
)
def test_what_is_wrong_is_said(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(file(tmp_path, text))
    assert told in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        read(tmp_path / "none.yaml")
