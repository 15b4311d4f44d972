"""Models over devices: the stages together against the whole, and plans against their bound.

    python benchmarks/plans.py FOLDER [--stages 2,3,4,8]

`FOLDER` holds exports; what `tests/matrix` makes is made there where it is missing. Each model is
cut into as many stages as asked, which are written, loaded by stock ONNX Runtime, run one after the
other and compared with the model. Then each is planned for four clusters, whose rates are those of
the model's own size, so that small models are cut as large ones are:

- equal: four devices, a free link;
- uneven: two devices, one of half and one of a quarter of their speed;
- linked: eight devices, whose link carries the largest residual stream in an eighth of a stage;
- tight: four devices, each with room for a third of the weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from matrix.exporters import EXPORTERS, cells, export_all

import burnish
from burnish.driver import Request
from burnish.optimizer.analysis import shapes
from burnish.optimizer.errors import BurnishError
from burnish.optimizer.model import load
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.cluster import Cluster, Device, Link
from burnish.optimizer.partition.planner import equal_split, plan

SIZES = {"batch": 8, "sequence": 128, "past": 128}


def exports(folder: Path) -> list[Path]:
    """One export of each architecture, by the first exporter of the matrix."""
    wanted = [cell for cell in cells() if cell.exporter is EXPORTERS[0]]
    export_all(folder, wanted)
    return [path for cell in wanted if (path := folder / f"{cell}.onnx").exists()]


def clusters(chain: Chain) -> dict[str, Cluster]:
    """See above; a device does all of the work in a second."""
    flops = sum(atom.flops for atom in chain.atoms) or 1.0
    moved = sum(atom.moved for atom in chain.atoms) or 1.0
    memory = chain.memory(0, len(chain))

    def device(speed: float, room: float = float("inf")) -> Device:
        return Device("d", flops * speed, moved * speed, room)

    stream = max(chain.carried[:-1])
    return {
        "equal": Cluster((device(1.0),) * 4),
        "uneven": Cluster((device(1.0), device(1.0), device(0.5), device(0.25))),
        "linked": Cluster((device(1.0),) * 8, Link(stream * 64.0)),
        "tight": Cluster((device(1.0, memory / 3.0),) * 4),
    }


def planned(path: Path) -> None:
    """Print a row for each cluster."""
    model = load(path).model
    shapes.annotate(model)
    chain = Chain(model, shapes.infer(model, SIZES, bounded=True))
    for name, cluster in clusters(chain).items():
        try:
            found = plan(chain, cluster)
        except BurnishError as error:
            print(f"| {path.stem} | {name} | | | | {error} |")
            continue
        equal = equal_split(chain, cluster)
        gain = f"{equal.bottleneck / found.bottleneck:.2f}" if equal else "does not fit"
        print(
            f"| {path.stem} | {name} | {len(found.stages)} | {found.bottleneck:.4f} | "
            f"{100 * found.gap:.1f} | {gain} |", flush=True,
        )  # fmt: skip


def cut(path: Path, stages: list[int]) -> None:
    """Print a row: the error of as many stages as asked."""
    cells = []
    for count in stages:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "cluster.yaml")
            file.write_text(f"devices: [{{count: {count}, flops: 1G, bandwidth: 1G}}]\n")
            try:
                facts = burnish.driver.plan_stages(
                    Request(str(path)), str(file), f"{scratch}/stages"
                )
                cells.append(f"{len(facts['stages'])}: {facts['error']:.1e}")
            except BurnishError as error:
                cells.append(str(error))
    print(f"| {path.stem} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Export, cut, plan, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stages", default="2,3,4,8")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    stages = [int(item) for item in options.stages.split(",")]
    paths = exports(options.folder)
    print(f"| model | {' | '.join(f'{item} devices' for item in stages)} |")
    print("|---" * (len(stages) + 1) + "|")
    for path in paths:
        cut(path, stages)
    print("\n| model | cluster | stages | slowest, s | above the bound, % | equal split |")
    print("|---|---|---|---|---|---|")
    for path in paths:
        planned(path)


if __name__ == "__main__":
    main()
