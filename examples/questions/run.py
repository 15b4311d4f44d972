"""Compile a model that answers questions to int8, ask it, and compare both on annotated ones.

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
"""A folder, or a hub id such as "distilbert/distilbert-base-cased-distilled-squad"."""

CONTEXT = (
    "Dear friends, the dinner is in the old mill. Last year we had no chairs. "
    "Please come with a blanket. Call Greta Sommer if you need help."
)
QUESTIONS = ["Where do we meet?", "Who can help?", "What should we bring?"]


def main() -> int:
    """The exit code of `optimize evaluate`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?", default=str(CHECKPOINT))
    parser.add_argument("--data", type=Path, default=HERE / "sample.jsonl")
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
        with burnish.load(after.path, task="question-answering") as find:
            for question in QUESTIONS:
                answer = find(question, CONTEXT)
                print(f"{question}  ->  {answer.text} ({answer.score:.3f})")
        command = [sys.executable, "-m", "burnish", "evaluate", after.path]
        rest = ["--against", before.path, "--data", arguments.data, "--max-drop", "5"]
        return subprocess.run([*command, *rest]).returncode


if __name__ == "__main__":
    raise SystemExit(main())
