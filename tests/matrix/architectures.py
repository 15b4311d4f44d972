"""The architectures of the matrix, from their configurations, small, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from exporting import Cached, Decoder

from matrix import inputs as feeds
from matrix.inputs import HIDDEN, VOCABULARY

Builder = Callable[[str], torch.nn.Module]
"""From the implementation of attention (`eager`, `sdpa`) to a model."""

LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 4}
SMALL = {"hidden_size": HIDDEN, "intermediate_size": 128, **LAYERS}
TEXT = {**SMALL, "vocab_size": VOCABULARY}
BOTH = {
    "vocab_size": VOCABULARY, "d_model": HIDDEN, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128, "max_position_embeddings": 128,
}  # fmt: skip
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = {"num_key_value_heads": 2}
T5 = {
    "d_model": HIDDEN, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4,
    "vocab_size": VOCABULARY,
}  # fmt: skip
PICTURE = {**SMALL, "image_size": 32, "patch_size": 8}
WHISPER = {
    **BOTH, **SPECIAL, "max_source_positions": 50, "max_target_positions": 128,
    "decoder_start_token_id": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes:
        name: as in the table and in the names of files.
        build: see `Builder`.
        inputs: sample inputs with their dynamic axes.
        undefined: paddings under which some query sees no key: those have no defined answer.
    """

    name: str
    build: Builder
    inputs: feeds.Maker = feeds.text
    undefined: frozenset[str] = frozenset()


def built(architecture: Architecture, attention: str) -> torch.nn.Module:
    """The model, always with the same weights.

    Weights as they are initialized for training hide faults: scores next to zero make every
    attention an average, and biases of zero and scales of one need not be applied at all.
    """
    torch.manual_seed(0)
    model = architecture.build(attention).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.requires_grad:  # a table, not a weight
                continue
            if weight.dim() < 2:
                weight.add_(torch.randn_like(weight), alpha=0.1)
            elif 0 < (spread := float(weight.std())) < 0.12:
                weight.mul_(0.12 / spread)
    return model


def plain(model: str, config: str, **settings: Any) -> Builder:
    """A builder of a model class from a configuration class."""

    def build(attention: str) -> torch.nn.Module:
        settings_too = getattr(hf, config)(**settings, attn_implementation=attention)
        return getattr(hf, model)(settings_too)

    return build


def with_caches(build: Builder) -> Builder:
    """A builder of the decoder with its caches as inputs and outputs."""
    return lambda attention: Cached(build(attention))


def t5_decoder(attention: str) -> torch.nn.Module:
    model = plain("T5ForConditionalGeneration", "T5Config", **T5)(attention)
    return Decoder(model.decoder, model.lm_head)


def whisper_encoder(attention: str) -> torch.nn.Module:
    return plain("WhisperModel", "WhisperConfig", **WHISPER)(attention).encoder


def whisper_decoder(attention: str) -> torch.nn.Module:
    model = plain("WhisperForConditionalGeneration", "WhisperConfig", **WHISPER)(attention)
    return Decoder(model.model.decoder, model.proj_out)


def clip(attention: str) -> torch.nn.Module:
    config = hf.CLIPConfig(
        text_config={**TEXT, **SPECIAL, "max_position_embeddings": 128, "projection_dim": 32},
        vision_config={**PICTURE, "projection_dim": 32},
        projection_dim=32,
        attn_implementation=attention,
    )
    return hf.CLIPModel(config)


LLAMA = plain("LlamaForCausalLM", "LlamaConfig", **TEXT, **GROUPED)
GPT2 = plain(
    "GPT2LMHeadModel", "GPT2Config", n_embd=64, n_layer=2, n_head=4, vocab_size=300,
    bos_token_id=1, eos_token_id=2,
)  # fmt: skip
GPT_NEOX = plain("GPTNeoXForCausalLM", "GPTNeoXConfig", **TEXT)
QWEN3 = plain("Qwen3ForCausalLM", "Qwen3Config", **TEXT, **GROUPED, head_dim=16)
OPT = plain(
    "OPTForCausalLM", "OPTConfig", **LAYERS, hidden_size=64, ffn_dim=128, vocab_size=300,
    max_position_embeddings=128,
)  # fmt: skip
GEMMA = {
    **TEXT, **GROUPED, **SPECIAL, "head_dim": 16, "query_pre_attn_scalar": 16,
    "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"],
}  # fmt: skip

LEFT = frozenset({"left"})
ANY = frozenset({"left", "right"})

