"""Models of published depth, exported without their weights, to be planned.

Configurations are those of the models they are called after, as published. Where the weights would
take more than about 0.7 GB, the width, or the vocabulary, is smaller, which the name says; never
the number of layers. Weights are written and forgotten: their files are as long, and sparse.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import exporting
import onnx
import torch
from exporting import Decoder, Inputs
from matrix import inputs as feeds
from matrix.architectures import Builder, plain, with_caches
from matrix.inputs import TRACED, Batch

SMALL = 1024
"""Bytes up to which a constant keeps its values."""

BASE = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072,
}  # fmt: skip
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
T5 = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
WHISPER = {
    "d_model": 768, "encoder_layers": 12, "decoder_layers": 12, "encoder_attention_heads": 12,
    "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072,
    "vocab_size": 51865, "decoder_start_token_id": 1, **IDS,
}  # fmt: skip


def both(width: int, layers: int, vocabulary: int, hidden: int, heads: int) -> dict[str, Any]:
    """Settings of an encoder and a decoder of as many layers."""
    return {
        "vocab_size": vocabulary, "d_model": width, "encoder_layers": layers,
        "decoder_layers": layers, "encoder_attention_heads": heads,
        "decoder_attention_heads": heads, "encoder_ffn_dim": hidden, "decoder_ffn_dim": hidden,
        "max_position_embeddings": 1024,
    }  # fmt: skip


def llamas(
    layers: int, width: int, heads: int, groups: int, hidden: int, vocabulary: int
) -> dict[str, Any]:
    """Settings of the kin of Llama."""
    return {
        "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
        "num_key_value_heads": groups, "intermediate_size": hidden, "vocab_size": vocabulary, **IDS,
    }  # fmt: skip


@dataclass(frozen=True)
class Model:
    """A model by its builder and sample inputs (see `tests/matrix`)."""

    name: str
    build: Builder
    inputs: Callable[[Batch], Inputs] = feeds.text


def numbers(name: str, *shape: int) -> Callable[[Batch], Inputs]:
    """One input of numbers, of any batch."""
    return lambda batch: {name: (torch.randn(batch.rows, *shape), {0: "batch"})}


def beside(hidden: int, length: int | None = None) -> Callable[[Batch], Inputs]:
    """Ids beside the hidden states of an encoder, of any length or of one."""

    def make(batch: Batch) -> Inputs:
        states = torch.randn(batch.rows, length or 15, hidden)
        axes = {0: "batch"} if length else {0: "batch", 1: "encoder"}
        return {**feeds.text(batch), "encoder_hidden_states": (states, axes)}

    return make


def pairs(batch: Batch) -> Inputs:
    """Texts and images, as many of the one as of the other."""
    ids, mask = feeds.text(batch).values()
    pixels = numbers("pixel_values", 3, 224, 224)(batch)
    return {"input_ids": ids, **pixels, "attention_mask": mask}


def sound(batch: Batch) -> Inputs:
    """Samples of any length."""
    samples = torch.randn(batch.rows, 4000)
    return {"input_values": (samples, {0: "batch", 1: "samples"})}


def t5_decoder(attention: str) -> torch.nn.Module:
    """The decoder of T5 base with its head."""
    model = plain("T5ForConditionalGeneration", "T5Config", **T5, vocab_size=32128)(attention)
    return Decoder(model.decoder, model.lm_head)


def whisper_encoder(attention: str) -> torch.nn.Module:
    """The encoder of Whisper small."""
    return plain("WhisperModel", "WhisperConfig", **WHISPER)(attention).encoder


def whisper_decoder(attention: str) -> torch.nn.Module:
    """The decoder of Whisper small with its head."""
    model = plain("WhisperForConditionalGeneration", "WhisperConfig", **WHISPER)(attention)
    return Decoder(model.model.decoder, model.proj_out)


GPT2 = plain("GPT2LMHeadModel", "GPT2Config")
SMOLLM = plain("LlamaForCausalLM", "LlamaConfig", **llamas(30, 576, 9, 3, 1536, 49152))

MODELS = (
    Model("bert-base", plain("BertModel", "BertConfig")),
    Model("roberta-base", plain("RobertaModel", "RobertaConfig", vocab_size=50265)),
    Model("distilbert-base", plain("DistilBertModel", "DistilBertConfig")),
    Model("albert-base", plain("AlbertModel", "AlbertConfig", **BASE, embedding_size=128)),
    Model("electra-base", plain("ElectraModel", "ElectraConfig", **BASE, embedding_size=768)),
    Model("mpnet-base", plain("MPNetModel", "MPNetConfig")),
    Model("modernbert-base", plain("ModernBertModel", "ModernBertConfig")),
    Model("gpt2", GPT2),
    Model("gpt2-cached", with_caches(GPT2), feeds.cached(12, 64, 12)),
    Model("opt-125m", plain("OPTForCausalLM", "OPTConfig")),
    Model(
        "opt-350m (width 512)",
        plain(
            "OPTForCausalLM",
            "OPTConfig",
            hidden_size=512,
            num_hidden_layers=24,
            ffn_dim=2048,
            num_attention_heads=8,
        ),
    ),
    Model(
        "pythia-160m",
        plain("GPTNeoXForCausalLM", "GPTNeoXConfig", **BASE, vocab_size=50304),
    ),
    Model(
        "bloom-560m (width 512, 32,768 tokens)",
        plain(
            "BloomForCausalLM",
            "BloomConfig",
            hidden_size=512,
            n_layer=24,
            n_head=16,
            vocab_size=32768,
        ),
    ),
    Model(
        "falcon-rw-1b (width 512)",
        plain(
            "FalconForCausalLM",
            "FalconConfig",
            hidden_size=512,
            num_hidden_layers=24,
            num_attention_heads=8,
            vocab_size=50304,
            **IDS,
        ),
    ),
    Model("smollm-135m", SMOLLM),
    Model("smollm-135m-cached", with_caches(SMOLLM), feeds.cached(3, 64, 30)),
    Model(
        "tinyllama-1.1b (width 512)",
        plain("LlamaForCausalLM", "LlamaConfig", **llamas(22, 512, 8, 2, 1408, 32000)),
    ),
    Model(
        "mistral-7b (width 512)",
        plain("MistralForCausalLM", "MistralConfig", **llamas(32, 512, 8, 2, 1792, 32000)),
    ),
    Model(
        "mixtral-8x7b (width 256)",
        plain(
            "MixtralForCausalLM",
            "MixtralConfig",
            **llamas(32, 256, 8, 2, 896, 32000),
            num_local_experts=8,
            experts_implementation="batched_mm",
        ),
    ),
    Model(
        "qwen2-0.5b (width 448, 65,536 tokens)",
        plain("Qwen2ForCausalLM", "Qwen2Config", **llamas(24, 448, 7, 1, 2432, 65536)),
    ),
    Model(
        "qwen3-0.6b (width 512, 65,536 tokens)",
        plain("Qwen3ForCausalLM", "Qwen3Config", **llamas(28, 512, 8, 4, 1536, 65536)),
    ),
    Model(
        "gemma3-270m (65,536 tokens)",
        plain("Gemma3ForCausalLM", "Gemma3TextConfig", **llamas(18, 640, 4, 1, 2048, 65536)),
    ),
    Model(
        "phi3-mini (width 512)",
        plain("Phi3ForCausalLM", "Phi3Config", **llamas(32, 512, 8, 8, 1365, 32064)),
    ),
    Model("t5-base-encoder", plain("T5EncoderModel", "T5Config", **T5, vocab_size=32128)),
    Model("t5-base-decoder", t5_decoder, beside(768)),
    Model(
        "bart-base",
        plain("BartForConditionalGeneration", "BartConfig", **both(768, 6, 50265, 3072, 12)),
        feeds.translation,
    ),
    Model(
        "opus-mt",
        plain(
            "MarianMTModel",
            "MarianConfig",
            **both(512, 6, 58101, 2048, 8),
            **IDS,
            decoder_start_token_id=0,
        ),
        feeds.translation,
    ),
    Model(
        "m2m100-418m (width 512, 65,536 tokens)",
        plain("M2M100ForConditionalGeneration", "M2M100Config", **both(512, 12, 65536, 2048, 8)),
        feeds.translation,
    ),
    Model("whisper-small-encoder", whisper_encoder, numbers("input_features", 80, 3000)),
    Model("whisper-small-decoder", whisper_decoder, beside(768, 1500)),
    Model("vit-base", plain("ViTModel", "ViTConfig"), numbers("pixel_values", 3, 224, 224)),
    Model(
        "deit-small",
        plain(
            "DeiTModel",
            "DeiTConfig",
            hidden_size=384,
            intermediate_size=1536,
            num_attention_heads=6,
        ),
        numbers("pixel_values", 3, 224, 224),
    ),
    Model("swin-tiny", plain("SwinModel", "SwinConfig"), numbers("pixel_values", 3, 224, 224)),
    Model("clip-vit-base-32", plain("CLIPModel", "CLIPConfig"), pairs),
    Model("wav2vec2-base", plain("Wav2Vec2Model", "Wav2Vec2Config"), sound),
)


def export(index: int, path: Path) -> dict[str, Any]:
    """Write a model of the table, with files of weights that take no room; their bytes."""
    model = MODELS[index]
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        module = model.build("sdpa").eval()
    except ValueError:  # it has no such attention
        module = model.build("eager").eval()
    whole = path.with_suffix(".whole")
    exporting.export(module, model.inputs(TRACED), whole, "torchscript", 17)
    del module
    proto = onnx.load(whole)
    whole.unlink()
    data = path.with_suffix(".data")
    data.unlink(missing_ok=True)
    onnx.save(
        proto, path, save_as_external_data=True, all_tensors_to_one_file=True,
        location=data.name, size_threshold=SMALL,
    )  # fmt: skip
    length = data.stat().st_size
    os.truncate(data, 0)
    os.truncate(data, length)
    return {"bytes": length}
