"""Stages together against the whole.

    python benchmarks/stages.py FOLDER [--stages 2,3,4,8] [--models vit,swin]

`FOLDER` holds exports of `tests/matrix`; those that it lacks are made. Each is cut for as many
equal devices as asked. A cell has the number of stages; the error of `optimize plan`'s own check
(no optimizations, the feeds of any check); and that of stock sessions with default options, stage
by stage after the manifest, against the whole in such a session, on feeds of other sizes. Errors
are relative L2, the largest of all outputs and feeds.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
import onnxruntime
from matrix.exporters import cells, export_all, parse
from matrix.inputs import TRIALS, Batch

from burnish import driver
from burnish.driver import Request
from burnish.optimizer.errors import BurnishError

MODELS = (
    "bert", "gpt2-cached", "llama", "llama-cached", "t5-encoder", "t5-decoder", "vit", "swin",
)  # fmt: skip
EXPORTERS = ("torchscript-sdpa-17", "dynamo-sdpa-20", "dynamo-eager-23")


def exports(folder: Path) -> list[Path]:
    """Of each model the exports that its exporters make."""
    names = {f"{model}-{exporter}" for model in MODELS for exporter in EXPORTERS}
    wanted = [cell for cell in cells() if str(cell) in names]
    export_all(folder, wanted)
    return [path for cell in wanted if (path := folder / f"{cell}.onnx").exists()]


def cut(path: Path, count: int) -> str:
    """How many stages there are for so many devices, and their two errors together."""
    with tempfile.TemporaryDirectory() as scratch:
        file, folder = Path(scratch, "cluster.yaml"), Path(scratch, "stages")
        file.write_text(f"devices: [{{count: {count}, flops: 1G, bandwidth: 1G}}]\n")
        try:
            facts = driver.plan_stages(Request(str(path)), str(file), str(folder))
        except BurnishError as error:
            return str(error)
        found = [stock_error(path, folder, trial) for trial in TRIALS[:4]]
    stock = max((error for error in found if error is not None), default=math.nan)
    return f"{len(facts['stages'])}: {facts['error']:.1e}, {stock:.1e}"


def stock_error(path: Path, folder: Path, trial: Batch) -> float | None:
    """The error of stages in sessions with default options; None where the whole does not run."""
    made = parse(path.stem).architecture.inputs(trial)
    whole = onnxruntime.InferenceSession(path)
    names = [port.name for port in whole.get_inputs()]
    arrays = [value.numpy() for value, _ in made.values()]
    values = dict(zip(names, arrays, strict=True))
    outputs = [port.name for port in whole.get_outputs()]
    try:
        expected = whole.run(outputs, values)
    except Exception:  # the export itself does not run at other sizes
        return None
    for row in json.loads((folder / "manifest.json").read_text())["stages"]:
        session = onnxruntime.InferenceSession(folder / row["file"])
        found = session.run(row["outputs"], {name: values[name] for name in row["inputs"]})
        values |= dict(zip(row["outputs"], found, strict=True))
    return max(
        float(np.linalg.norm(values[name] - item) / max(np.linalg.norm(item), 1e-30))
        for name, item in zip(outputs, expected, strict=True)
    )


def main() -> None:
    """Export, cut, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stages", default="2,3,4,8")
    parser.add_argument("--models", default=",".join(MODELS))
    options = parser.parse_args()
    counts = [int(item) for item in options.stages.split(",")]
    print(f"| model | {' | '.join(f'{item} devices' for item in counts)} |")
    print("|---" * (len(counts) + 1) + "|")
    models = options.models.split(",")
    for path in (item for item in exports(options.folder) if item.stem.rsplit("-", 3)[0] in models):
        print(f"| {path.stem} | {' | '.join(cut(path, item) for item in counts)} |", flush=True)


if __name__ == "__main__":
    main()
