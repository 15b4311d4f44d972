"""Low rank on MiniLM with real text: what is lost, and what is gained, by the error of a layer.

    python benchmarks/windows/low_rank.py EXPORT --calibration FILE --sentences FILE

`EXPORT` is a model that `examples/export_minilm.py` writes. It is optimized in float32; then the
pass `low-rank` takes every product that it can at each error, without a budget on the whole:
factors are found on the sentences of `--calibration` (a sentence a line), or of the weights alone.
The embeddings of the first 256 of `--sentences`, none of which may be among those, are compared.
Times are those of the processor on one thread at batch 8 x 128, as in `products.py`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from products import compared

import burnish
from burnish.optimizer.analysis.products import find_products
from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import Choice, Context
from burnish.optimizer.executor import Executor
from burnish.optimizer.model import load
from burnish.optimizer.sandbox import Limits, default_memory
from burnish.optimizer.saving import save
from burnish.passes.compress.low_rank.low_rank import LowRank
from burnish.runtimes.arrays import read_arrays, write_arrays
from burnish.runtimes.work import execute

sys.path.insert(0, str(Path(__file__).parents[1] / "precision"))

from sentences import batches, embeddings, fidelity

ERRORS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
SHAPE = (8, 128)


def ruled(key: str, forms: Any, rule: str) -> Choice:
    """Two products wherever they multiply less."""
    return Choice(list(forms)[-1], 1.0, False)


def executor(folder: Path) -> Executor:
    """Runs models in this process."""
    return Executor(
        folder,
        lambda argument: execute(argument | {"threads": 0}, lambda event: None),
        read_arrays,
        write_arrays,
    )


def main() -> None:
    """Optimize, factor, compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("export", type=Path)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--sentences", type=Path, required=True)
    arguments = parser.parse_args()
    texts = arguments.calibration.read_text("utf-8").splitlines()
    held = arguments.sentences.read_text("utf-8").splitlines()[:256]
    if {*texts} & {*held}:
        raise SystemExit("error: sentences of the calibration are among those compared")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = folder / "whole.onnx"
        burnish.optimize(str(arguments.export), output=str(whole), measure=False, check=False)
        table(whole, folder, batches(texts), batches(held))


def table(whole: Path, folder: Path, texts: list[Any], held: list[Any]) -> None:
    """Print the rows."""
    model, runner = load(whole).model, executor(folder)
    exact = embeddings(whole, "cpu", held)
    products = find_products(model)[0]
    work = sum(item.k * item.n for item in products)
    print(
        "| directions by | error | products in two | multiplications left | ms | times faster "
        "| cosine | least | neighbour kept |\n|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for real in (True, False):
        observe = Calibration(runner, runner.store(texts), ["attention_mask"], real=real)
        sizes = dict(zip(("batch", "sequence"), SHAPE, strict=True))
        limits = Limits(default_memory(), 3600.0)
        context = Context("cpu", limits, sizes, ruled, observe=observe)
        for error in ERRORS:
            smaller = model.clone()
            outcome = LowRank(error=error).apply(smaller, context)
            left = sum(item.k * item.n for item in find_products(smaller)[0])
            target = folder / "smaller.onnx"
            save(smaller, target, external=False)
            kept = fidelity(exact, embeddings(target, "cpu", held))
            ratio = compared(whole.read_bytes, target.read_bytes, feed())
            cells = (
                "sentences" if real else "weights", error, f"{outcome.rewrites} of {len(products)}",
                f"{left / work:.1%}", f"{ratio.ms:.1f}", f"{ratio.middle:.2f}", kept,
            )  # fmt: skip
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


def feed() -> dict[str, np.ndarray]:
    """A full batch."""
    ids = np.random.default_rng(0).integers(1000, 30000, SHAPE)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids * 0}


if __name__ == "__main__":
    main()
