"""Checkpoints of many architectures: exported, held to PyTorch, optimized, loaded and run.

    python benchmarks/checkpoints.py FOLDER [--only NAME ...]

Each is made from its Transformers configuration, small and with random weights, saved by
`save_pretrained` as `FOLDER/NAME`, and given to `optimize FOLDER/NAME --no-measure`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers as hf

OPTIMIZE = str(Path(sys.executable).with_name("optimize"))

LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 300, **LAYERS}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = {**TEXT, **IDS, "num_key_value_heads": 2}
BOTH = {
    "vocab_size": 300, "d_model": 64, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128, "max_position_embeddings": 128, **IDS, "decoder_start_token_id": 2,
}  # fmt: skip
PICTURE = {"hidden_size": 64, "intermediate_size": 128, "image_size": 32, "patch_size": 8, **LAYERS}
SWIN = {
    "image_size": 32, "patch_size": 4, "embed_dim": 32, "depths": [2, 2], "num_heads": [2, 4],
    "window_size": 4,
}  # fmt: skip
WAVES = {
    "hidden_size": 64, "intermediate_size": 128, **LAYERS, "conv_dim": (32, 32, 32),
    "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 2), "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4, "feat_extract_norm": "layer", "conv_bias": True,
    "vocab_size": 32,
}  # fmt: skip
CLIP = {
    "text_config": {**TEXT, **IDS, "max_position_embeddings": 128, "projection_dim": 32},
    "vision_config": {**PICTURE, "projection_dim": 32}, "projection_dim": 32,
}  # fmt: skip
MODERN = {
    "local_attention": 8,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "global_attn_every_n_layers": 2,
}
DEBERTA = {
    "relative_attention": True, "position_buckets": 8, "max_relative_positions": -1,
    "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm", "share_att_key": True,
    "position_biased_input": False,
}  # fmt: skip
GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 300}
LOCAL = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
GEMMA = {**GROUPED, "head_dim": 16, "query_pre_attn_scalar": 16, **LOCAL}
T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 300}
OPT = {
    **LAYERS,
    "hidden_size": 64,
    "ffn_dim": 128,
    "vocab_size": 300,
    "max_position_embeddings": 128,
}
WHISPER = {**BOTH, "max_source_positions": 50, "max_target_positions": 128, "num_mel_bins": 80}

MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertForSequenceClassification", "BertConfig", {**TEXT, "num_labels": 3}),
    "roberta": ("RobertaForTokenClassification", "RobertaConfig", {**TEXT, "num_labels": 7}),
    "xlm-roberta": ("XLMRobertaForMaskedLM", "XLMRobertaConfig", TEXT),
    "distilbert": (
        "DistilBertForQuestionAnswering", "DistilBertConfig",
        {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 300},
    ),
    "albert": ("AlbertForMaskedLM", "AlbertConfig", {**TEXT, "embedding_size": 32}),
    "electra": (
        "ElectraForSequenceClassification", "ElectraConfig", {**TEXT, "embedding_size": 32},
    ),
    "deberta-v2": ("DebertaV2ForTokenClassification", "DebertaV2Config", {**TEXT, **DEBERTA}),
    "mpnet": ("MPNetModel", "MPNetConfig", TEXT),
    "modernbert": (
        "ModernBertForMaskedLM", "ModernBertConfig", {**TEXT, **IDS, **MODERN},
    ),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {**GPT2, "bos_token_id": 1, "eos_token_id": 2}),
    "gpt-neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", TEXT),
    "opt": ("OPTForCausalLM", "OPTConfig", OPT),
    "bloom": (
        "BloomForCausalLM", "BloomConfig",
        {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 300},
    ),
    "falcon": ("FalconForCausalLM", "FalconConfig", {**TEXT, **IDS}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**GROUPED, "sliding_window": 4}),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", {**GROUPED, "num_local_experts": 4}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", GROUPED),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**GROUPED, "head_dim": 16}),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config", GEMMA),
    "gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", GEMMA),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", GROUPED),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5),
    "mt5": ("MT5ForConditionalGeneration", "MT5Config", T5),
    "bart": ("BartForConditionalGeneration", "BartConfig", BOTH),
    "marian": ("MarianMTModel", "MarianConfig", BOTH),
    "m2m-100": ("M2M100ForConditionalGeneration", "M2M100Config", BOTH),
    "whisper": ("WhisperForConditionalGeneration", "WhisperConfig", WHISPER),
    "vit": ("ViTForImageClassification", "ViTConfig", {**PICTURE, "num_labels": 5}),
    "deit": ("DeiTForImageClassification", "DeiTConfig", {**PICTURE, "num_labels": 5}),
    "swin": ("SwinForImageClassification", "SwinConfig", {**SWIN, "num_labels": 5}),
    "clip": ("CLIPModel", "CLIPConfig", CLIP),
    "wav2vec2": ("Wav2Vec2ForCTC", "Wav2Vec2Config", WAVES),
}  # fmt: skip
"""By name: the class of the model, that of its configuration, and its settings."""


def make(folder: Path, name: str) -> None:
    """Save a checkpoint whose attentions are no averages and whose biases are not zero."""
    kind, config, settings = MODELS[name]
    torch.manual_seed(0)
    model = getattr(hf, kind)(getattr(hf, config)(**settings))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() < 2:
                weight.add_(torch.randn_like(weight), alpha=0.1)
            elif 0 < (spread := float(weight.std())) < 0.12:
                weight.mul_(0.12 / spread)
    model.save_pretrained(folder)


def runs(path: Path) -> bool:
    """Whether a graph runs in a stock session, on inputs of batch 1 and length 8."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {}
    for port in session.get_inputs():
        sizes = {"batch": 1, "past_sequence_length": 0, "kept": 1, "samples": 4000}
        shape = [item if isinstance(item, int) else sizes.get(item, 8) for item in port.shape]
        kind = np.float32 if port.type == "tensor(float)" else np.int64
        feed[port.name] = np.ones(shape, kind)
    if "logits_to_keep" in feed:
        feed["logits_to_keep"] *= -1
    return all(np.isfinite(output).all() for output in session.run(None, feed))


