"""Never slower: ten architectures at their published sizes through every exporter, float32.

    python benchmarks/exports.py FOLDER [--only bert,vit] [--exporters dynamo-sdpa-20,...] [--table]

exports each where `FOLDER` lacks it (random weights), runs `optimize FILE` with default options,
and times input and artifact in stock sessions (`optimize bench`: paired, alternating, separate
processes). What comes of each is a line of FOLDER/exports.jsonl, and is not done again; the table
is made of all lines. Its last line is the geometric mean and the least speed-up.

    python benchmarks/exports.py FOLDER --against torchscript-sdpa-17 --exporters dynamo-sdpa-20

optimizes both exports of each architecture instead, and times the two artifacts: above 1, that of
`--exporters` is the faster one.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import transformers as hf

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import exporting
from matrix import isolation
from matrix.exporters import EXPORTERS

OPTIMIZE = str(Path(sys.executable).with_name("optimize"))
ROWS, LENGTH, IMAGES = 4, 128, 2
HANGING = 900.0
"""Seconds after which an export is given up."""

IDS = {
    "pad_token_id": 0,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertForSequenceClassification", "BertConfig", {}),
    "roberta": (
        "RobertaForTokenClassification", "RobertaConfig",
        {"vocab_size": 50265, "max_position_embeddings": 514},
    ),
    "distilbert": ("DistilBertForSequenceClassification", "DistilBertConfig", {}),
    "modernbert": (
        "ModernBertForSequenceClassification", "ModernBertConfig",
        {"num_hidden_layers": 12, **IDS},
    ),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {}),
    "llama": (  # SmolLM-135M
        "LlamaForCausalLM", "LlamaConfig",
        {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
         "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
         "tie_word_embeddings": True},
    ),
    "t5": (  # T5-small
        "T5EncoderModel", "T5Config",
        {"d_model": 512, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
    ),
    "whisper": ("WhisperEncoder", "WhisperConfig", {"d_model": 384, "encoder_layers": 4,
        "encoder_attention_heads": 6, "encoder_ffn_dim": 1536}),
    "vit": ("ViTForImageClassification", "ViTConfig", {}),
    "swin": ("SwinForImageClassification", "SwinConfig", {}),
}  # fmt: skip
"""Class, configuration, and what differs from the configuration's defaults: the published sizes
of the base (Swin: tiny) models, ModernBERT with 12 of its 22 layers, Whisper tiny's encoder."""

PIXELS = {"vit": ("pixel_values", (3, 224, 224)), "swin": ("pixel_values", (3, 224, 224)),
          "whisper": ("input_features", (80, 3000))}  # fmt: skip


def inputs(name: str) -> exporting.Inputs:
    """Sample values and dynamic axes."""
    if name in PIXELS:
        port, shape = PIXELS[name]
        return {port: (torch.randn(2, *shape), {0: "batch"})}
    ids = torch.randint(3, 7000, (2, 12))
    rows = exporting.ROWS
    return {"input_ids": (ids, rows), "attention_mask": (torch.ones_like(ids), rows)}


def export(name: str, kind: str, attention: str, opset: int, path: Path) -> dict[str, Any]:
    """Write a model; raises whatever the exporter raises."""
    torch.manual_seed(0)
    model, config, settings = MODELS[name]
    chosen = getattr(hf, config)(**settings, attn_implementation=attention)
    kinds = hf.models.whisper.modeling_whisper if name == "whisper" else hf
    exporting.export(getattr(kinds, model)(chosen), inputs(name), path, kind, opset)
    return {}


