"""Curves for 8 to 1,024 devices that are not here: tables and a figure for `docs/scale.md`.

    python benchmarks/scale.py [--figure docs/scale.svg]

Prints the tables, and draws the figure. Everything follows from sizes, rates and a seed: no clock
is read, and the same command gives the same bytes.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import svg
from scale_models import MODELS, graph

from burnish.optimizer.analysis import shapes
from burnish.optimizer.failures import availability
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.cluster import Cluster, Device, Link
from burnish.optimizer.partition.planner import plan_on
from burnish.optimizer.partition.plans import Plan
from burnish.optimizer.partition.run_costs import RunCosts
from burnish.optimizer.simulate import Forecast, Step, simulate

COUNTS = (8, 16, 32, 64, 128, 256, 512, 1024)
NODE = 8

REACHED, READ = 0.6, 0.8
"""Shares of a data sheet's operations and bytes a second that are taken to be reached."""

FAILS, BACK = 54 * 24 * 3600.0 * 16384 / 419, 300.0
"""Seconds between failures of a device: 419 in 54 days of 16,384 (Grattafiori et al. 2024); and
until its replica is back, which is assumed."""

STRAGGLER, EVERY, SPEED = 17, 64, 0.7
"""One device of each so many is slow: which, of how many, and its speed."""


@dataclass(frozen=True)
class Machine:
    """Devices in nodes of eight; per direction, a link inside a node, and one between nodes.

    Attributes:
        shared: whether the eight devices of a node share the link between nodes.
    """

    flops: float
    bandwidth: float
    memory: float
    inside: Link
    between: Link
    shared: bool


MACHINES = {
    "H100, InfiniBand": Machine(
        989e12, 3.35e12, 80e9, Link(450e9, 2e-6), Link(50e9, 1e-5), shared=False
    ),
    "A100, Ethernet": Machine(
        312e12, 2.04e12, 80e9, Link(300e9, 2e-6), Link(12.5e9, 3e-5), shared=True
    ),
}


@dataclass(frozen=True)
class Strategy:
    """How a model is spread.

    Attributes:
        devices: of a replica; 0 for all that there are.
        group: devices that compute a stage together.
        most: devices of a replica at most.
    """

    devices: int
    group: int = 1
    most: int = 1024


STRATEGIES = {
    "replicas": Strategy(1),
    "pipeline of 8": Strategy(8),
    "tensor 8": Strategy(8, 8),
    "tensor 8, pipeline of 4": Strategy(32, 8),
    "one pipeline": Strategy(0, 1, 256),
    "tensor 8, one pipeline": Strategy(0, 8),
}


@dataclass(frozen=True)
class Share:
    """What one device of a group has of an operator; see `run_costs.Share`."""

    share: float
    weights: float
    reduced: float


@functools.cache
def chain_of(model: str) -> Chain:
    """The model's chain."""
    made = graph(MODELS[model])
    shapes.annotate(made)
    return Chain(made, shapes.infer(made, {}, bounded=True))


def shares(chain: Chain, group: int) -> list[Share]:
    """What one device of a group has, as in Megatron-LM (Shoeybi et al. 2019).

    Products and attentions are split by columns and heads, then by rows, behind which partial sums
    are added up; the rest is done by all.
    """
    split = ("MatMul", "Attention", "Mul", "Sigmoid", "Gelu", "Gather")
    found = []
    for index, node in enumerate(chain.nodes):
        share = 1.0 / group if node.op_type in split else 1.0
        reads = {use.node.op_type for use in node.outputs[0].uses()}
        ends = node.op_type == "MatMul" and reads == {"Add"}
        sent = chain.carried[index] if not ends else _bytes(node)
        found.append(Share(share, chain.memory(index, index + 1) * share, sent if ends else 0.0))
    return found


def _bytes(node: ir.Node) -> float:
    shape = node.outputs[0].shape
    return 2.0 * math.prod(shape.numpy()) if shape is not None else 0.0


