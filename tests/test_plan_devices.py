"""`--devices`: what is measured of this machine, and written as a cluster."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import unsupervised
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import encoder
from typer.testing import CliRunner

from burnish import driver
from burnish.cli import app
from burnish.driver import Request
from burnish.driver.devices import Spec, _on_card, parsed
from burnish.driver.scenario import scenario
from burnish.optimizer.analysis import shapes
from burnish.optimizer.errors import UsageError
from burnish.optimizer.partition import cluster
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.cluster import Cluster, Device, Link, Special
from burnish.optimizer.partition.cluster_text import written
from burnish.optimizer.partition.fit import factors
from burnish.optimizer.partition.host import Host
from burnish.optimizer.partition.operators import KINDS
from burnish.optimizer.partition.probes import product
from burnish.optimizer.partition.segments import distinct, segments


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    onnx.save(encoder(layers=4, width=64), path)
    return str(path)


def test_devices_as_they_are_written() -> None:
    assert parsed("cpu:2, cpu,cuda:1") == [Spec("cpu", 2), Spec("cpu"), Spec("cuda", card=1)]
    assert [str(spec) for spec in parsed("cpu:2,cpu,cuda,cuda:1")] == [
        "cpu:2", "cpu", "cuda:0", "cuda:1"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gpu:0", "--devices gpu:0: gpu is not known"),
        ("", "is not known"),
        ("cpu:0", "0 is no number of threads"),
        ("cpu:", "nothing is no number of threads"),
        ("cuda:x", "x is no card"),
    ],
)
def test_devices_that_are_none(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parsed(text)


def test_a_card_is_the_only_one_that_children_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with _on_card(Spec("cuda", card=3)):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_layers_are_timed_once() -> None:
    loaded = ir.from_proto(encoder(layers=6, width=64))
    shapes.annotate(loaded)
    known = shapes.infer(loaded, {"batch": 8, "sequence": 128}, bounded=True)
    chain = Chain(loaded, known)
    found = segments(chain, known)
    assert [item.start for item in found[1:]] == [item.end for item in found[:-1]]
    assert found[0].start == 0 and found[-1].end == len(chain)
    kinds = distinct(found)
    assert max(count for _, count in kinds) >= 5 and len(kinds) < len(found)
    assert {atom.kind for atom in chain.atoms} <= set(KINDS)


rows = st.lists(st.tuples(*[st.floats(0.1, 10.0)] * 4), min_size=5, max_size=9)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(rows, st.tuples(*[st.floats(0.2, 5.0)] * 4))
def test_factors_give_the_times_that_they_make(
    by_kind: list[tuple[float, ...]], truth: tuple[float, ...]
) -> None:
    times = [float(np.dot(row, truth)) for row in by_kind]
    each, operator = factors(by_kind, [10] * len(by_kind), times)
    assert all(item >= 0.0 for item in each) and operator >= 0.0
    for row, seconds in zip(by_kind, times, strict=True):
        assert np.dot(row, each) + 10 * operator == pytest.approx(seconds, rel=0.15)


def test_what_times_do_not_tell_is_as_all_together() -> None:
    each, operator = factors([(1.0, 0.0, 0.0)], [1], [3.0])
    assert each == pytest.approx([3.0] * 3, rel=0.01) and operator == pytest.approx(1e-6, rel=0.01)


def test_clusters_are_read_as_they_were_written(tmp_path: Path) -> None:
    calibration = (("products", 0.8), ("moves", 2.5), ("operator", 0.0))
    made = Cluster(
        (Device("a", 1e12, 1e11, 1e9, "one", calibration), Device("b", 2.0, 3.0, node="one")),
        Link(1e9, 1e-5), Link(5e9), (Special("a", "b", Link(2e9)),), Host(1e-4, 5e-5, 0.05),
    )  # fmt: skip
    (tmp_path / "cluster.yaml").write_text(written(made))
    assert cluster.read(tmp_path / "cluster.yaml") == made
    assert made.devices[0].seconds(1e12, 0.0, "products") == pytest.approx(0.8)
    assert made.devices[0].seconds(1e12, 0.0, "attention") == 1.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("devices: [{flops: 1, bandwidth: 1, calibration: 3}]", "calibration is no mapping"),
        ("devices: [{flops: 1, bandwidth: 1, calibration: {gelu: 1}}]", "gelu is not known"),
        ("devices: [{flops: 1, bandwidth: 1}]\nhost: 1", "host is no mapping"),
        ("devices: [{flops: 1, bandwidth: 1}]\nhost: {contention: -1}", "contention is -1"),
    ],
)
def test_files_that_are_wrong(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text(text)
    with pytest.raises(UsageError, match=told):
        cluster.read(tmp_path / "cluster.yaml")


def test_probes_have_the_shape_that_they_say() -> None:
    message, feeds = product(3, 8, 5)
    onnx.checker.check_model(onnx.load_from_string(message), full_check=True)
    assert feeds["x"].shape == (3, 8)


def test_this_machine_is_measured_planned_for_and_written(small: str, tmp_path: Path) -> None:
    file, record = tmp_path / "here.yaml", str(tmp_path / "tuning.json")
    command = ["plan", small, "--devices", "cpu:1,cpu:1", "--write-cluster", str(file)]
    with unsupervised():
        shown = CliRunner().invoke(app, [*command, "--tuning", record], env={"COLUMNS": "140"})
        assert shown.exit_code == 0, shown.output
        assert "GFLOP/s" in shown.output and "an operator" in shown.output
        again = driver.plan_stages(Request(small), str(file))
        with pytest.raises(UsageError, match="a plan needs one of"):
            driver.plan_stages(Request(small), str(file), devices="cpu")
    found = cluster.read(file)
    assert [device.name for device in found.devices] == ["cpu:1/1", "cpu:1/2"]
    assert found.host is not None and found.host.handover > 0.0
    assert found.devices[0].flops > 1e8 and found.devices[0].calibration
    assert len(again["stages"]) <= 2 and again["bottleneck_seconds"] > 0.0
    assert "run of" in Path(record).read_text()


def test_a_device_that_does_not_start_is_one_line(small: str) -> None:
    with unsupervised():
        shown = CliRunner().invoke(app, ["plan", small, "--devices", "cuda:0,cpu:1"])
    assert shown.exit_code == 2
    assert "cuda:0 does not start:" in shown.output and "Traceback" not in shown.output


def test_forecasts_at_the_prompt(small: str, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "devices: [{name: a, count: 3, flops: 1G, bandwidth: 1G}]\nlink: {latency: 1}\n"
    )
    command = ["simulate", small, "--cluster", str(file), "--replicas", "2", "--feeds", "200"]
    with unsupervised():
        shown = CliRunner().invoke(app, [*command, "--failures", "1000h,5m"])
        assert shown.exit_code == 0, shown.output
        assert "binds" in shown.output and "% of 2 replicas are up" in shown.output
        wrong = CliRunner().invoke(app, [*command, "--straggler", "9:2"])
    assert wrong.exit_code == 2 and "there is no stage 9" in wrong.output


def test_groups_that_some_nodes_have_no_devices_left_for(small: str, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "devices: [{name: g, count: 3, nodes: 2, flops: 1G, bandwidth: 1G}]\n"
        "link: {bandwidth: 1G}\ninside: {bandwidth: 10G}\n"
    )
    with unsupervised():
        facts = driver.simulate(
            Request(small), scenario(feeds=100), str(file), replicas=2, shards=2
        )
    stages = [stage for replica in facts["replicas"] for stage in replica]
    assert len(facts["replicas"]) == 2 and all(len(stage["devices"]) == 2 for stage in stages)
    assert all(0 < stage["reduces_seconds"] < stage["seconds"] for stage in stages)
    assert facts["throughput"] > 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"straggler": ["2"]}, "--straggler 2 is not STAGE:FACTOR"),
        ({"straggler": ["0:2"]}, "is not STAGE:FACTOR"),
        ({"failures": "5h"}, "--failures 5h is not MTBF,RECOVERY"),
        ({"failures": "x,y"}, "is not MTBF,RECOVERY"),
    ],
)
def test_scenarios_that_mean_nothing(given: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        scenario(**given)  # type: ignore[arg-type]


def test_scenarios_have_units() -> None:
    found = scenario(failures="2h,90", straggler=["2:1.5"])
    assert (found.between, found.recovery, found.slowed) == (7200.0, 90.0, {"2": 1.5})
