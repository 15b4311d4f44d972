"""Compile a causal model to int8, and see whether it answers as annotated conversations go on.

Usage: python run.py [CHECKPOINT] [--data FILE] [--output ARTIFACT]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import burnish

from conversations import Message, read, written

HERE = Path(__file__).parent

CHECKPOINT = HERE / "checkpoint"
"""A folder, or a hub id such as "HuggingFaceTB/SmolLM2-135M-Instruct"."""


def answered(artifact: Path, conversations: list[list[Message]]) -> int:
    """How many conversations end with the very words that the model says there."""
    with closing(burnish.load(artifact)) as model:
        told = (model.chat(messages[:-1]).texts[0] for messages in conversations)
        pairs = zip(told, conversations, strict=True)
        return sum(text.strip() == messages[-1]["content"] for text, messages in pairs)


def main() -> int:
    """The exit code of `optimize evaluate`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?", default=str(CHECKPOINT))
    parser.add_argument("--data", type=Path, default=HERE / "sample.jsonl")
    parser.add_argument("--output", default=str(HERE / "artifact"))
    arguments = parser.parse_args()
    conversations = read(arguments.data)
    # Forced, since by the rules so small a model gains no speed by int8; and nothing is timed.
    options = {"int8": True, "force": True, "measure": False}
    made = burnish.optimize(arguments.checkpoint, output=arguments.output, **options)
    sizes = [made.report["parts"]["model"][side]["bytes"] for side in ("input", "output")]
    print(f"{sizes[0]:,} bytes become {sizes[1]:,}")
    right = answered(made.path, conversations)
    print(f"{right} of {len(conversations)} answers are the annotated ones")
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts.jsonl"
        lines = [json.dumps({"text": written(messages)}) + "\n" for messages in conversations]
        texts.write_text("".join(lines), "utf-8")
        command = [sys.executable, "-m", "burnish", "evaluate", made.path, "--data", texts]
        return subprocess.run(command).returncode


if __name__ == "__main__":
    raise SystemExit(main())
