"""Plans of models of real depth for four clusters, beside what no plan can beat.

    python benchmarks/plans.py FOLDER [MODEL ...] > rows.md

`FOLDER` keeps the exports, without weights (`plan_models`); what it lacks is exported, each in a
process of its own. Sizes are 8 x 128 tokens (as many in caches and for encoders; images of 224 x
224; five seconds of sound), clusters those of `benchmarks/clusters`. Two numbers stand beside each
plan: the *bound*, of work, of what cannot be parted, and of transfers (`partition/bound.py`), which
knows no plan; and what is *proven* of pipelines along the chain, all being followed
(`partition/certificate.py`). Where that is above the bound, the bound is out of their reach.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from matrix import isolation
from plan_models import MODELS, Model, export

from burnish.optimizer.analysis import shapes
from burnish.optimizer.errors import BurnishError
from burnish.optimizer.model import load
from burnish.optimizer.partition.bound import lower_bound
from burnish.optimizer.partition.certificate import certified
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.cluster import Cluster, read
from burnish.optimizer.partition.equal import equal_split
from burnish.optimizer.partition.given import ask_inputs
from burnish.optimizer.partition.planner import plan_on
from burnish.optimizer.partition.run_costs import RunCosts

SIZES = {
    "batch": 8, "sequence": 128, "encoder": 128, "past": 128, "total": 256, "samples": 80_000,
}  # fmt: skip
FILES = Path(__file__).parent / "clusters"
CLUSTERS = ("equal", "uneven", "linked", "tight")
ROOM = 4.0 / 3.0
"""Memory of the tight cluster over what the model takes."""

NEAR = 0.06
"""The gap that is asked for."""


@dataclass(frozen=True)
class Row:
    """A plan and what it is held to; `equal` is how many times longer the equal split takes."""

    cluster: str
    gap: float
    proven: float
    equal: float | None


def chain_of(model: Model, folder: Path) -> Chain:
    """The chain of a model, exported where it is not there yet."""
    path = folder / f"{model.name.split(' ')[0]}.onnx"
    if not path.exists():
        told = isolation.call(export, MODELS.index(model), path, seconds=600.0)
        if told["status"] != "ok":
            raise BurnishError(f"not exported: {told['error']}")
    graph = load(path).model
    shapes.annotate(graph)
    ask_inputs(graph)
    return Chain(graph, shapes.infer(graph, SIZES, bounded=True))


def cluster_of(name: str, chain: Chain) -> Cluster:
    """A cluster by its file; the tight one scaled to the model."""
    cluster = read(FILES / f"{name}.yaml")
    if name != "tight":
        return cluster
    room = sum(device.memory for device in cluster.devices)
    factor = ROOM * chain.memory(0, len(chain)) / room
    devices = [replace(device, memory=factor * device.memory) for device in cluster.devices]
    return replace(cluster, devices=tuple(devices))


def planned(model: Model, chain: Chain, name: str) -> Row | None:
    """Print a row; what it comes to."""
    cluster = cluster_of(name, chain)
    costs = RunCosts(chain, cluster)
    try:
        begun = time.monotonic()
        plan = plan_on(costs)
        took = time.monotonic() - begun
    except BurnishError as error:
        print(f"| {model.name} | {name} | | | | | | | | {error} |", flush=True)
        return None
    bound, slowest = lower_bound(costs), plan.bottleneck
    proven = certified(costs, bound.seconds, slowest) or bound.seconds
    split = equal_split(chain, cluster)
    equal = split.bottleneck / slowest if split else None
    gap, rest = slowest / bound.seconds - 1.0, slowest / proven - 1.0
    print(
        f"| {model.name} | {name} | {len(plan.stages)} | {1e3 * slowest:.3f} | "
        f"{1e3 * bound.seconds:.3f} | {bound.reason} | {100 * gap:.1f} | {1e3 * proven:.3f} | "
        f"{100 * rest:.1f} | {f'{equal:.2f}' if equal else 'none'} | {took:.2f} |",
        flush=True,
    )  # fmt: skip
    return Row(name, gap, rest, equal)


def summary(rows: list[Row]) -> None:
    """What the rows of each cluster come to."""
    print("\n| cluster | models | within 6 % of the bound | of the rest, within 1 % of what is "
          "proven | within 6 % of either | times an equal split: geometric mean, least | fits |"
          "\n|---|---|---|---|---|---|---|")  # fmt: skip
    for name in CLUSTERS:
        here = [row for row in rows if row.cluster == name]
        far = [row for row in here if row.gap > NEAR]
        proven = sum(row.proven < 0.01 for row in far)
        either = sum(min(row.gap, row.proven) <= NEAR for row in here)
        gains = [row.equal for row in here if row.equal]
        mean = math.exp(statistics.fmean(map(math.log, gains))) if gains else math.nan
        near = len(here) - len(far)
        print(
            f"| {name} | {len(here)} | {near} | {proven} of {len(far)} | {either} | {mean:.2f}, "
            f"{min(gains, default=math.nan):.2f} | {len(gains)} |"
        )


def main() -> None:
    """Export, plan, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| model | cluster | stages | slowest, ms | bound, ms | by | above it, % | proven, ms | "
          "above it, % | equal split | planned in, s |\n" + 11 * "|---" + "|")  # fmt: skip
    rows = []
    for model in MODELS:
        if options.models and model.name.split(" ")[0] not in options.models:
            continue
        try:
            chain = chain_of(model, options.folder)
        except BurnishError as error:
            print(f"| {model.name} | {error} |", flush=True)
            continue
        rows += [row for name in CLUSTERS if (row := planned(model, chain, name))]
    summary(rows)


if __name__ == "__main__":
    main()
