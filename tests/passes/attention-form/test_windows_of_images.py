"""A mask that is the same for each image is added as the constant that it is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import choosing, loaded_operators, make_context, run_model
from onnx import TensorProto
from samples import Builder

from burnish.optimizer.contract import Choice, relative_l2
from burnish.optimizer.forms import AS_IT_IS
from burnish.passes.lower.attention.attention import LowerAttention

FORM = "products by windows"
WINDOWS, TOKENS, WIDTH = 4, 3, 16


def windows(
    *, heads_differ: bool = True, computed: bool = False, hidden: float = -100.0
) -> ir.Model:
    """Images of four windows, each attended by itself; two heads."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", WINDOWS * TOKENS, WIDTH])
    b.constant("apart", [-1, TOKENS, WIDTH], np.int64)
    b.op("Reshape", ["x", "apart"], "tokens")
    for name in "qkv":
        b.linear("tokens", name, WIDTH, WIDTH)
    seen = (b.random.random((1, WINDOWS, 1, TOKENS, TOKENS)) < 0.5) | np.eye(TOKENS, dtype=bool)
    b.constant("shifted", np.where(seen, 0.0, hidden))
    b.normal("table", 1, 2 if heads_differ else 1, TOKENS, TOKENS)
    b.op("Shape", ["x"], "images", start=0, end=1)
    b.constant("rest", [WINDOWS, 1, TOKENS, TOKENS], np.int64)
    b.op("Concat", ["images", "rest"], "target", axis=0)
    b.op("Expand", ["shifted", "target"], "wide")
    b.constant("flat", [-1, 1, TOKENS, TOKENS], np.int64)
    b.op("Reshape", ["wide", "flat"], "each")
    mask = b.op("Add", ["table", "each"], "mask")
    if computed:
        b.op("ReduceMax", ["x"], "largest", keepdims=0)
        mask = b.op("Add", [mask, "largest"], "moved")
    heads = {"q_num_heads": 2, "kv_num_heads": 2}
    b.op("Attention", ["q", "k", "v", mask], "attended", **heads)
    b.op("Relu", ["attended"], "y")
    b.output("y", TensorProto.FLOAT, [None, TOKENS, WIDTH])  # type: ignore[list-item]
    return b.model(23)


@pytest.mark.parametrize("heads_differ", [False, True])
def test_is_one_constant_for_any_number_of_images(heads_differ: bool) -> None:
    model = windows(heads_differ=heads_differ)
    before = model.clone()
    assert LowerAttention().apply(model, make_context(choosing(FORM))).rewrites == 1
    operators = [node.op_type for node in model.graph]
    assert "Expand" not in operators
    assert operators.count("Softmax") == 1
    shapes = {tuple(item.const_value.shape) for item in model.graph.initializers.values()}  # type: ignore[union-attr]
    assert (WINDOWS, 2 if heads_differ else 1, TOKENS, TOKENS) in shapes
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    for batch in (1, 3):
        array = np.random.default_rng(batch).standard_normal((batch, WINDOWS * TOKENS, WIDTH))
        feed = {"x": array.astype(np.float32)}
        mine, theirs = (run_model(item, [feed])[0]["y"] for item in (before, model))
        assert relative_l2(mine, theirs) < 2e-6


def test_onnx_runtime_leaves_it_as_it_is() -> None:
    model = windows()
    LowerAttention().apply(model, make_context(choosing(FORM)))
    operators = Counter(loaded_operators(model))
    assert [operators[name] for name in ("FusedMatMul", "Softmax", "Add", "Expand")] == [1, 1, 4, 0]


@pytest.mark.parametrize("settings", [{"computed": True}, {"hidden": -np.inf}])
def test_is_no_form_of_other_masks(settings: dict[str, Any]) -> None:
    """What an input decides, and rows without keys, which the operator makes zero."""
    offered: list[str] = []

    def choose(key: str, forms: Any, rule: str) -> Choice:
        offered.extend(forms)
        return Choice(AS_IT_IS, 1.0, False)

    LowerAttention().apply(windows(**settings), make_context(choose))
    assert "products" in offered
    assert FORM not in offered


def test_its_sample_has_the_inputs_of_the_others() -> None:
    offered: dict[str, onnx.ModelProto] = {}

    def choose(key: str, forms: Any, rule: str) -> Choice:
        assert f"windows={WINDOWS}x2x{TOKENS}x{TOKENS}" in key
        offered.update({name: build() for name, build in forms.items()})
        return Choice(AS_IT_IS, 1.0, False)

    LowerAttention().apply(windows(), make_context(choose))
    ports = [[str(item) for item in message.graph.input] for message in offered.values()]
    assert all(item == ports[0] for item in ports)
    onnx.checker.check_model(offered[FORM], full_check=True)
