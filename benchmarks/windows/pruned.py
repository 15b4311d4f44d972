"""A pruned MiniLM: what is cut where channels are zero, and what storage takes where weights are.

    python benchmarks/windows/pruned.py EXPORT

`EXPORT` is a model that `examples/export_minilm.py` writes. Shares of its feed-forward channels, or
of the elements of all products, are set to zero, those of the least magnitude first, and the result
is optimized by rules (`--no-measure`) with and without `--sparse-storage`. Nothing is trained
again: the table is of bytes and times. Times are those of the processor on one thread at batch 8 x
128, as in `products.py`, against the same export optimized without pruning.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from low_rank import feed
from products import compared, loading

import burnish
from burnish.optimizer.analysis.products import Product, find_products
from burnish.optimizer.model import load
from burnish.optimizer.saving import save


def channels(model: ir.Model, share: float) -> None:
    """Set feed-forward channels to zero, with what reads them."""
    products = find_products(model)[0]
    for up, down in itertools.pairwise(products):
        if up.n != 4 * up.k or down.k != up.n:
            continue
        least = np.argsort(np.linalg.norm(matrix(up), axis=0))[: int(up.n * share)]
        keep = np.ones(up.n, np.float32)
        keep[least] = 0
        scale(up, keep[None, :])
        scale(down, keep[:, None])


def elements(model: ir.Model, share: float) -> None:
    """Set single elements of all products to zero."""
    for member in find_products(model)[0]:
        size = np.abs(matrix(member))
        scale(member, (size >= np.quantile(size, share)).astype(np.float32))


def matrix(member: Product) -> np.ndarray:
    """The weight as [k, n]."""
    assert member.weight.const_value is not None
    array: np.ndarray = member.weight.const_value.numpy()
    return array.T if member.transposed else array


def scale(member: Product, factor: np.ndarray) -> None:
    """Multiply a weight [k, n]."""
    array = matrix(member) * factor
    array = array.T if member.transposed else array
    member.weight.const_value = ir.Tensor(np.ascontiguousarray(array), name=member.weight.name)


def optimized(source: Path, target: Path, **options: Any) -> dict[str, Any]:
    """The report of an optimization by rules."""
    report = burnish.optimize(str(source), output=str(target), measure=False, **options).report
    return {item["name"]: item["detail"] for item in report["passes"] if item["status"] == "kept"}


def main() -> None:
    """Prune, optimize, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("export", type=Path)
    arguments = parser.parse_args()
    print(
        "| zero | MB | with --sparse-storage | ms to load | with it | ms | times faster | done |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as name:
        whole, pruned, plain, stored = (
            Path(name) / f"{part}.onnx" for part in ("whole", "pruned", "plain", "stored")
        )
        optimized(arguments.export, whole)
        for prune, shares in ((channels, (0.1, 0.25, 0.5)), (elements, (0.5, 0.8, 0.95))):
            for share in shares:
                model = load(arguments.export).model
                prune(model, share)
                save(model, pruned, external=False)
                done = optimized(pruned, plain)
                done |= optimized(pruned, stored, sparse_storage=True)
                sizes = [f"{path.stat().st_size / 1e6:.1f}" for path in (plain, stored)]
                loads = [f"{loading(path.read_bytes()):.0f}" for path in (plain, stored)]
                ratio = compared(whole.read_bytes, stored.read_bytes, feed())
                said = [done[key] for key in ("sparse-weights", "sparse-storage") if key in done]
                cells = (*sizes, *loads, f"{ratio.ms:.1f}", f"{ratio.middle:.2f}", "; ".join(said))
                print(f"| {share:.0%} of {prune.__name__} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
