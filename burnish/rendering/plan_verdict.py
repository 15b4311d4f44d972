"""How good a plan is, in sentences."""

from __future__ import annotations

from typing import Any

from burnish.rendering.report import safe
from burnish.rendering.times import seconds

BINDS = {
    "work": "all work spread over the devices like a liquid",
    "memory": "all work spread like a liquid, as far as memory holds it",
    "operator": "the longest run of operators that nothing can part",
    "transfer": "the cheapest transfers that are needed",
}
"""What a bound is made of, by its reason."""

Facts = dict[str, Any]


def verdict(facts: Facts) -> list[str]:
    """Throughput and latency, what no plan can beat, and what would help."""
    lines = [_reached(facts), *_bounds(facts)]
    if facts["equal_split"] is not None and facts["objective"] != "latency":
        lines.append(f"{facts['equal_split']:.2f} times an equal split over the same devices")
    used = sum(len(stage["devices"]) for stages in facts["replicas"] for stage in stages)
    if used < facts["devices"]:
        lines.append(f"{facts['devices'] - used} of {facts['devices']} devices would gain nothing")
    if (more := facts["combined"]) is not None:
        gain = more["throughput"] / facts["throughput"]
        many = f"{more['replicas']} replicas" if more["replicas"] > 1 else "another plan"
        lines.append(f"--objective throughput: {gain:.2f} times as many runs, by {many}")
    if facts["remedies"]:
        told = (f"{_remedy(item)} ({item['gain']:.2f} times)" for item in facts["remedies"])
        lines.append(f"what would help at most: {', '.join(told)}")
    return lines


def _reached(facts: Facts) -> str:
    shape = ", ".join(f"{safe(name)} {count}" for name, count in facts["shape"].items())
    latency = seconds(facts["latency_seconds"])
    replicas = len(facts["replicas"])
    rate = f"{facts['throughput']:.4g} runs a second" + (
        f" over {replicas} replicas" if replicas > 1 else ""
    )
    slowest = seconds(1.0 / facts["throughput"])
    return f"one run in {slowest} once it is full ({rate}), {latency} from end to end, at {shape}"


def _bounds(facts: Facts) -> list[str]:
    bound, left = seconds(facts["bound_seconds"]), 100 * facts["gap"]
    if facts["objective"] == "latency":
        return [f"no plan has a run from end to end below {bound}: at most {left:.1f} % are left"]
    if len(facts["replicas"]) > 1:
        return [f"no plan gives a result more often than every {bound}: {left:.1f} % are left"]
    lines = [
        f"no plan has a slowest stage below {bound}: at most {left:.1f} % are left "
        f"({BINDS[facts['bound_reason']]})"
    ]
    if facts["certified_seconds"] is not None:
        proven, rest = seconds(facts["certified_seconds"]), 100 * facts["certified_gap"]
        lines.append(f"no pipeline has one below {proven}, all being tried: {rest:.1f} % are left")
    elif not facts["exact"]:
        lines.append("not all orders of devices were tried")
    return lines


def _remedy(item: Facts) -> str:
    where = [safe(name, 24) for name in item["where"]]
    if item["change"] == "memory":
        return f"more memory on devices like {where[0]}"
    if not where:
        return "a faster link"
    return "a faster link " + (
        "within nodes" if where == ["node"] else f"between {where[0]} and {where[1]}"
    )
