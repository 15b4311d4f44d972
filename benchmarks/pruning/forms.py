"""Widths, sizes of heads and ranks of MiniLM's sites: what the answer loses with each of them.

    python benchmarks/pruning/forms.py FOLDER --calibration FILE [--shares 0.9,0.8,0.7,0.667,0.5]

prints the least squared relative error of the answer, measured as pruning does it, for each share
of the operations that may be left: with widths alone, with ranks and sizes alone, and with all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from minilm import exported, known_from, recovered

from burnish.optimizer.analysis import shapes
from burnish.passes.compress.pruning.allocation import allocate
from burnish.passes.compress.pruning.costs import operations
from burnish.passes.compress.pruning.levels import Form
from burnish.passes.compress.pruning.prune import surveyed, usable

MIXES: dict[str, Callable[[Form, int], bool]] = {
    "widths": lambda form, units: form.sizes is None and not form.rank,
    "sizes and ranks": lambda form, units: form.width == units,
    "all": lambda form, units: True,
}


def main() -> None:
    """Survey, allocate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--shares", default="0.9,0.8,0.7,0.667,0.5")
    arguments = parser.parse_args()
    model = recovered(exported(arguments.folder))
    shapes.annotate(model)
    texts = arguments.calibration.read_text("utf-8").splitlines()
    with known_from(model, texts, arguments.folder) as context:
        assert context.activations is not None
        curves = surveyed(model, context, context.activations)
    print("| operations left | mix | loss |\n|---|---|---|")
    for share in map(float, arguments.shares.split(",")):
        for name, fits in MIXES.items():
            losses, costs = {}, {}
            for site in usable(model)[0]:
                levels = zip(curves[site.key].levels, curves[site.key].losses, strict=True)
                taken = [(item.form, loss) for item, loss in levels if fits(item.form, site.units)]
                losses[site.key] = [loss for _, loss in taken]
                costs[site.key] = [operations(site, form, context) for form, _ in taken]
            picks = allocate(losses, costs, share * sum(items[0] for items in costs.values()))
            total = sum(losses[key][index] for key, index in picks.items())
            print(f"| {share:g} | {name} | {total:.4f} |", flush=True)


if __name__ == "__main__":
    main()
