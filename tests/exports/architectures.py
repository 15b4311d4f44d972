"""Real architectures from Transformers configurations, small, with random weights, exported."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf

SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}


@dataclass(frozen=True)
class Case:
    """One architecture through one exporter."""

    name: str
    build: Callable[[], torch.nn.Module]
    exporter: str
    opset: int
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")

    def __str__(self) -> str:
        return f"{self.name}-{self.exporter}-{self.opset}"


class Outputs(torch.nn.Module):
    """A model with positional inputs and a tuple of tensors for outputs."""

    def __init__(self, model: torch.nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        extra = {"use_cache": False} if hasattr(self.model.config, "use_cache") else {}
        result = self.model(**dict(zip(self.names, values, strict=True)), **extra)
        return result[0]


def bert(attention: str = "sdpa") -> torch.nn.Module:
    config = hf.BertConfig(**SMALL, vocab_size=500, num_labels=5, attn_implementation=attention)
    return hf.BertForTokenClassification(config)


def distilbert() -> torch.nn.Module:
    config = hf.DistilBertConfig(dim=64, n_layers=2, n_heads=4, hidden_dim=128, vocab_size=400)
    return hf.DistilBertForSequenceClassification(config)


def llama() -> torch.nn.Module:
    config = hf.LlamaConfig(**SMALL, num_key_value_heads=2, vocab_size=300)
    return hf.LlamaForCausalLM(config)


def tied() -> torch.nn.Module:
    config = hf.LlamaConfig(
        **SMALL, num_key_value_heads=4, vocab_size=300, tie_word_embeddings=True
    )
    return hf.LlamaForCausalLM(config)


def gpt2() -> torch.nn.Module:
    return hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=300))


def albert() -> torch.nn.Module:
    return hf.AlbertModel(hf.AlbertConfig(**SMALL, embedding_size=32, vocab_size=600))


def t5_encoder() -> torch.nn.Module:
    config = hf.T5Config(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=300)
    return hf.T5EncoderModel(config)


def vit() -> torch.nn.Module:
    # Wide enough that a product goes to int8 by rule.
    config = hf.ViTConfig(**SMALL | {"intermediate_size": 256}, image_size=32, patch_size=8)
    return hf.ViTModel(config)


def swin() -> torch.nn.Module:
    config = hf.SwinConfig(
        image_size=32, patch_size=4, embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=4
    )
    return hf.SwinModel(config)


def modernbert() -> torch.nn.Module:
    config = hf.ModernBertConfig(
        **SMALL, vocab_size=300, local_attention=8, pad_token_id=0, cls_token_id=1,
        sep_token_id=2, bos_token_id=1, eos_token_id=2, attn_implementation="sdpa",
    )  # fmt: skip
    return hf.ModernBertModel(config)


CASES = (
    Case("bert-eager", lambda: bert("eager"), "torchscript", 17),
    Case("bert-eager", lambda: bert("eager"), "dynamo", 18),
    Case("bert-sdpa", bert, "dynamo", 20),
    Case("bert-sdpa", bert, "dynamo", 23),
    Case("distilbert", distilbert, "dynamo", 18),
    Case("llama", llama, "dynamo", 20),
    Case("llama-tied", tied, "dynamo", 23),
    Case("gpt2", gpt2, "dynamo", 20),
    Case("albert", albert, "torchscript", 17),
    Case("t5-encoder", t5_encoder, "torchscript", 17),
    Case("modernbert", modernbert, "dynamo", 20),
    Case("vit", vit, "dynamo", 20, ("pixel_values",)),
    Case("swin", swin, "torchscript", 17, ("pixel_values",)),
)


def export(case: Case, path: Path) -> None:
    """Write the case's model to `path`."""
    torch.manual_seed(0)
    module = Outputs(case.build().eval(), case.inputs)
    image = case.inputs == ("pixel_values",)
    ids = torch.randint(3, 299, (2, 12))
    values: tuple[Any, ...] = (torch.randn(2, 3, 32, 32),) if image else (ids, torch.ones_like(ids))
    axes = {0: "batch"} if image else {0: "batch", 1: "sequence"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if case.exporter == "torchscript":
            torch.onnx.export(
                module, values, path, dynamo=False, opset_version=case.opset,
                input_names=list(case.inputs), output_names=["output"],
                dynamic_axes={name: axes for name in case.inputs},
            )  # fmt: skip
        else:
            dims = {
                axis: torch.export.Dim(name, **({"max": 64} if axis else {}))
                for axis, name in axes.items()
            }
            torch.onnx.export(
                module, values, path, dynamo=True, opset_version=case.opset,
                input_names=list(case.inputs), output_names=["output"],
                dynamic_shapes=((dims,) * len(case.inputs),), external_data=False, verbose=False,
            )  # fmt: skip
