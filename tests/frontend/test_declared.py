"""`inspect` on checkpoints: what configurations and headers tell, without torch."""

from __future__ import annotations

import io
import json
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from harness import unsupervised
from rich.console import Console

from burnish import driver
from burnish.driver import Request
from burnish.optimizer.analysis.architecture import headline
from burnish.optimizer.frontend import declared
from burnish.optimizer.frontend.headers import Stored, by_layer, stored
from burnish.rendering.inspection import render_inspect

LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
    "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 2, "vocab_size": 1000, "hidden_act": "silu", "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0, "max_position_embeddings": 2048,
}  # fmt: skip

CONFIGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "bert": (
        {
            "architectures": ["BertForTokenClassification"], "hidden_size": 768,
            "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
            "vocab_size": 30522, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
            "max_position_embeddings": 512,
        },
        "token-classification",
        "encoder, 12 layers, 12 heads of 64, 512 positions, GELU, LayerNorm, hidden 768, "
        "feed-forward 3072, vocabulary 30,522",
    ),
    "modernbert": (
        {
            "architectures": ["ModernBertForMaskedLM"], "hidden_size": 768, "vocab_size": 50368,
            "num_hidden_layers": 22, "num_attention_heads": 12, "intermediate_size": 1152,
            "hidden_activation": "gelu", "norm_eps": 1e-5, "local_attention": 128,
            "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0,
        },
        "fill-mask",
        "encoder, 22 layers, 12 heads of 64, 14 of 22 local +-64, RoPE, GELU, LayerNorm, hidden "
        "768, feed-forward 1152, vocabulary 50,368",
    ),
    "llama": (
        LLAMA,
        "text-generation",
        "decoder, 2 layers, 8 heads (2 of keys and values) of 8, RoPE, SiLU, RMSNorm, hidden 64, "
        "feed-forward 160, vocabulary 1,000",
    ),
    "t5": (
        {
            "architectures": ["T5ForConditionalGeneration"], "d_model": 512, "num_layers": 6,
            "num_decoder_layers": 6, "num_heads": 8, "d_kv": 64, "d_ff": 2048, "vocab_size": 32128,
            "is_encoder_decoder": True, "relative_attention_num_buckets": 32,
            "dense_act_fn": "relu", "layer_norm_epsilon": 1e-6,
        },
        "text2text-generation",
        "encoder and decoder, 12 layers, 8 heads of 64, relative positions, ReLU, LayerNorm, "
        "hidden 512, feed-forward 2048, vocabulary 32,128",
    ),
    "mistral": (
        LLAMA | {"architectures": ["MistralForCausalLM"], "sliding_window": 128},
        "text-generation",
        "decoder, 2 layers, 8 heads (2 of keys and values) of 8, all of them local last 128 keys, "
        "RoPE, SiLU, RMSNorm, hidden 64, feed-forward 160, vocabulary 1,000",
    ),
    "vit": (
        {
            "architectures": ["ViTForImageClassification"], "hidden_size": 192, "patch_size": 16,
            "num_hidden_layers": 12, "num_attention_heads": 3, "hidden_act": "gelu",
        },
        "image-classification",
        "encoder, 12 layers, 3 heads of 64, GELU, hidden 192, patches of 16 x 16",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_in_one_line(name: str) -> None:
    config, task, line = CONFIGS[name]
    assert declared.task_of(config) == task
    assert headline(declared.architecture_of(config, [], task)) == line


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({"architectures": ["WhisperForConditionalGeneration"], "num_mel_bins": 80},
         "automatic-speech-recognition"),
        ({"architectures": ["CLIPModel"], "text_config": {}, "vision_config": {}},
         "zero-shot-image-classification"),
        ({"architectures": ["BertModel"]}, "feature-extraction"),
        ({"architectures": ["Unheard"]}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_tasks(config: dict[str, Any], task: str) -> None:
    assert declared.task_of(config) == task


def weights(*, gated: bool = True) -> dict[str, tuple[str, list[int]]]:
    found = {"model.embed_tokens.weight": ("BF16", [1000, 64])}
    for layer in range(2):
        base = f"model.layers.{layer}"
        found |= {f"{base}.{part}.weight": ("BF16", [64, 64]) for part in "qo"}
        found |= {f"{base}.{part}.weight": ("BF16", [16, 64]) for part in "kv"}
        ups = ("gate", "up") if gated else ("up",)
        found |= {f"{base}.{part}.weight": ("BF16", [160, 64]) for part in ups}
        found[f"{base}.down.weight"] = ("BF16", [64, 160])
        found[f"{base}.norm.weight"] = ("F32", [64])
    return found


def write(folder: Path, config: dict[str, Any], tensors: dict[str, tuple[str, list[int]]]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    header, end = {}, 0
    for name, (kind, shape) in tensors.items():
        count = 2 if kind == "BF16" else 4
        for size in shape:
            count *= size
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + count]}
        end += count
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + end)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    write(tmp_path / "llm", LLAMA, weights())
    return tmp_path / "llm"


@pytest.fixture
def facts(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for name in ("torch", "transformers"):  # an import of either fails
        monkeypatch.setitem(sys.modules, name, None)
    with unsupervised():
        return driver.inspect(Request(str(checkpoint)))


def test_a_checkpoint_is_described_without_torch(facts: dict[str, Any]) -> None:
    assert "SwiGLU" in facts["headline"], "shapes tell that the activation gates"
    found = facts["checkpoint"]
    assert (found["task"], found["graphs"]) == ("text-generation", ["model.onnx"])
    assert found["files"] == ["config.json", "tokenizer.json"]
    assert facts["weights"]["types"]["BFLOAT16"]["tensors"] == 15
    assert facts["weights"]["by_layer"][-1] == {"layer": None, "parameters": 64_000}
    assert facts["weights"]["by_layer"][0]["parameters"] == 2 * 4096 + 2 * 1024 + 3 * 10240 + 64
    options = {item["option"]: item["bytes"] for item in facts["options"]}
    whole = found["float32_bytes"]
    assert whole == 4 * facts["weights"]["parameters"]
    assert options["--int4"] < options["--int8"] < options["--fp16"] < whole


def test_the_page_of_a_checkpoint(facts: dict[str, Any]) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    render_inspect(console, facts)
    text = console.export_text()
    assert "a checkpoint of llama (LlamaForCausalLM)" in text
    assert "`optimize` would write the folder llm.opt: model.onnx, with its caches" in text
    assert "work grows as batch x (" in text


def test_what_is_in_a_checkpoints_way(checkpoint: Path) -> None:
    config = LLAMA | {"auto_map": {"AutoModel": "code.Model"}, "architectures": ["Unheard"]}
    (checkpoint / "config.json").write_text(json.dumps(config))
    with unsupervised():
        facts = driver.inspect(Request(str(checkpoint)))
    found = {item["what"]: item["remedy"] for item in facts["obstacles"]}
    assert "--trust-remote-code" in found["code of its own"]
    assert "--task" in found["task"]


def test_headers_tell_layers(checkpoint: Path) -> None:
    found = stored([checkpoint / "model.safetensors"])
    assert {weight.layer for weight in found} == {None, 0, 1}
    assert by_layer([Stored("h.3.w", "FLOAT", (2, 3), 24)]) == [{"layer": 3, "parameters": 6}]
    plain = weights(gated=False).items()
    one = [Stored(name, kind, tuple(shape), 0) for name, (kind, shape) in plain]
    assert not declared._is_gated(one, 64, 160)
