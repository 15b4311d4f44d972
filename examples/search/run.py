"""Compile an encoder of sentences to int8, search with it, and compare both on annotated pairs.

Usage: python run.py [CHECKPOINT] [--data FILE]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import burnish

HERE = Path(__file__).parent

CHECKPOINT = HERE / "checkpoint"
"""A folder, or a hub id such as "sentence-transformers/all-MiniLM-L6-v2"."""

NOTICES = [
    "The library is shut today.",
    "Our kitten is gone since Monday.",
    "The loaf has a high price now.",
    "The railway is late.",
    "The music can be heard far away.",
]
QUESTIONS = ["Why does the train take too long?", "Bread is expensive.", "The cat cannot be found."]


def main() -> int:
    """The exit code of `optimize evaluate`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?", default=str(CHECKPOINT))
    parser.add_argument("--data", type=Path, default=HERE / "pairs.jsonl")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        before = burnish.optimize(
            arguments.checkpoint, output=f"{folder}/artifact", level=0, measure=False
        )
        # Forced, since by the rules so small a model gains no speed by int8; and nothing is timed.
        options = {"int8": True, "force": True, "measure": False}
        after = burnish.optimize(f"{before.path}/model.onnx", **options)
        sizes = [after.report[side]["bytes"] for side in ("input", "output")]
        print(f"{sizes[0]:,} bytes become {sizes[1]:,}")
        with burnish.load(after.path, task="embeddings") as encode:
            similar = encode(QUESTIONS, normalize=True) @ encode(NOTICES, normalize=True).T
        for question, row in zip(QUESTIONS, similar, strict=True):
            print(f"{question}  ->  {NOTICES[row.argmax()]} ({row.max():.3f})")
        command = [sys.executable, "-m", "burnish", "evaluate", after.path]
        rest = ["--against", before.path, "--data", arguments.data, "--max-drop", "2"]
        return subprocess.run([*command, *rest, "--task", "embeddings"]).returncode


if __name__ == "__main__":
    raise SystemExit(main())
