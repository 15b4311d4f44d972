"""Compile a checkpoint that writes summaries to int8, let it write one, and judge it by ROUGE.

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
"""A folder, or a hub id such as "sshleifer/distilbart-cnn-12-6"."""

TEXT = (
    "The library in Brunn is closed. Rain came through a window and the carpet is wet. "
    "It opens again on Thursday. Books can be brought back to the town hall."
)


def main() -> int:
    """The exit code of `optimize evaluate`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?", default=str(CHECKPOINT))
    parser.add_argument("--data", type=Path, default=HERE / "sample.jsonl")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # Forced, since by the rules so small a model gains no speed by int8; and nothing is timed.
        options = {"int8": True, "force": True, "measure": False}
        made = burnish.optimize(arguments.checkpoint, output=f"{folder}/artifact", **options)
        for name, part in made.report["parts"].items():
            sizes = [part[side]["bytes"] for side in ("input", "output")]
            print(f"{name}: {sizes[0]:,} bytes become {sizes[1]:,}")
        generator = burnish.load(made.path)
        print(*generator.generate(TEXT).texts)
        generator.close()
        command = [sys.executable, "-m", "burnish", "evaluate", made.path]
        return subprocess.run([*command, "--data", arguments.data]).returncode


if __name__ == "__main__":
    raise SystemExit(main())
