"""Compile a classifier to int8, ask it, and compare both on annotated sentences.

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
"""A folder, or a hub id such as "cardiffnlp/twitter-xlm-roberta-base-sentiment-multilingual"."""

TEXTS = [
    "The coffee was excellent.",
    "The lamp broke and the host was rude.",
    "Die Torte war lecker.",
    "Le lit est sale et l'hôtel bruyant.",
]


def main() -> int:
    """The exit code of `optimize evaluate`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?", default=str(CHECKPOINT))
    parser.add_argument("--data", type=Path, default=HERE / "sentences.jsonl")
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
        with burnish.load(after.path, task="text-classification") as classify:
            for text, answer in zip(TEXTS, classify(TEXTS), strict=True):
                print(f"{answer.label} ({answer.score:.3f})  {text}")
        command = [sys.executable, "-m", "burnish", "evaluate", after.path]
        rest = ["--against", before.path, "--data", arguments.data, "--max-drop", "5"]
        return subprocess.run([*command, *rest]).returncode


if __name__ == "__main__":
    raise SystemExit(main())
