"""Compile a checkpoint that writes summaries to int8, let it write one, and judge it by ROUGE.

Usage: python run.py [CHECKPOINT]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import burnish

HERE = Path(__file__).parent

CHECKPOINT = HERE / "checkpoint"
"""A folder, or a hub id such as "sshleifer/distilbart-cnn-12-6"."""

TEXT = (
    "The library in Brunn is closed. Rain came through a window and the carpet is wet. "
    "It opens again on Thursday. Books can be brought back to the town hall."
)


def main(checkpoint: str) -> int:
    """The exit code of `optimize evaluate`."""
    with tempfile.TemporaryDirectory() as folder:
        # Forced, since by the rules so small a model gains no speed by int8; and nothing is timed.
        options = {"int8": True, "force": True, "measure": False}
        made = burnish.optimize(checkpoint, output=f"{folder}/artifact", **options)
        for name, part in made.report["parts"].items():
            sizes = [part[side]["bytes"] for side in ("input", "output")]
            print(f"{name}: {sizes[0]:,} bytes become {sizes[1]:,}")
        generator = burnish.load(made.path)
        print(*generator.generate(TEXT).texts)
        generator.close()
        command = [sys.executable, "-m", "burnish", "evaluate", made.path]
        return subprocess.run([*command, "--data", HERE / "sample.jsonl"]).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1] if len(sys.argv) > 1 else str(CHECKPOINT)))
