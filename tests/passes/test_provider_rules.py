"""What the rules write for a provider that is not here; the CPU vouches for the numbers."""

from __future__ import annotations

import dataclasses
from collections import Counter

import onnx_ir as ir
import pytest
from harness import made_up, make_checker, make_context, run_model
from samples import encoder

from burnish.driver.plan import passes_for
from burnish.driver.request import Request
from burnish.optimizer import pipeline
from burnish.optimizer.contract import relative_l2
from burnish.optimizer.executor import Executor

EXPECTED = {
    "cuda": {"MultiHeadAttention": 2, "BiasGelu": 2, "SkipLayerNormalization": 4},
    "cpu": {"Attention": 2, "Gelu": 2, "LayerNormalization": 5, "Sum": 7},
}


@pytest.mark.parametrize("provider", EXPECTED)
def test_rules(provider: str, executor: Executor) -> None:
    model = ir.from_proto(encoder())
    context = dataclasses.replace(make_context(), provider=provider)
    passes = passes_for(Request("model.onnx", provider=provider))
    check = make_checker(executor, model).check
    compiled = pipeline.run(model, passes, context, check)
    assert "rejected" not in {step.status for step in compiled.steps}
    lowered = compiled.model
    operators = Counter(node.op_type for node in lowered.graph)
    assert {name: operators[name] for name in EXPECTED[provider]} == EXPECTED[provider]
    feeds = made_up(model)
    for mine, theirs in zip(run_model(model, feeds), run_model(lowered, feeds), strict=True):
        assert all(relative_l2(mine[name], theirs[name]) < 1e-5 for name in mine)


@pytest.mark.parametrize(
    ("provider", "passes"),
    [
        ("cpu", {"int8"}),
        ("openvino", {"int8"}),
        ("cuda", {"weight-only"}),
        ("tensorrt", {"static-int8"}),
    ],
)
def test_what_int8_means_for_a_provider(provider: str, passes: set[str]) -> None:
    """Where float16 outruns integer products, weights alone are in 8 bits."""
    chosen = passes_for(Request("model.onnx", provider=provider, int8=True))
    found = {item.name for item in chosen}
    assert found & {"int8", "static-int8", "weight-only"} == passes
    assert all(item.options().get("bits", 8) == 8 for item in chosen)
