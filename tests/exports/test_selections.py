"""Selections in real classifiers and decoders: the last layer is computed for them only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from architectures import SMALL, Case, export, image, text
from harness import make_context, run_model

from burnish.optimizer import pipeline
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.costs.products import matrix_flops
from burnish.optimizer.contract import Phase, relative_l2
from burnish.optimizer.model import embed, initializers, load
from burnish.passes import REGISTRY
from burnish.passes.restructure.sink_selection import SinkSelection

WORDS = SMALL | {"vocab_size": 300, "pad_token_id": 0}


class Last(torch.nn.Module):
    """A language model's scores after the last token."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, **inputs: Any) -> tuple[torch.Tensor]:
        return (self.model(**inputs)[0][:, -1],)


class Embedding(torch.nn.Module):
    """The text's embedding of a two-tower model."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, **inputs: Any) -> tuple[torch.Tensor]:
        inputs.pop("use_cache", None)
        return (self.model(**inputs).text_embeds,)


def bert() -> torch.nn.Module:
    return hf.BertForSequenceClassification(hf.BertConfig(**WORDS))


def vit() -> torch.nn.Module:
    config = hf.ViTConfig(**SMALL, image_size=32, patch_size=8)
    return hf.ViTForImageClassification(config)


def gpt2() -> torch.nn.Module:
    return Last(hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=300)))


def llama() -> torch.nn.Module:
    return hf.LlamaForSequenceClassification(hf.LlamaConfig(**WORDS, num_key_value_heads=2))


def clip() -> torch.nn.Module:
    config = hf.CLIPTextConfig(**WORDS, projection_dim=32, bos_token_id=1, eos_token_id=2)
    return Embedding(hf.CLIPTextModelWithProjection(config))


def bart() -> torch.nn.Module:
    layer = {"layers": 1, "attention_heads": 4, "ffn_dim": 128}
    sizes = {f"{part}_{name}": layer[name] for part in ("encoder", "decoder") for name in layer}
    config = hf.BartConfig(**sizes, d_model=64, vocab_size=300, eos_token_id=2)
    return hf.BartForSequenceClassification(config)


def ended() -> dict[str, Any]:
    """Ids that end with the token that says so."""
    inputs = text()
    inputs["input_ids"][0][:, -1] = 2
    return inputs


CASES = {  # an Attention is one product
    Case("bert", bert, "torchscript", 17): 5,
    Case("vit", vit, "dynamo", 20, image): 5,
    Case("gpt2-last", gpt2, "dynamo", 20): 5,
    Case("llama", llama, "torchscript", 17): 7,
    Case("llama", llama, "dynamo", 23): 7,
    Case("clip-text", clip, "torchscript", 17, ended): 5,
    Case("bart", bart, "dynamo", 20, ended): 3,  # up to the attention
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_last_layer_is_computed_for_the_selection(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(case, path)
    recover = [kind() for kind in REGISTRY if kind.phase is Phase.RECOVER]
    before = pipeline.run(load(path).model, recover, make_context(), None).model
    for value in initializers(before):
        embed(value)
    after = before.clone()
    outcome = SinkSelection().apply(after, make_context())
    assert outcome.detail == f"1 selections moved up, past {CASES[case]} products"

    sizes = {"batch": 8, "sequence": 48}
    work = [sum(matrix_flops(item, shapes.infer(item, sizes)).values()) for item in (before, after)]
    assert work[1] < 0.93 * work[0]
    feeds = made_up(case)
    for mine, theirs in zip(run_model(before, feeds), run_model(after, feeds), strict=True):
        assert relative_l2(mine["output"], theirs["output"]) < 2e-6


def made_up(case: Case) -> list[dict[str, np.ndarray]]:
    """One row, since Attention's kernel takes no angles that are the same for several, and more."""
    if "pixel_values" in case.inputs():
        return [{"pixel_values": np.random.default_rng(0).random((3, 3, 32, 32), np.float32)}]
    random, feeds = np.random.default_rng(0), []
    for rows, length in ((1, 9),) if case.opset == 23 else ((1, 9), (3, 12)):
        ids = random.integers(3, 299, (rows, length))
        mask = np.ones_like(ids)
        for row, kept in enumerate(random.integers(4, length, rows)):
            ids[row, kept:], mask[row, kept:], ids[row, kept - 1] = 0, 0, 2
        feeds.append({"input_ids": ids, "attention_mask": mask})
    return feeds
