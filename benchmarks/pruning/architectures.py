"""Architectures with random weights, exported, and pruned by `optimize`: what goes, what is left.

    python benchmarks/pruning/architectures.py FOLDER [--only llama,vit] [--share 0.3] [--time]

exports each where `FOLDER` lacks it, by TorchScript and by torch dynamo, prunes it with arrays that
are made up, and checks the artifact: legal, with the ports of the input, and numbers out of stock
ONNX Runtime. What comes of each is a line of FOLDER/architectures.jsonl, and is not done again; the
table of all lines is printed. With `--time` the model that `optimize` makes of the export and the
pruned one are timed against each other in stock sessions (`optimize bench`), which adds a column.
The last two architectures are of full size; times of the others say little.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1] / "tests"), str(HERE.parent)]

import exports  # noqa: E402
import torch  # noqa: E402
from exporting import Inputs  # noqa: E402
from matrix import architectures, inputs, isolation  # noqa: E402
from matrix.architectures import Architecture, plain  # noqa: E402
from matrix.exporters import HANGING, Cell, Exporter, export  # noqa: E402

FEEDS = 24
"""Arrays that are made up; all but a few say what may go."""

LONGEST_EXPORT = 4 * HANGING
"""Seconds after which an export is given up: models of full size take longer."""

SMALL = (
    "llama", "llama-cached", "mistral", "qwen2", "gpt2", "gpt2-cached", "gpt-neox",
    "gpt-neox-cached", "falcon", "bert", "roberta", "albert", "distilbert", "deberta-v3",
    "t5-encoder", "t5-decoder", "bart", "whisper-encoder", "vit", "swin", "clip", "modernbert",
    "mixtral",
)  # fmt: skip
EAGER = ("deberta-v3",)
"""Architectures without another implementation of attention."""


def picture(batch: inputs.Batch) -> Inputs:
    """Images of 224 x 224."""
    generator = torch.Generator().manual_seed(batch.seed)
    pixels = torch.randn(batch.rows, 3, 224, 224, generator=generator)
    return {"pixel_values": (pixels, {0: "batch"})}


def full(name: str, called: str, make: inputs.Maker) -> Architecture:
    """One of `exports.MODELS`, at its published size."""
    model, config, settings = exports.MODELS[name]
    return Architecture(called, plain(model, config, **settings), make)


FALCON = {**architectures.TEXT, **architectures.SPECIAL, "num_kv_heads": 2}
ALL = {
    **{name: architectures.BY_NAME[name] for name in SMALL},
    "falcon-new": Architecture(
        "falcon-new",
        plain("FalconForCausalLM", "FalconConfig", **FALCON, new_decoder_architecture=True),
    ),
    "llama-135m": full("llama", "llama-135m", inputs.text),
    "vit-base": full("vit", "vit-base", picture),
}


def exporters(name: str) -> tuple[Exporter, ...]:
    """The ways in which an architecture is exported."""
    attention = "eager" if name in EAGER else "sdpa"
    return Exporter("torchscript", attention, 17), Exporter("dynamo", attention, 20)


def made_up(architecture: Architecture, model: Path, folder: Path) -> list[Path]:
    """Arrays for a model, one file a feed."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = [port.name for port in onnx.load(model, load_external_data=False).graph.input]
    for index in range(FEEDS):
        batch = inputs.Batch(4, 16, "right" if index % 2 else "none", 100 + index)
        arrays = {name: value.numpy() for name, (value, _) in architecture.inputs(batch).items()}
        kept = {name: array for name, array in arrays.items() if name in ports}
        np.savez(folder / f"{index:02}.npz", **kept)
    return sorted(folder.glob("*.npz"))


