"""Fixed windows: Swin and Swin v2, tiny, as each exporter writes them, in float32 and int8.

    python benchmarks/windows/swin.py FOLDER [--models swin,swinv2] [--exporters ...] [--batch 8]
                                             [--precisions fp32,int8]

exports each model where `FOLDER` lacks it (published sizes, random weights; biases and tables of
relative positions, which Transformers starts at zero, are random too, so that nothing can be left
out that a trained model needs), runs `optimize` and times input and artifact in stock sessions
(`optimize bench`: paired, alternating, separate processes). The input in stock ONNX Runtime is the
baseline of both precisions. Outputs are compared on images of normal noise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import transformers as hf

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import exporting
from matrix import isolation
from matrix.exporters import EXPORTERS

OPTIMIZE = str(Path(sys.executable).with_name("optimize"))
HANGING = 900.0
"""Seconds after which an export is given up."""

MODELS = {
    "swin": ("SwinForImageClassification", "SwinConfig", {}, 224),
    "swinv2": (
        "Swinv2ForImageClassification", "Swinv2Config", {"image_size": 256, "window_size": 8}, 256
    ),
}  # fmt: skip
"""Class, configuration, what differs from the defaults of that, and the side of an image."""


def export(name: str, kind: str, attention: str, opset: int, path: Path) -> dict[str, Any]:
    """Write a model; raises whatever the exporter raises."""
    torch.manual_seed(0)
    model, config, settings, side = MODELS[name]
    if name == "swinv2":  # it has attention of its own only
        attention = "eager"
    module = getattr(hf, model)(getattr(hf, config)(**settings, attn_implementation=attention))
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.05)
    images = torch.randn(2, 3, side, side), {0: "batch"}
    exporting.export(module, {"pixel_values": images}, path, kind, opset)
    return {}


def run(*arguments: str) -> dict[str, Any]:
    """What `optimize` reports."""
    done = subprocess.run(
        [OPTIMIZE, *arguments, "--json", "-", "-q"], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return dict(json.loads(done.stdout))


def row(path: Path, precision: str, shape: list[str], *, keep: bool) -> str:
    """The cells of one compilation."""
    target = path.with_name(f"{path.stem}.{precision}.onnx")
    flags = [f"--{precision}"] if precision != "fp32" else []
    try:
        report = run(str(path), "-o", str(target), *flags, *shape)
        timing = run("bench", str(path), str(target), *shape)["latency"][0]
    finally:
        if not keep:
            target.unlink(missing_ok=True)
    (output,) = report["fidelity"]["outputs"].values()
    low, high = timing["ci95"]
    moves = next(step for step in report["passes"] if step["name"] == "compose-moves")
    return (
        f"{precision} | {report['input']['nodes']} | {report['output']['nodes']} "
        f"| {moves['rewrites']} | {output['rel_l2']:.1e} | {timing['baseline_ms']:.1f} "
        f"| {timing['optimized_ms']:.1f} | {timing['speedup']:.2f} ({low:.2f} to {high:.2f}) |"
    )


def main() -> None:
    """Export, compile, print."""
    names = [str(exporter) for exporter in EXPORTERS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--exporters", default=",".join(names))
    parser.add_argument("--precisions", default="fp32,int8")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--keep", action="store_true", help="keep the artifacts")
    parser.add_argument("--export", action="store_true", help="only export")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| model | export | precision | nodes before | after | moves | rel. L2 "
          "| ms before | after | times faster |\n|" + "---|" * 10)  # fmt: skip
    for name in options.models.split(","):
        for exporter in EXPORTERS:
            if str(exporter) not in options.exporters.split(","):
                continue
            path = options.folder / f"{name}-{exporter}.onnx"
            if not path.exists():
                arguments = (name, exporter.kind, exporter.attention, exporter.opset, path)
                facts = isolation.call(export, *arguments, seconds=HANGING)
                if facts["status"] != "ok":
                    path.unlink(missing_ok=True)
                    print(f"| {name} | {exporter} | none: {facts['error'][:120]} |", flush=True)
                    continue
            for precision in () if options.export else options.precisions.split(","):
                cells = row(
                    path, precision, ["--shape", f"batch={options.batch}"], keep=options.keep
                )
                print(f"| {name} | {exporter} | {cells}", flush=True)


if __name__ == "__main__":
    main()
