"""What the configuration of a checkpoint declares: architecture and task, without torch.

Other than in a graph, where only what is computed counts, a configuration is taken at its word: it
is what the model will be made from. Keys are those that architectures of the hub agree on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.optimizer.frontend.headers import Stored
from burnish.optimizer.frontend.tasks import BARE

Config = Mapping[str, Any]

HIDDEN = ("hidden_size", "d_model", "n_embd", "dim", "embed_dim")
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers")
BEHIND = ("num_decoder_layers", "decoder_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads")
INNER = ("intermediate_size", "d_ff", "n_inner", "hidden_dim", "encoder_ffn_dim", "ffn_dim")
LIMITS = ("max_position_embeddings", "n_positions", "max_source_positions")
ACTIVATIONS = (
    "hidden_act", "hidden_activation", "activation_function", "dense_act_fn", "activation",
)  # fmt: skip
ROTARY = (
    "rope_theta", "rope_parameters", "rope_scaling", "rotary_dim", "rotary_pct",
    "global_rope_theta",
)  # fmt: skip
EPSILONS = {"rms_norm_eps": "RMSNorm", "layer_norm_eps": "LayerNorm", "norm_eps": "LayerNorm",
            "layer_norm_epsilon": "LayerNorm", "layernorm_epsilon": "LayerNorm"}  # fmt: skip

ACTIVATION_NAMES = {
    "gelu": ("GELU", "GeGLU"), "silu": ("SiLU", "SwiGLU"), "swish": ("SiLU", "SwiGLU"),
    "relu": ("ReLU", "ReGLU"), "quick_gelu": ("QuickGELU", "gated QuickGELU"),
}  # fmt: skip
"""By the word of the configuration: the name alone, and where it gates."""

NESTED = ("text_config", "vision_config", "audio_config", "encoder", "decoder")
"""Where models of several parts keep their configurations."""

SUFFIXES = (
    ("ForCausalLM", "text-generation"),
    ("LMHeadModel", "text-generation"),
    ("ForConditionalGeneration", "text2text-generation"),
    ("MTModel", "text2text-generation"),
    ("ForMaskedLM", "fill-mask"),
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForImageClassification", "image-classification"),
    ("ForAudioClassification", "audio-classification"),
    ("ForCTC", "ctc"),
)
"""What classes of Transformers are for, by the ends of their names."""


def task_of(config: Config) -> str:
    """The task that the configuration names; empty where it names none that is known."""
    names = config.get("architectures")
    for name in names if isinstance(names, list) else []:
        for suffix, task in SUFFIXES:
            if str(name).endswith(suffix):
                speech = task == "text2text-generation" and "num_mel_bins" in config
                return "automatic-speech-recognition" if speech else task
        if str(name).endswith("Model"):
            both = "text_config" in config and "vision_config" in config
            return "zero-shot-image-classification" if both else BARE
    return ""


def parts_of(config: Config) -> dict[str, Config]:
    """The configurations of the networks of a model, by name; one without a name as a rule."""
    if _number(config, HIDDEN):
        return {"": config}
    nested = {name: config[name] for name in NESTED if isinstance(config.get(name), dict)}
    return nested or {"": config}


def architecture_of(config: Config, weights: Sequence[Stored], task: str) -> dict[str, Any]:
    """The architecture that a configuration declares, with the keys of that of a graph.

    Args:
        config: of one network.
        weights: those of the checkpoint, whose shapes tell whether activations gate.
        task: see `task_of`.
    """
    hidden, heads = _number(config, HIDDEN), _number(config, HEADS)
    inner, layers = _number(config, INNER), _number(config, LAYERS)
    pair = bool(config.get("is_encoder_decoder"))
    if pair:
        layers += _number(config, BEHIND) or layers
    size = _number(config, ("head_dim", "d_kv")) or (hidden // heads if heads else 0)
    return {
        "kind": _kind(config, task),
        "layers": layers,
        "heads": _each(heads),
        "kv_heads": _each(_number(config, ("num_key_value_heads",)) or heads),
        "head_size": _each(size),
        "windows": _windows(config, layers),
        "positions": _positions(config),
        "activations": _activations(config, weights, hidden, inner),
        "normalizations": [name for key, name in EPSILONS.items() if key in config][:1],
        "hidden": _each(hidden),
        "feed_forward": _each(inner),
        "vocabulary": _number(config, ("vocab_size",)),
        "limit": _number(config, LIMITS),
        "patches": [patch] * 2 if (patch := _number(config, ("patch_size",))) else [],
    }


def _number(config: Config, keys: Sequence[str]) -> int:
    """The first whole number under any of the keys; 0 where there is none."""
    for key in keys:
        value = config.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def _each(number: int) -> list[int]:
    return [number] if number else []


def _kind(config: Config, task: str) -> str:
    if config.get("is_encoder_decoder"):
        return "encoder and decoder"
    writes = task == "text-generation" or config.get("is_decoder")
    return "decoder" if writes else "encoder"


def _windows(config: Config, layers: int) -> list[dict[str, int]]:
    """Attentions that see a window, as far as keys that several architectures share tell."""
    both = _number(config, ("local_attention",))
    back = _number(config, ("sliding_window",)) if config.get("use_sliding_window", True) else 0
    if not (both or back) or not layers:
        return []
    kinds = config.get("layer_types")
    every = _number(config, ("global_attn_every_n_layers",))
    count = layers
    if isinstance(kinds, list):
        count = sum(1 for kind in kinds if kind == "sliding_attention")
    elif every:
        count = layers - -(-layers // every)
    left, right = (both // 2, both // 2) if both else (back - 1, 0)
    return [{"left": left, "right": right, "count": count, "of": layers}] if count else []


def _positions(config: Config) -> list[str]:
    if any(config.get(key) for key in ROTARY):
        return ["RoPE"]
    if config.get("alibi"):
        return ["ALiBi"]
    if "relative_attention_num_buckets" in config or "position_buckets" in config:
        return ["relative positions"]
    limit = _number(config, LIMITS)
    return [f"{limit:,} positions"] if limit else []


def _activations(config: Config, weights: Sequence[Stored], hidden: int, inner: int) -> list[str]:
    word = next((config[key] for key in ACTIVATIONS if isinstance(config.get(key), str)), "")
    if not word:
        return []
    known = next((names for key, names in ACTIVATION_NAMES.items() if word.startswith(key)), None)
    alone, gate = known or (word, f"gated {word}")
    return [gate if _is_gated(weights, hidden, inner) else alone]


def _is_gated(weights: Sequence[Stored], hidden: int, inner: int) -> bool:
    """Whether a layer has two matrices from the hidden to the inner width, or both in one."""
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for weight in weights:
        if weight.layer == 0 and weight.is_matrix:
            shapes.setdefault(weight.stack, []).append(weight.shape)
    return bool(inner) and any(
        (2 * inner, hidden) in stack or stack.count((inner, hidden)) > 1
        for stack in shapes.values()
    )