def run(*arguments: str, codes: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """What `optimize` reports."""
    command = [exports.OPTIMIZE, *arguments, "--json", "-", "-q"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in codes:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return dict(json.loads(done.stdout))


def problem(source: Path, target: Path, feed: Path) -> str:
    """What is wrong with a pruned model; empty where nothing is."""
    before, after = (onnx.load(path) for path in (source, target))
    onnx.checker.check_model(str(target))
    for name in ("input", "output"):
        ports = [
            [(port.name, port.type.tensor_type.elem_type) for port in getattr(model.graph, name)]
            for model in (before, after)
        ]
        if ports[0] != ports[1]:
            return f"other {name}s"
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    answers = session.run(None, dict(np.load(feed)))
    return "" if all(np.isfinite(array).all() for array in answers) else "no numbers come out"


def pruned(cell: Cell, folder: Path, share: float, *, timed: bool) -> dict[str, Any]:
    """Facts of one cell."""
    source, target = folder / f"{cell}.onnx", folder / f"{cell}.pruned.onnx"
    feeds = made_up(cell.architecture, source, folder / "feeds" / str(cell))
    options = ["--prune", str(share), "--data", str(feeds[0].parent), "--max-drop", "0.99"]
    options += [] if timed else ["--no-measure"]
    # What is not reached (exit code 1) is what the table is to show.
    report = run(str(source), "-o", str(target), *options, codes=(0, 1))
    told = report.get("pruning") or {"sites": [], "removed": 0.0, "left_alone": []}
    facts = {
        "sites": [[row["kind"], row["before"], row["after"]] for row in told["sites"]],
        "removed": told["removed"],
        "left": sorted({row["reason"] for row in told["left_alone"]}),
        "drop": report["fidelity"]["drop"],
        "wrong": problem(source, target, feeds[1]),
    }
    if timed:
        plain_ = folder / f"{cell}.plain.onnx"
        run(str(source), "-o", str(plain_))
        facts["timing"] = run("bench", str(plain_), str(target))["latency"][0]
    return facts


def done(cell: Cell, folder: Path, share: float, *, timed: bool) -> dict[str, Any]:
    """What came of a cell."""
    path = folder / f"{cell}.onnx"
    if not path.exists():
        made = isolation.call(export, cell, path, seconds=LONGEST_EXPORT)
        if made["status"] != "ok":
            return {"failed": f"no export: {made['error']}"}
    try:
        return pruned(cell, folder, share, timed=timed)
    except RuntimeError as error:
        return {"failed": str(error).partition("error: ")[2] or str(error)}


def units(sites: list[list[Any]], kind: str) -> str:
    """Units of one kind, layer by layer."""
    found = [(before, after) for name, before, after in sites if name == kind]
    if not found:
        return ""
    of = {before for before, _ in found}
    after = ", ".join(str(number) for _, number in found)
    return f"{after} of {', '.join(map(str, sorted(of)))}"


def row(cell: str, facts: dict[str, Any]) -> str:
    """One row of the table."""
    name, kind, attention, opset = cell.rsplit("-", 3)
    head = f"| {name} | {kind} {opset}, {attention} |"
    if "failed" in facts:
        return f"{head} | | | | {facts['failed'][:120]} | |"
    timing = facts.get("timing")
    speed = "{:.2f} ({:.2f} to {:.2f})".format(timing["speedup"], *timing["ci95"]) if timing else ""
    left = "; ".join([*facts["left"], *filter(None, [facts["wrong"]])])
    heads, channels = (units(facts["sites"], name) for name in ("heads", "channels"))
    return (
        f"{head} {heads} | {channels} | {facts['removed']:.2f} | {facts['drop']:.3f} | {left} "
        f"| {speed} |"
    )


HEADER = """\
| model | export | heads left | channels left | operations cut | loss | left alone | times faster |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Do what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default=",".join(ALL))
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--time", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    record = options.folder / "architectures.jsonl"
    known: dict[str, dict[str, Any]] = {}
    if record.exists():
        known = dict(json.loads(text) for text in record.read_text().splitlines())
    for name in options.only.split(","):
        for exporter in exporters(name):
            cell = Cell(ALL[name], exporter)
            before = known.get(str(cell))
            if before is not None and (
                "timing" in before or "failed" in before or not options.time
            ):
                continue
            facts = done(cell, options.folder, options.share, timed=options.time)
            known[str(cell)] = facts
            with record.open("a") as stream:
                stream.write(json.dumps([str(cell), facts]) + "\n")
            print(row(str(cell), facts), flush=True)
    print("\n".join([HEADER, *(row(cell, facts) for cell, facts in known.items())]))


if __name__ == "__main__":
    main()
