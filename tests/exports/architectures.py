"""Real architectures from Transformers configurations, small, with random weights, exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import exporting
import torch
import transformers as hf
from exporting import ROWS, Cached, Decoder, Inputs

SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}


def text(length: int = 12) -> Inputs:
    """Two rows of ids, nothing masked."""
    ids = torch.randint(3, 299, (2, length))
    return {"input_ids": (ids, ROWS), "attention_mask": (torch.ones_like(ids), ROWS)}


def image() -> Inputs:
    """Two images of 32 x 32."""
    return {"pixel_values": (torch.randn(2, 3, 32, 32), {0: "batch"})}


def cached() -> Inputs:
    """Three tokens after five in the caches of two layers with two heads."""
    past = {
        f"past_key_values.{layer}.{part}": (torch.randn(2, 2, 5, 16), {0: "batch", 2: "past"})
        for layer in range(2)
        for part in ("key", "value")
    }
    mask = torch.ones(2, 8, dtype=torch.int64), {0: "batch", 1: "total"}
    return {"input_ids": text(3)["input_ids"], "attention_mask": mask, **past}


def decoded() -> Inputs:
    """Three tokens beside seven of an encoder."""
    axes = {0: "batch", 1: "encoder"}
    return {
        "input_ids": text(3)["input_ids"],
        "encoder_hidden_states": (torch.randn(2, 7, 64), axes),
        "encoder_attention_mask": (torch.ones(2, 7, dtype=torch.int64), axes),
    }


@dataclass(frozen=True)
class Case:
    """One architecture through one exporter."""

    name: str
    build: Callable[[], torch.nn.Module]
    exporter: str
    opset: int
    inputs: Callable[[], Inputs] = text

    def __str__(self) -> str:
        return f"{self.name}-{self.exporter}-{self.opset}"


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


def llama_cached() -> torch.nn.Module:
    return Cached(llama())


def t5_decoder() -> torch.nn.Module:
    config = hf.T5Config(d_model=64, d_kv=16, d_ff=256, num_layers=2, num_heads=4, vocab_size=300)
    model = hf.T5ForConditionalGeneration(config)
    return Decoder(model.decoder, model.lm_head)


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
    Case("vit", vit, "dynamo", 20, image),
    Case("swin", swin, "torchscript", 17, image),
    Case("llama-cached", llama_cached, "torchscript", 17, cached),
    Case("llama-cached", llama_cached, "dynamo", 20, cached),
    Case("t5-decoder", t5_decoder, "torchscript", 17, decoded),
)


def export(case: Case, path: Path) -> None:
    """Write the case's model to `path`."""
    torch.manual_seed(0)
    inputs = case.inputs()
    exporting.export(case.build(), inputs, path, case.exporter, case.opset)
