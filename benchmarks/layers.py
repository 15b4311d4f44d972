"""Compile time over depth: BERT-like encoders of 6 to 96 layers, without measuring.

    python benchmarks/layers.py FOLDER [--layers 6,12,24,48,96] [--exporters torchscript,dynamo]

builds the encoders where `FOLDER` lacks them (random weights, hidden size 128, so that graphs and
not weights take the time), and runs `optimize --no-measure` with and without `--no-check`, and
`optimize inspect`. CPU seconds are those of the whole tree of processes, which other work on the
machine disturbs less than the clock. Where the compiler is linear, the column of CPU milliseconds a
layer falls with the layers, since what any run costs is shared among more of them; so the slope is
shown as well: the milliseconds that each layer more than in the row before costs.
"""

from __future__ import annotations

import argparse
import resource
import warnings
from pathlib import Path

import onnx
import torch
import transformers as hf
from decoder import watched
from exports import OPTIMIZE

HIDDEN = 128
OPSETS = {"torchscript": 17, "dynamo": 20}

COMMANDS = {
    "optimize --no-check": ["-o", "TARGET", "--no-measure", "--no-check", "-q"],
    "optimize": ["-o", "TARGET", "--no-measure", "-q"],
    "inspect": ["-q"],
}


class First(torch.nn.Module):
    """The last hidden state of an encoder."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = hf.BertModel(
            hf.BertConfig(
                vocab_size=1000, hidden_size=HIDDEN, num_hidden_layers=layers,
                num_attention_heads=4, intermediate_size=4 * HIDDEN, attn_implementation="sdpa",
            ),
            add_pooling_layer=False,
        )  # fmt: skip

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Hidden states [batch, sequence, hidden] of ids and mask [batch, sequence]."""
        result: torch.Tensor = self.model(input_ids=ids, attention_mask=mask)[0]
        return result


def export(layers: int, exporter: str, path: Path) -> None:
    """Write an encoder."""
    ids = torch.randint(3, 900, (2, 12))
    names, rows = ["input_ids", "attention_mask"], {0: "batch", 1: "sequence"}
    dims = {axis: torch.export.Dim(name, max=512) for axis, name in rows.items()}
    dynamo = exporter == "dynamo"
    extra = (
        {"dynamic_shapes": (dims, dims), "external_data": False, "verbose": False}
        if dynamo
        else {"dynamic_axes": dict.fromkeys([*names, "hidden"], rows)}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            First(layers).eval(), (ids, torch.ones_like(ids)), path, dynamo=dynamo,
            opset_version=OPSETS[exporter], input_names=names, output_names=["hidden"], **extra,
        )  # fmt: skip


def row(path: Path, command: str, layers: int, before: tuple[int, float] | None) -> float:
    """Print a row; returns CPU milliseconds in all."""
    target = path.with_suffix(".out.onnx")
    words = [str(target) if word == "TARGET" else word for word in COMMANDS[command]]
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    head = [OPTIMIZE, "inspect"] if command == "inspect" else [OPTIMIZE]
    seconds, peak, code = watched([*head, str(path), *words])
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = 1e3 * (end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime)
    nodes = len(onnx.load(path, load_external_data=False).graph.node)
    slope = f"{(used - before[1]) / (layers - before[0]):.0f}" if before else ""
    print(
        f"| {path.stem} | {command} | {layers} | {nodes} | {seconds:.1f} | {used / 1e3:.1f} "
        f"| {used / layers:.0f} | {slope} | {peak:.2f} | {code} |",
        flush=True,
    )
    target.unlink(missing_ok=True)
    return used


def main() -> None:
    """Build, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", default="6,12,24,48,96")
    parser.add_argument("--exporters", default=",".join(OPSETS))
    parser.add_argument("--commands", default=",".join(COMMANDS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    depths = [int(item) for item in options.layers.split(",")]
    print(
        "| model | command | layers | nodes | seconds | CPU seconds | CPU ms a layer "
        "| CPU ms a layer more | peak GB | exit code |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for exporter in options.exporters.split(","):
        for command in options.commands.split(","):
            before = None
            for layers in depths:
                path = options.folder / f"bert-{exporter}-{layers}.onnx"
                if not path.exists():
                    export(layers, exporter, path)
                before = (layers, row(path, command, layers, before))


if __name__ == "__main__":
    main()