def run(*arguments: str) -> dict[str, Any]:
    """What `optimize` reports."""
    done = subprocess.run(
        [OPTIMIZE, *arguments, "--json", "-", "-q"], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return dict(json.loads(done.stdout))


def shape_of(name: str) -> list[str]:
    """The sizes that an architecture is tuned and timed at, as an option."""
    return ["--shape", f"batch={IMAGES if name in PIXELS else ROWS},sequence={LENGTH}"]


def between(folder: Path, name: str, exporter: str, other: str) -> str:
    """A row: the artifact of one export against that of another."""
    paths = [folder / f"{name}-{item}.onnx" for item in (other, exporter)]
    if not all(path.exists() for path in paths):
        return f"| {name} | {exporter} | {other} | an export is missing |"
    targets = [path.with_name(f"{path.stem}.opt.onnx") for path in paths]
    try:
        for path, target in zip(paths, targets, strict=True):
            run(str(path), "-o", str(target), *shape_of(name))
        timing = run("bench", *map(str, targets), *shape_of(name))["latency"][0]
    finally:
        for target in targets:
            target.unlink(missing_ok=True)
    low, high = timing["ci95"]
    return f"| {name} | {exporter} | {other} | {timing['speedup']:.3f} ({low:.3f} to {high:.3f}) |"


def measured(path: Path, name: str) -> dict[str, Any]:
    """Facts of one cell."""
    shape = shape_of(name)
    target = path.with_name(f"{path.stem}.opt.onnx")
    try:
        report = run(str(path), "-o", str(target), *shape)
        timing = run("bench", str(path), str(target), *shape)["latency"][0]
    finally:
        target.unlink(missing_ok=True)
    return {
        "attention": report["recovered"]["attention"],
        "nodes": [report["input"]["nodes"], report["output"]["nodes"]],
        **{key: timing[key] for key in ("baseline_ms", "speedup", "ci95")},
    }


def line(folder: Path, name: str, exporter: Any, *, only_export: bool) -> dict[str, Any]:
    """What came of a cell."""
    path = folder / f"{name}-{exporter}.onnx"
    if not path.exists():
        arguments = (name, exporter.kind, exporter.attention, exporter.opset, path)
        facts = isolation.call(export, *arguments, seconds=HANGING)
        if facts["status"] != "ok":
            path.unlink(missing_ok=True)
            return {"failed": facts["error"]}
    if only_export:
        return {}
    try:
        return measured(path, name)
    except RuntimeError as error:
        said = f"error: {path}: "
        if not str(error).startswith(said):
            raise
        return {"failed": str(error).removeprefix(said)}  # the export itself does not run


def row(name: str, exporter: str, facts: dict[str, Any]) -> str:
    """One row of the table."""
    if "failed" in facts:
        return f"| {name} | {exporter} | none: {facts['failed'][:90]} | | | | |"
    found, (before, after), (low, high) = facts["attention"], facts["nodes"], facts["ci95"]
    return (
        f"| {name} | {exporter} | {found['found']} of {found['expected']} | {before} | {after} "
        f"| {facts['baseline_ms']:.1f} | {facts['speedup']:.3f} ({low:.3f} to {high:.3f}) |"
    )


def table(known: dict[str, dict[str, Any]]) -> str:
    """The table of all lines."""
    rows = [
        "| model | export | attentions | nodes before | after | ms before | times faster |",
        "|---|---|---|---|---|---|---|",
    ]
    gains = [facts["speedup"] for facts in known.values() if "speedup" in facts]
    rows += [row(*cell.split(" "), facts) for cell, facts in sorted(known.items())]
    mean = math.exp(sum(map(math.log, gains)) / len(gains)) if gains else math.nan
    least = min(gains, default=math.nan)
    return "\n".join([*rows, f"\n{len(gains)} cells: geometric mean {mean:.3f}, least {least:.3f}"])


def main() -> None:
    """Do what is not done yet, and print the table."""
    names = [str(exporter) for exporter in EXPORTERS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default=",".join(MODELS))
    parser.add_argument("--exporters", default=",".join(names))
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--against", help="compare with the artifact of this export instead")
    parser.add_argument("--export", action="store_true", help="only export")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    record = options.folder / "exports.jsonl"
    known: dict[str, dict[str, Any]] = {}
    if record.exists():
        known = dict(json.loads(text) for text in record.read_text().splitlines())
    chosen = [item for item in EXPORTERS if str(item) in options.exporters.split(",")]
    cells = [(name, exporter) for exporter in chosen for name in options.only.split(",")]
    if options.against:
        print("| model | export | against | times faster |\n|---|---|---|---|")
        for name, exporter in cells:
            print(between(options.folder, name, str(exporter), options.against), flush=True)
        return
    for name, exporter in () if options.table else cells:
        cell = f"{name} {exporter}"
        if cell in known:
            continue
        facts = line(options.folder, name, exporter, only_export=options.export)
        if not facts:
            continue
        known[cell] = facts
        with record.open("a") as stream:
            stream.write(json.dumps([cell, facts]) + "\n")
        print(row(name, str(exporter), facts), flush=True)
    print(table(known))


if __name__ == "__main__":
    main()