@functools.cache
def planned(model: str, machine: str, devices: int, group: int) -> Plan | None:
    """The plan of one replica; None where it does not fit."""
    told = MACHINES[machine]
    row = [
        Device(f"d{i}", told.flops * REACHED, told.bandwidth * READ, told.memory, f"n{i // NODE}")
        for i in range(devices)
    ]
    chain = chain_of(model)
    cluster = Cluster(tuple(row), told.between, told.inside)
    groups = {group: shares(chain, group)} if group > 1 else None
    try:
        return plan_on(RunCosts(chain, cluster, groups, single=group == 1))
    except Exception as error:  # it does not fit, which is told in the table
        assert "do not fit" in str(error), error
        return None


def lines(plan: Plan, machine: str, replicas: int, each: int, slow: bool) -> list[list[Step]]:
    """The steps of all replicas."""
    found = []
    for replica in range(replicas):
        steps = []
        for index, stage in enumerate(plan.stages):
            numbers = [replica * each + int(device.name[1:]) for device in stage.devices]
            lame = slow and any(number % EVERY == STRAGGLER for number in numbers)
            computed = (stage.seconds - stage.reduces) / (SPEED if lame else 1.0)
            steps.append(Step(computed + stage.reduces, f"d{numbers[0]}"))
            if index + 1 < len(plan.stages):
                node, following = stage.device.node, plan.stages[index + 1].device.node
                leaves = MACHINES[machine].shared and node != following
                home = f"node {replica} {node}" if leaves else f"d{numbers[0]}"
                steps.append(Step(stage.sends, f"link of {home}", sends=True))
        found.append(steps)
    return found


@dataclass(frozen=True)
class Point:
    """A strategy on so many devices.

    Attributes:
        linear: throughput over that of as many devices without any losses.
        slowed: the same with stragglers.
        failing: the same with failures.
        few: the same with as many feeds in flight as there are stages.
        idle: share of the time in which devices do nothing.
    """

    linear: float
    slowed: float
    failing: float
    few: float
    latency: float
    idle: float
    stages: int
    replicas: int


@functools.cache
def point(model: str, machine: str, name: str, count: int) -> Point | None:
    """Simulate; None where the model does not fit, or there are not enough devices."""
    strategy = STRATEGIES[name]
    each = strategy.devices or min(count, strategy.most)
    if each > count or (strategy.devices == 0 and count > strategy.most):
        return None
    plan = planned(model, machine, each, strategy.group)
    if plan is None:
        return None
    replicas = count // each
    feeds = replicas * (len(plan.stages) + 16) + 40
    told = MACHINES[machine]
    device = Device("", told.flops * REACHED, told.bandwidth * READ)
    alone = sum(device.seconds(atom.flops, atom.moved) for atom in chain_of(model).atoms)

    def run(slow: bool, flight: int | None = None) -> Forecast:
        made = lines(plan, machine, replicas, each, slow)
        return simulate(made, max(feeds, 200), flight=flight)

    even, slowed, few = run(False), run(True), run(False, len(plan.stages))
    up = availability([each] * replicas, FAILS, BACK).up
    used = [
        len(stage.devices) * even.busy[f"d{int(stage.device.name[1:])}"] for stage in plan.stages
    ]
    return Point(
        even.throughput * alone / count, slowed.throughput * alone / count,
        even.throughput * up * alone / count, few.throughput * alone / count, few.latency,
        max(0.0, 1.0 - sum(used) / each), len(plan.stages), replicas,
    )  # fmt: skip