ARCHITECTURES = (
    Architecture("bert", plain("BertModel", "BertConfig", **TEXT)),
    Architecture("roberta", plain("RobertaModel", "RobertaConfig", **TEXT)),
    Architecture("xlm-r", plain("XLMRobertaModel", "XLMRobertaConfig", **TEXT)),
    Architecture(
        "distilbert",
        plain(
            "DistilBertModel",
            "DistilBertConfig",
            dim=64,
            n_layers=2,
            n_heads=4,
            hidden_dim=128,
            vocab_size=300,
        ),
    ),
    Architecture("albert", plain("AlbertModel", "AlbertConfig", **TEXT, embedding_size=32)),
    Architecture("electra", plain("ElectraModel", "ElectraConfig", **TEXT, embedding_size=32)),
    Architecture(
        "deberta-v3",
        plain(
            "DebertaV2Model",
            "DebertaV2Config",
            **TEXT,
            relative_attention=True,
            position_buckets=8,
            max_relative_positions=-1,
            pos_att_type=["p2c", "c2p"],
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            position_biased_input=False,
        ),
    ),
    Architecture("mpnet", plain("MPNetModel", "MPNetConfig", **TEXT)),
    Architecture(
        "modernbert",
        plain(
            "ModernBertModel",
            "ModernBertConfig",
            **TEXT,
            **SPECIAL,
            local_attention=8,
            cls_token_id=1,
            sep_token_id=2,
            global_attn_every_n_layers=2,
        ),
        undefined=ANY,
    ),
    Architecture(
        "longformer",
        plain(
            "LongformerModel",
            "LongformerConfig",
            **TEXT,
            attention_window=[8, 8],
            max_position_embeddings=128,
        ),
        feeds.windows,
        ANY,
    ),
    Architecture("gpt2", GPT2, undefined=LEFT),
    Architecture("gpt-neox", GPT_NEOX, undefined=LEFT),
    Architecture("opt", OPT, undefined=LEFT),
    Architecture(
        "bloom",
        plain(
            "BloomForCausalLM", "BloomConfig", hidden_size=64, n_layer=2, n_head=4, vocab_size=300
        ),
        undefined=LEFT,
    ),
    Architecture(
        "falcon", plain("FalconForCausalLM", "FalconConfig", **TEXT, **SPECIAL), undefined=LEFT
    ),
    Architecture("llama", LLAMA, undefined=LEFT),
    Architecture(
        "mistral",
        plain("MistralForCausalLM", "MistralConfig", **TEXT, **GROUPED, sliding_window=4),
        undefined=ANY,
    ),
    Architecture(
        "mixtral",
        plain(
            "MixtralForCausalLM",
            "MixtralConfig",
            **TEXT,
            **GROUPED,
            num_local_experts=4,
            experts_implementation="batched_mm",  # no exporter takes the default
        ),
        undefined=LEFT,
    ),
    Architecture(
        "qwen2", plain("Qwen2ForCausalLM", "Qwen2Config", **TEXT, **GROUPED), undefined=LEFT
    ),
    Architecture("qwen3", QWEN3, undefined=LEFT),
    Architecture("gemma2", plain("Gemma2ForCausalLM", "Gemma2Config", **GEMMA), undefined=ANY),
    Architecture("gemma3", plain("Gemma3ForCausalLM", "Gemma3TextConfig", **GEMMA), undefined=ANY),
    Architecture(
        "phi3", plain("Phi3ForCausalLM", "Phi3Config", **TEXT, **GROUPED, **SPECIAL), undefined=LEFT
    ),
    Architecture("t5-encoder", plain("T5EncoderModel", "T5Config", **T5)),
    Architecture("t5-decoder", t5_decoder, feeds.decoded),
    Architecture(
        "bart", plain("BartForConditionalGeneration", "BartConfig", **BOTH), feeds.translation
    ),
    Architecture(
        "marian",
        plain("MarianMTModel", "MarianConfig", **BOTH, **SPECIAL, decoder_start_token_id=0),
        feeds.translation,
    ),
    Architecture(
        "m2m100",
        plain("M2M100ForConditionalGeneration", "M2M100Config", **BOTH),
        feeds.translation,
    ),
    Architecture("whisper-encoder", whisper_encoder, feeds.spectrogram),
    Architecture("whisper-decoder", whisper_decoder, feeds.transcribed, LEFT),
    Architecture("vit", plain("ViTModel", "ViTConfig", **PICTURE), feeds.image),
    Architecture("deit", plain("DeiTModel", "DeiTConfig", **PICTURE), feeds.image),
    Architecture(
        "swin",
        plain(
            "SwinModel",
            "SwinConfig",
            image_size=32,
            patch_size=4,
            embed_dim=32,
            depths=[2, 2],
            num_heads=[2, 4],
            window_size=4,
        ),
        feeds.image,
    ),
    Architecture("clip", clip, feeds.pairs, LEFT),
    Architecture(
        "wav2vec2",
        plain(
            "Wav2Vec2Model",
            "Wav2Vec2Config",
            **SMALL,
            conv_dim=(32, 32, 32),
            conv_stride=(5, 2, 2),
            conv_kernel=(10, 3, 2),
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            feat_extract_norm="layer",
            conv_bias=True,
            vocab_size=32,
        ),
        feeds.sound,
    ),
    Architecture("gpt2-cached", with_caches(GPT2), feeds.cached(4)),
    Architecture("llama-cached", with_caches(LLAMA), feeds.cached(2)),
    Architecture("qwen3-cached", with_caches(QWEN3), feeds.cached(2)),
    Architecture("gpt-neox-cached", with_caches(GPT_NEOX), feeds.cached(4)),
    Architecture("opt-cached", with_caches(OPT), feeds.cached(4)),
)

BY_NAME = {item.name: item for item in ARCHITECTURES}
