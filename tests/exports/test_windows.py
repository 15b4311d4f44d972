"""Windows of real exports: proven, computed in blocks, and equal at every length and padding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers as hf
from architectures import SMALL, Case
from harness import choosing, make_context, run_model

from burnish.optimizer import pipeline
from burnish.optimizer.contract import Phase
from burnish.optimizer.model import embed, initializers, load
from burnish.passes import REGISTRY
from burnish.passes.lower.attention.attention import LowerAttention

WORDS = SMALL | {"vocab_size": 300, "pad_token_id": 0}
GROUPS = {"num_key_value_heads": 2, "sliding_window": 8}


def modernbert() -> torch.nn.Module:
    """Three layers, the first of which sees everything; four keys to either side in the others."""
    ends = {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    config = hf.ModernBertConfig(**WORDS | {"num_hidden_layers": 3}, **ends, local_attention=8)
    return hf.ModernBertModel(config)


def mistral() -> torch.nn.Module:
    return hf.MistralModel(hf.MistralConfig(**WORDS, **GROUPS))


def phi3() -> torch.nn.Module:
    return hf.Phi3Model(hf.Phi3Config(**WORDS, **GROUPS, bos_token_id=1, eos_token_id=2))


def gemma3() -> torch.nn.Module:
    config = hf.Gemma3TextConfig(
        **WORDS, **GROUPS, head_dim=16, layer_types=["sliding_attention", "full_attention"]
    )
    return hf.Gemma3TextModel(config)


CASES: dict[Case, int] = {
    Case("modernbert-windows", modernbert, "dynamo", 20): 2,
    Case("modernbert-windows", modernbert, "torchscript", 17): 2,
    Case("mistral-windows", mistral, "dynamo", 20): 2,
    Case("mistral-windows", mistral, "torchscript", 17): 2,
    Case("phi3-windows", phi3, "torchscript", 17): 2,
    Case("gemma3-windows", gemma3, "dynamo", 18): 1,
}
LENGTHS = (1, 2, 7, 8, 9, 17, 18, 63, 64, 65, 127, 150)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_export(case: Case, exports: Callable[[Case], Path]) -> None:
    original = _embedded(exports(case))
    passes = [kind() for kind in REGISTRY if kind.phase is Phase.RECOVER]
    sizes = {"batch": 1, "sequence": 128}
    context = make_context(choosing("blocks of 64"), sizes=sizes)
    compiled = pipeline.run(original, [*passes, LowerAttention()], context, None)
    last = compiled.steps[-1]
    assert last.outcome.detail == f"attentions: {CASES[case]} as blocks of 64"
    branches = [node for node in compiled.model.graph if node.op_type == "If"]
    assert len(branches) >= CASES[case]

    feeds = [_feed(length, padding) for length in LENGTHS for padding in ("right", "left", "holes")]
    pairs = zip(run_model(original, feeds), run_model(compiled.model, feeds), strict=True)
    for feed, (mine, theirs) in zip(feeds, pairs, strict=True):
        real = feed["attention_mask"].astype(bool)
        first, second = (next(iter(outputs.values()))[real] for outputs in (mine, theirs))
        assert np.abs(first - second).max() < 2e-5


def _embedded(path: Path) -> ir.Model:
    model = load(path).model
    for value in initializers(model):
        embed(value)
    return model


def _feed(length: int, padding: str) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(length)
    ids = generator.integers(3, 300, (3, length))
    mask = np.ones_like(ids)
    for row in range(3):
        hidden = length * row // 3
        if padding == "right":
            mask[row, length - hidden :] = 0
        elif padding == "left":
            mask[row, :hidden] = 0
        else:
            mask[row, 1:] = generator.random(length - 1) < 0.6
    return {"input_ids": ids, "attention_mask": mask}


def test_nothing_over_queries_and_keys_runs_on_long_inputs(exports: Callable[[Case], Path]) -> None:
    """What only the dense side reads, masks among it, is behind the condition."""
    case = Case("mistral-windows", mistral, "torchscript", 17)
    passes = [kind() for kind in REGISTRY if kind.phase is Phase.RECOVER]
    context = make_context(choosing("blocks of 64"), sizes={"batch": 1, "sequence": 128})
    original = load(exports(case)).model
    model = pipeline.run(original, [*passes, LowerAttention()], context, None).model
    outside = [node.op_type for node in model.graph]
    assert "And" not in outside
    assert "Where" not in outside
    inside = {node.op_type for node in ir.traversal.RecursiveGraphIterator(model.graph)}
    assert {"And", "Where"} <= inside
