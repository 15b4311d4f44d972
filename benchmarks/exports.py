"""Never slower: architectures at realistic size through every exporter, float32.

    python benchmarks/exports.py FOLDER [--only bert,vit] [--exporters dynamo-sdpa-20,...]

exports each where `FOLDER` lacks it (random weights, 6 layers), runs `optimize FILE` with default
options, and times input and artifact in stock sessions (`optimize bench`: paired, alternating,
separate processes). The last lines are the geometric mean and the least speed-up.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

OPTIMIZE = str(Path(sys.executable).with_name("optimize"))
ROWS, LENGTH, LAYERS = 8, 128, 6
BASE = {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": LAYERS}
WIDE = {**BASE, "intermediate_size": 3072}
TEXT = {"vocab_size": 8000, "max_position_embeddings": 512}
GATED = {**BASE, "intermediate_size": 2048, "num_key_value_heads": 4, **TEXT}

MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertModel", "BertConfig", {**WIDE, **TEXT}),
    "roberta": ("RobertaModel", "RobertaConfig", {**WIDE, **TEXT, "max_position_embeddings": 514}),
    "distilbert": (
        "DistilBertModel", "DistilBertConfig", {"n_layers": LAYERS, "vocab_size": 8000},
    ),
    "albert": ("AlbertModel", "AlbertConfig", {**WIDE, **TEXT}),
    "modernbert": (
        "ModernBertModel", "ModernBertConfig",
        {**BASE, "intermediate_size": 1152, **TEXT, "pad_token_id": 0, "cls_token_id": 1,
         "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "gpt2": ("GPT2Model", "GPT2Config", {"n_layer": LAYERS, "vocab_size": 8000}),
    "llama": ("LlamaModel", "LlamaConfig", GATED),
    "t5-encoder": (
        "T5EncoderModel", "T5Config",
        {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": LAYERS, "num_heads": 12,
         "vocab_size": 8000},
    ),
    "vit": ("ViTModel", "ViTConfig", WIDE),
    "swin": ("SwinModel", "SwinConfig", {"depths": [2, 2, 2, 2]}),
}  # fmt: skip

EXPORTERS = [
    f"{kind}-{attention}-{opset}"
    for kind, opsets in (("torchscript", (17,)), ("dynamo", (18, 20, 23)))
    for attention in ("eager", "sdpa")
    for opset in opsets
]


class First(torch.nn.Module):
    """The first output of a model."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        """The output for ids and mask, or for pixels."""
        names = ("input_ids", "attention_mask") if len(values) > 1 else ("pixel_values",)
        extra = {"use_cache": False} if hasattr(self.model.config, "use_cache") else {}
        return self.model(**dict(zip(names, values, strict=True)), **extra)[0]


def export(name: str, exporter: str, path: Path) -> None:
    """Write a model; raises whatever the exporter raises."""
    kind, attention, opset = exporter.split("-")
    torch.manual_seed(0)
    model, config, settings = MODELS[name]
    chosen = getattr(hf, config)(**settings, attn_implementation=attention)
    module = First(getattr(hf, model)(chosen)).eval()
    axes: dict[str, dict[int, str]]
    if name in ("vit", "swin"):
        values: tuple[torch.Tensor, ...] = (torch.randn(2, 3, 224, 224),)
        axes = {"pixel_values": {0: "batch"}}
    else:
        ids = torch.randint(3, 7000, (2, 12))
        values, rows = (ids, torch.ones_like(ids)), {0: "batch", 1: "sequence"}
        axes = {"input_ids": rows, "attention_mask": rows}
    common: dict[str, Any] = {"input_names": list(axes), "output_names": ["output"]}
    warnings.simplefilter("ignore")
    if kind == "torchscript":
        torch.onnx.export(
            module, values, path, dynamo=False, opset_version=int(opset), dynamic_axes=axes,
            **common,
        )  # fmt: skip
        return
    dims = tuple(
        {axis: torch.export.Dim(text, max=512) for axis, text in item.items()}
        for item in axes.values()
    )
    torch.onnx.export(
        module, values, path, dynamo=True, opset_version=int(opset), dynamic_shapes=(dims,),
        external_data=False, verbose=False, **common,
    )  # fmt: skip


def run(*arguments: str) -> dict[str, Any]:
    """What `optimize` reports."""
    done = subprocess.run(
        [OPTIMIZE, *arguments, "--json", "-", "-q"], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return dict(json.loads(done.stdout))


def attempt(work: Callable[[], Any]) -> str:
    """The first line of what went wrong; empty where nothing did."""
    try:
        work()
    except Exception as error:  # an exporter that fails is a row of the table
        return str(error).strip().splitlines()[0][:70]
    return ""


def row(folder: Path, name: str, exporter: str) -> float | None:
    """Print one row; the speed-up, where there is one."""
    path = folder / f"{name}-{exporter}.onnx"
    if not path.exists() and (reason := attempt(lambda: export(name, exporter, path))):
        path.unlink(missing_ok=True)
        print(f"| {name} | {exporter} | the exporter fails: {reason} | | | | |", flush=True)
        return None
    shape = ["--shape", f"batch={1 if name in ('vit', 'swin') else ROWS},sequence={LENGTH}"]
    target = path.with_name(f"{path.stem}.opt.onnx")
    report = run(str(path), "-o", str(target), *shape)
    timing = run("bench", str(path), str(target), *shape)["latency"][0]
    low, high = timing["ci95"]
    found = report["recovered"]["attention"]
    print(
        f"| {name} | {exporter} | {found['found']} of {found['expected']} "
        f"| {report['input']['nodes']} | {report['output']['nodes']} | {timing['baseline_ms']:.1f} "
        f"| {timing['speedup']:.3f} ({low:.3f} to {high:.3f}) |",
        flush=True,
    )
    target.unlink()
    return float(timing["speedup"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default=",".join(MODELS))
    parser.add_argument("--exporters", default=",".join(EXPORTERS))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| model | export | attentions | nodes before | after | ms before | times faster |")
    print("|---|---|---|---|---|---|---|")
    gains = [
        gain
        for name in options.only.split(",")
        for exporter in options.exporters.split(",")
        if (gain := row(options.folder, name, exporter)) is not None
    ]
    mean = math.exp(sum(map(math.log, gains)) / len(gains)) if gains else math.nan
    print(
        f"\n{len(gains)} cells: geometric mean {mean:.3f}, least {min(gains, default=math.nan):.3f}"
    )


if __name__ == "__main__":
    main()
