"""Normalizations and activations of real exports: none is left in pieces, and nothing changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from architectures import CASES, Case
from harness import made_up, make_context, run_model

from burnish.optimizer.analysis.activation.activations import find_activations
from burnish.optimizer.contract import relative_l2
from burnish.passes.recover.clean import Clean
from burnish.passes.recover.fold_constants import FoldConstants
from burnish.passes.recover.gelu import Gelu
from burnish.passes.recover.inline_functions import InlineFunctions
from burnish.passes.recover.layer_norm import LayerNorm
from burnish.passes.recover.raise_opset import RaiseOpset
from burnish.passes.recover.rms_norm import RmsNorm

EXPECTED = {
    "bert-eager-torchscript-17": ({"LayerNormalization": 5}, {"gelu-erf": 2}),
    "distilbert-dynamo-18": ({"LayerNormalization": 5}, {"gelu-erf": 2, "relu": 1}),
    "gpt2-dynamo-20": ({"LayerNormalization": 5}, {"gelu-tanh": 2}),
    "llama-cached-torchscript-17": ({"RMSNormalization": 5}, {"swiglu": 2}),
    "t5-decoder-torchscript-17": ({"RMSNormalization": 7}, {"relu": 2}),
}

PIECES = {"Erf", "Exp", "Pow", "ReduceMean", "Tanh"}
"""Operators of which these architectures have none outside of normalizations and activations."""


@pytest.mark.parametrize("case", [case for case in CASES if str(case) in EXPECTED], ids=str)
def test_none_is_left(case: Case, exports: Callable[[Case], Path]) -> None:
    model = ir.from_proto(onnx.load(exports(case)))
    context = make_context()
    for transform in (InlineFunctions(), RaiseOpset(23), FoldConstants(), Clean()):
        transform.apply(model, context)
    original = model.clone()
    outcomes = [transform.apply(model, context) for transform in (LayerNorm(), RmsNorm(), Gelu())]

    assert [refusal for outcome in outcomes for refusal in outcome.refusals] == []
    operators = Counter(node.op_type for node in ir.traversal.RecursiveGraphIterator(model.graph))
    normalizations, activations = EXPECTED[str(case)]
    assert {name: operators[name] for name in normalizations} == normalizations
    assert Counter(found.kind for found in find_activations(model)) == activations
    assert not operators.keys() & PIECES
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    feeds = made_up(original)
    assert feeds
    for mine, theirs in zip(run_model(original, feeds), run_model(model, feeds), strict=True):
        assert max(relative_l2(mine[name], theirs[name]) for name in mine) < 5e-6
