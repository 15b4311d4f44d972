"""Attentions of real exports that stay plain operators, and learned queries, in the account."""

from __future__ import annotations

from pathlib import Path

import exporting
import pytest
import torch
import transformers as hf
from architectures import SMALL, image, text
from exporting import Inputs
from harness import make_context

from burnish.optimizer import pipeline
from burnish.optimizer.analysis.account import account, recovered_model
from burnish.optimizer.analysis.anchors import Flow, attentions
from burnish.optimizer.analysis.chunks import window_of
from burnish.optimizer.contract import Phase
from burnish.optimizer.model import load
from burnish.optimizer.pipeline import Compiled
from burnish.passes import REGISTRY


def gpt_oss() -> torch.nn.Module:
    config = hf.GptOssConfig(
        **SMALL, vocab_size=300, num_key_value_heads=2, head_dim=16, num_local_experts=4,
        num_experts_per_tok=2, sliding_window=4, attn_implementation="eager",
        experts_implementation="batched_mm",
    )  # fmt: skip
    return hf.GptOssForCausalLM(config)


def longformer(chunks: str) -> torch.nn.Module:
    config = hf.LongformerConfig(
        **SMALL, vocab_size=300, attention_window=[8, 8], max_position_embeddings=128
    )
    config.onnx_export = chunks == "unfolded"
    return hf.LongformerModel(config)


class Pooled(torch.nn.Module):
    """An encoder of images and the learned query by which its tokens are pooled."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        config = hf.SiglipVisionConfig(
            **SMALL, image_size=32, patch_size=8, attn_implementation=attention
        )
        self.model, self.config = hf.SiglipVisionModel(config), config

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.model(pixel_values=pixel_values).pooler_output,)


def recovered(
    module: torch.nn.Module, inputs: Inputs, path: Path, exporter: str, opset: int
) -> Compiled:
    exporting.export(module, inputs, path, exporter, opset)
    passes = [kind() for kind in REGISTRY if kind.phase is Phase.RECOVER]
    return pipeline.run(load(path).model, passes, make_context(), check=None)


def fixed(inputs: Inputs) -> Inputs:
    return {name: (value, {}) for name, (value, _) in inputs.items()}


@pytest.mark.parametrize(("exporter", "opset"), [("torchscript", 17), ("dynamo", 20)])
def test_sinks_are_found(exporter: str, opset: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = recovered(gpt_oss(), text(), tmp_path / "model.onnx", exporter, opset)
    count = account(run)["attention"]
    assert (count.expected, count.found, count.missed) == (2, 2, ())
    anchors = list(attentions(Flow(recovered_model(run))))
    assert {anchor.form for anchor in anchors} == {"attention with sinks, plain operators"}


@pytest.mark.parametrize(("attention", "exporter", "opset"), [
    ("eager", "torchscript", 17), ("sdpa", "dynamo", 20),
])  # fmt: skip
def test_a_learned_query_is_an_attention(
    attention: str, exporter: str, opset: int, tmp_path: Path
) -> None:
    run = recovered(Pooled(attention), image(), tmp_path / "model.onnx", exporter, opset)
    count = account(run)["attention"]
    assert (count.expected, count.found, count.missed) == (3, 3, ())


def test_a_window_in_chunks_is_named(tmp_path: Path) -> None:
    module, inputs = longformer("unfolded"), fixed(text(32))
    run = recovered(module, inputs, tmp_path / "model.onnx", "torchscript", 17)
    count = account(run)["attention"]
    assert (count.expected, count.found) == (2, 2)
    model = recovered_model(run)
    flow = Flow(model)
    windows = {str(window_of(model, anchor, flow)) for anchor in attentions(flow)}
    assert windows == {"window(left=4, right=4) & key_padding(attention_mask)"}


def test_an_export_that_computes_something_else_is_none(tmp_path: Path) -> None:
    """TorchScript takes strides of a transposed tensor for those of a contiguous one."""
    run = recovered(longformer("strided"), text(32), tmp_path / "model.onnx", "torchscript", 17)
    count = account(run)["attention"]
    assert (count.expected, count.found) == (2, 0)
    assert all("not by their keys' scores" in miss.reason for miss in count.missed)
