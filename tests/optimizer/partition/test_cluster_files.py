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
        ("devices: [{flops: 1, bandwidth: 1}]\nlonks: {}", "lonks is not known"),
        ("devices: [{flops: 1, bandwidth: 1}]\nlinks: {}", "links is no list"),
        ("devices: [{flops: 1, bandwidth: 1}]\nlinks: [3]", "link 1 is no mapping"),
        ("devices: [{flops: 1, bandwidth: 1}]\nlinks: [{}]", "between does not name two"),
        (
            "devices: [{name: gpu, flops: 1, bandwidth: 1}]\nlinks: [{between: [gpu, gpuu]}]",
            "link 1: no device or node is called gpuu; try gpu",
        ),
        (
            "devices: [{name: a, flops: 1, bandwidth: 1}]\n"
            "links: [{between: [a, a], bandwidth: -1}]",
            "link 1: bandwidth is -1",
        ),
        ("devices: [{flops: 1, bandwidth: 1}]\ninside: {}", "inside is the link within a node"),
        ("devices: [{flops: 1, bandwidth: 1, nodes: 0}]", "nodes is 0"),
        ("devices: [{flops: 1, bandwidth: 1, nodes: 99, count: 99}]", "has 9801 devices"),
        (
            "devices: [{name: 'a:0', flops: 1, bandwidth: 1},"
            " {name: a, count: 2, flops: 1, bandwidth: 1}]",
            "two devices are called a:0",
        ),
    ],
)
def test_what_is_wrong_is_said(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(file(tmp_path, text))
    assert told in caught.value.line("model.onnx")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        read(tmp_path / "none.yaml")


def test_links_within_nodes_and_between_those_that_are_named(tmp_path: Path) -> None:
    text = (
        "devices:\n- {name: gpu, nodes: 2, count: 2, flops: 60T, bandwidth: 2T}\n"
        "- {name: old, node: attic, flops: 20T, bandwidth: 700G}\n"
        "link: {bandwidth: 3G}\ninside: {bandwidth: 50G}\nlinks:\n"
        "- {between: [attic, gpu], bandwidth: 1G}\n- {between: [gpu:3, old], bandwidth: 2G}\n"
    )
    cluster = read(file(tmp_path, text))
    one, two, three, four, old = cluster.devices
    assert [device.name for device in cluster.devices] == [
        "gpu:0",
        "gpu:1",
        "gpu:2",
        "gpu:3",
        "old",
    ]
    assert one.node == two.node != three.node == four.node and old.node == "attic"
    for first, second, bandwidth in (
        (one, two, 50e9), (two, three, 3e9), (one, old, 1e9), (old, three, 1e9), (old, four, 2e9),
    ):  # fmt: skip
        assert cluster.between(first, second).bandwidth == bandwidth
    assert not cluster.is_uniform


def test_devices_of_one_name_are_numbered(tmp_path: Path) -> None:
    text = "devices: [{count: 2, flops: 1, bandwidth: 1}, {flops: 2, bandwidth: 1}]"
    names = [device.name for device in read(file(tmp_path, text)).devices]
    assert names == ["device:0", "device:1", "device:2"]
