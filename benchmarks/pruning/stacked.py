"""MiniLM pruned, in int8 and packed, one on top of the other, against the export in stock sessions.

    python benchmarks/pruning/stacked.py FOLDER --calibration FILE --sentences FILE
        [--rows="--int8,--prune 0.35 --int8"]

makes of the export what `optimize` makes of it with the options of each row and the sentences of
`--calibration` (one a line, no labels), and compares the embeddings of those of `--sentences`, none
of which may be among them, with those of the export. Each result is timed against the export in
separate processes, by alternating blocks: at batch 8 x 128, and on the sentences themselves in
batches of 16 as they come, padded to the longest (all batches together). A row may name a file of
FOLDER that comes first, and is the model that its options are for: a student that was distilled.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from minilm import HERE, arguments_of, exported, kept

sys.path[:0] = [str(HERE.parent / "precision"), str(HERE.parents[1] / "examples")]

from export_minilm import weights_folder  # noqa: E402
from sentences import batches, embeddings, speed, whole  # noqa: E402

from burnish.runtimes.arrays import write_arrays  # noqa: E402

ROWS = (
    "--int8", "--int8 --pack", "--prune 0.35 --int8", "--prune 0.35 --int8 --pack",
    "--prune auto --speedup 2.5 --int8",
)  # fmt: skip
ALLOWED = "0.5"
"""Of the budget: more than any row loses."""


def made(source: Path, row: str, calibration: Path) -> Path:
    """What `optimize` makes of the export, or of the file that a row begins with."""
    options = row.split()
    if not options[0].startswith("-"):
        source = source.with_name(options.pop(0))
    target = source.with_name(f"{source.stem}{''.join(options)}.onnx")
    command = [sys.executable, "-m", "burnish", str(source), *options, "-q", "-o", str(target)]
    command += ["--data", str(calibration), "--max-drop", ALLOWED]
    command += ["--tokenizer", str(weights_folder() / "tokenizer.json")]
    if subprocess.run(command).returncode not in (0, 1):  # 1: a speed-up is missed
        raise SystemExit(f"error: {' '.join(command)}")
    return target


def main() -> None:
    """Export, compile, compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=",".join(ROWS))
    arguments, _, held = arguments_of(parser)
    source = exported(arguments.folder)
    feeds = batches(held)
    exact = embeddings(source, "cpu", feeds)
    print(
        "| options | MB | ms, 8 x 128 | times faster | ms, all sentences | times faster | cosine "
        "| neighbour kept | Spearman |\n|---|---|---|---|---|---|---|---|---|"
    )
    ids = np.random.default_rng(0).integers(1000, 30000, (8, 128))
    full = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids * 0}
    with tempfile.TemporaryDirectory() as folder:
        write_arrays(Path(folder) / "full", full)
        parts = [Path(folder) / str(index) for index in range(len(feeds))]
        for part, feed in zip(parts, feeds, strict=True):
            write_arrays(part, feed)
        for row in arguments.rows.split(","):
            target = made(source, row, arguments.calibration)
            told = f"{target.stat().st_size / 1e6:.1f} | "
            told += speed(source, target, "cpu", Path(folder) / "full")
            told += f" | {whole(source, target, 'cpu', parts)}"
            same = kept(exact, embeddings(target, "cpu", feeds))
            print(f"| {row} | {told} | {same} |", flush=True)


if __name__ == "__main__":
    main()