def row(folder: Path, name: str) -> list[str]:
    """Make, optimize, load and run one."""
    source, target, told = folder / name, folder / f"{name}.opt", folder / f"{name}.json"
    if not source.exists():
        make(source, name)
    command = [OPTIMIZE, str(source), "-o", str(target), "--no-measure", "--json", str(told), "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return [name, (done.stderr.strip().splitlines() or ["no word"])[-1][:160]]
    report = json.loads(told.read_text())
    export, parts = report["export"], report["parts"].values()
    graphs = json.loads((target / "manifest.json").read_text())["models"].values()
    recovered = [part["recovered"]["attention"] for part in parts]
    found, expected = (sum(item[key] for item in recovered) for key in ("found", "expected"))
    losses = [output["rel_l2"] for part in parts for output in part["fidelity"]["outputs"].values()]
    return [
        name, export["task"], export["way"], f"{export['seconds']:.0f}", f"{export['error']:.1e}",
        f"{found} of {expected}", f"{max(losses):.1e}",
        "yes" if all(runs(target / graph) for graph in graphs) else "no",
    ]  # fmt: skip


def main() -> None:
    """The table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=list(MODELS), choices=list(MODELS))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    heads = ["architecture", "task", "exported by", "seconds", "error to PyTorch", "attentions",
             "error of optimizing", "runs"]  # fmt: skip
    for cells in (heads, ["---"] * len(heads)):
        print(f"| {' | '.join(cells)} |", flush=True)
    for name in arguments.only:
        print(f"| {' | '.join(row(arguments.folder, name))} |", flush=True)


if __name__ == "__main__":
    main()
