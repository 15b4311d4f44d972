"""Fixed windows: Swin and Swin v2, tiny, as each exporter writes them, in float32 and int8.

    python benchmarks/windows/swin.py FOLDER [--models swin,swinv2] [--exporters ...] [--batch 8]
                                             [--precisions fp32,int8]

exports each model where `FOLDER` lacks it (published sizes, random weights; biases and tables of
relative positions, which Transformers starts at zero, are random too, so that nothing can be left
out that a trained model needs), runs `optimize` and times input and artifact in stock sessions
(`optimize bench`: paired, alternating, separate processes). The input in stock ONNX Runtime is the
baseline of both precisions. Outputs are compared on images of normal noise. On a machine that does
other work as well, the seconds that a processor spends say more than those that pass: the last
columns are processor time on one thread, in turns in one process, the least of `ROUNDS` runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers as hf

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))

import exporting
from exports import run
from matrix import isolation
from matrix.exporters import EXPORTERS

HANGING = 900.0
"""Seconds after which an export is given up."""

ROUNDS = 12

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


def processor_seconds(paths: list[Path], batch: int, side: int) -> list[float]:
    """Least processor time of a run of each model, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for path in paths
    ]
    images = np.random.default_rng(0).standard_normal((batch, 3, side, side), np.float32)
    least = [float("inf")] * len(paths)
    for _ in range(ROUNDS):
        for index, session in enumerate(sessions):
            start = time.process_time()
            session.run(None, {"pixel_values": images})
            least[index] = min(least[index], time.process_time() - start)
    return least


def row(path: Path, precision: str, batch: int, side: int, *, keep: bool) -> str:
    """The cells of one compilation."""
    target, shape = path.with_name(f"{path.stem}.{precision}.onnx"), ["--shape", f"batch={batch}"]
    flags = [f"--{precision}"] if precision != "fp32" else []
    try:
        report = run(str(path), "-o", str(target), *flags, *shape)
        timing = run("bench", str(path), str(target), *shape)["latency"][0]
        before, after = processor_seconds([path, target], batch, side)
    finally:
        if not keep:
            target.unlink(missing_ok=True)
    (output,) = report["fidelity"]["outputs"].values()
    low, high = timing["ci95"]
    moves = next(step for step in report["passes"] if step["name"] == "compose-moves")
    return (
        f"{precision} | {report['input']['nodes']} | {report['output']['nodes']} "
        f"| {moves['rewrites']} | {output['rel_l2']:.1e} | {timing['baseline_ms']:.1f} "
        f"| {timing['optimized_ms']:.1f} | {timing['speedup']:.2f} ({low:.2f} to {high:.2f}) "
        f"| {1e3 * before:.1f} | {1e3 * after:.1f} | {before / after:.2f} |"
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
          "| ms before | after | times faster | processor ms before | after | times less |\n|"
          + "---|" * 13)  # fmt: skip
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