def table(model: str, machine: str) -> list[str]:
    """A row for each strategy: throughput relative to linear, even and with stragglers."""
    rows = [f"| {model} on {machine} | " + " | ".join(map(str, COUNTS)) + " |"]
    rows.append("|---" * (len(COUNTS) + 1) + "|")
    for name in STRATEGIES:
        points = [point(model, machine, name, count) for count in COUNTS]
        if any(points):
            cells = [f"{p.linear:.2f} ({p.slowed:.2f})" if p else "" for p in points]
            rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def details(model: str, machine: str, count: int) -> list[str]:
    """A row for each strategy at one size."""
    head = "| strategy | replicas x stages | s in flight | latency | idle | with failures |"
    rows = [f"{model} on {machine}, {count} devices:", "", head, "|---" * 6 + "|"]
    for name in STRATEGIES:
        if (p := point(model, machine, name, count)) is not None:
            rows.append(
                f"| {name} | {p.replicas} x {p.stages} | {p.few:.2f} | {1e3 * p.latency:.0f} ms | "
                f"{100 * p.idle:.0f} % | {p.failing:.3f} |"
            )
    return rows


COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2")


def figure(panels: Sequence[tuple[str, str]]) -> str:
    """Throughput relative to linear over the number of devices; dashed with stragglers."""
    width, height, left, top = 330, 220, 44, 28
    items: list[svg.Element] = []
    for number, (model, machine) in enumerate(panels):
        x0 = left + number * (width + 60)

        def place(count: int, share: float, x0: int = x0) -> tuple[float, float]:
            step = COUNTS.index(count) / (len(COUNTS) - 1)
            return x0 + step * width, top + (1.0 - min(share, 1.0)) * height

        items.append(_text(x0, top - 10, f"{model}, {machine}", 13))
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            (x1, y), (x2, _) = place(COUNTS[0], share), place(COUNTS[-1], share)
            items.append(svg.Line(x1=x1, y1=y, x2=x2, y2=y, stroke="#8888", stroke_width=0.5))
            items.append(_text(x1 - 30, y + 4, f"{share:.2f}"))
        for count in COUNTS:
            items.append(_text(place(count, 0)[0] - 8, top + height + 16, str(count)))
        for name, colour in zip(STRATEGIES, COLOURS, strict=True):
            known = [(c, p) for c in COUNTS if (p := point(model, machine, name, c))]
            for dash, of in ((None, "linear"), ([4, 3], "slowed")):
                places = [place(count, getattr(p, of)) for count, p in known]
                flat = [round(item, 1) for pair in places for item in pair]
                if flat:
                    items.append(svg.Polyline(points=flat, fill="none", stroke=colour,
                                              stroke_width=1.8, stroke_dasharray=dash))  # fmt: skip
    for index, (name, colour) in enumerate(zip(STRATEGIES, COLOURS, strict=True)):
        x, y = left + (index % 3) * 240, top + height + 42 + 20 * (index // 3)
        items.append(svg.Rect(x=x, y=y - 9, width=16, height=4, fill=colour))
        items.append(_text(x + 22, y - 3, name))
    whole = left + len(panels) * (width + 60), top + height + 80
    return str(svg.SVG(viewBox=svg.ViewBoxSpec(0, 0, *whole), elements=items)) + "\n"


def _text(x: float, y: float, text: str, size: int = 11) -> svg.Text:
    return svg.Text(
        x=round(x, 1), y=round(y, 1), text=text, font_size=size, font_family="sans-serif",
        fill="#777",
    )  # fmt: skip


def main() -> None:
    """Print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, default=Path("docs/scale.svg"))
    options = parser.parse_args()
    for machine in MACHINES:
        for model in MODELS:
            print("\n".join(["", *table(model, machine)]), flush=True)
    print("\n".join(["", *details("70B decoder", "H100, InfiniBand", 1024)]))
    print("\n".join(["", *details("7B decoder", "H100, InfiniBand", 1024)]))
    panels = [("7B decoder", "H100, InfiniBand"), ("70B decoder", "A100, Ethernet")]
    options.figure.write_text(figure(panels), encoding="utf-8")


if __name__ == "__main__":
    main()
