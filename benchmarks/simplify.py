"""Simplification alone: time, memory and node count beside onnxsim's and onnxslim's.

    python benchmarks/simplify.py FOLDER

builds MiniLM, BERT-base, ViT-base and the 1.1-billion-parameter decoder where `FOLDER` lacks them
(random weights from Transformers configurations, but for MiniLM), and runs each tool in a process
of its own with its documented command. Burnish runs its verification but measures no times.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import onnx
from decoder import watched

EXAMPLES = Path(__file__).parent.parent / "examples"

PEERS = {
    "onnxsim": (
        "import sys, onnx, onnxsim\n"
        "model, ok = onnxsim.simplify(sys.argv[1])\n"
        "big = model.ByteSize() > 1.9e9\n"
        "onnx.save(model, sys.argv[2], save_as_external_data=big)\n"
    ),
    "onnxslim": (
        "import sys, onnxslim\n"
        "model = onnxslim.slim(sys.argv[1])\n"
        "big = model.ByteSize() > 1.9e9\n"
        "import onnx\n"
        "onnx.save(model, sys.argv[2], save_as_external_data=big)\n"
    ),
}

BUILD = """
import sys, torch
from transformers import BertConfig, BertModel, ViTConfig, ViTModel
name, path = sys.argv[1:]
torch.manual_seed(0)
if name == "bert-base":
    model = BertModel(BertConfig(), add_pooling_layer=False).eval()
    inputs, names = (torch.ones(2, 16, dtype=torch.long),), ["input_ids"]
    shapes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=512)},)
else:
    model = ViTModel(ViTConfig(), add_pooling_layer=False).eval()
    inputs, names = (torch.zeros(2, 3, 224, 224),), ["pixel_values"]
    shapes = ({0: torch.export.Dim("batch")},)

class First(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = model
    def forward(self, x):
        return self.model(x).last_hidden_state

torch.onnx.export(First(), inputs, path, dynamo=True, opset_version=20, input_names=names,
                  output_names=["last_hidden_state"], dynamic_shapes=shapes,
                  external_data=False, verbose=False)
"""


def nodes(path: Path) -> str:
    """Nodes of the main graph, or what went wrong."""
    if not path.exists():
        return "no result"
    return str(len(onnx.load(path, load_external_data=False).graph.node))


def models(folder: Path) -> dict[str, Path]:
    """The models by name, built where missing."""
    minilm = folder / "minilm-dynamo-sdpa-20.onnx"
    if not minilm.exists():
        script = str(EXAMPLES / "export_minilm.py")
        subprocess.run([sys.executable, script, str(folder)], check=True, capture_output=True)
    for name in ("bert-base", "vit-base"):
        path = folder / f"{name}.onnx"
        if not path.exists():
            command = [sys.executable, "-c", BUILD, name, str(path)]
            subprocess.run(command, check=True, capture_output=True)
    big = folder / "big.onnx"
    if not big.exists():
        script = str(Path(__file__).with_name("decoder.py"))
        subprocess.run([sys.executable, script, "--build", str(folder)], check=True)
    return {
        "MiniLM": minilm,
        "BERT-base": folder / "bert-base.onnx",
        "ViT-base": folder / "vit-base.onnx",
        "decoder, 1.1 billion": big,
    }


def main() -> None:
    """Build, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    optimize = str(Path(sys.executable).with_name("optimize"))
    print("| model | tool | seconds | peak GB | nodes before | nodes after |")
    print("|---|---|---|---|---|---|")
    for name, source in models(folder).items():
        target = folder / "simple.onnx"
        commands = {
            "burnish": [optimize, str(source), "-o", str(target), "--no-measure", "-q"],
            "burnish --no-check": [
                optimize, str(source), "-o", str(target), "--no-measure", "--no-check", "-q",
            ],
        }  # fmt: skip
        for tool, code in PEERS.items():
            commands[tool] = [sys.executable, "-c", code, str(source), str(target)]
        for tool, command in commands.items():
            for old in folder.glob("simple*"):
                old.unlink()
            seconds, peak, _ = watched(command)
            after = nodes(target)
            print(
                f"| {name} | {tool} | {seconds:.1f} | {peak:.2f} | {nodes(source)} | {after} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
