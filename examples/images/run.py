"""Compile a classifier of images to int8, ask it, and compare both on annotated images.

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
"""A folder, or a hub id such as "microsoft/swin-tiny-patch4-window7-224"."""


def main() -> int:
    """The exit code of `optimize evaluate`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?", default=str(CHECKPOINT))
    parser.add_argument("--data", type=Path, default=HERE / "sample/test.jsonl")
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
        images = sorted(str(path) for path in HERE.glob("sample/test/*/*.png"))[::5]
        with burnish.load(after.path, task="image-classification") as tell:
            for path, answer in zip(images, tell(images), strict=True):
                print(f"{Path(path).relative_to(HERE)}  ->  {answer.label} ({answer.score:.3f})")
        command = [sys.executable, "-m", "burnish", "evaluate", after.path]
        rest = ["--against", before.path, "--data", arguments.data, "--max-drop", "7"]
        return subprocess.run([*command, *rest]).returncode


if __name__ == "__main__":
    raise SystemExit(main())
