"""Forms that take the products before an attention in."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import choosing, make_context, run_model

from burnish.optimizer.contract import Context, relative_l2
from burnish.optimizer.regions import identical
from burnish.passes.lower.attention.attention import LowerAttention

WIDTH = 24
SIZES = {"b": 2, "s": 5}
HIDE = "Attention with weights (key padding)"


def model_of(
    *, biases: bool = True, merged: bool = False, gemm: bool = False, value: int = 32,
    mask: str = "padded", shared: bool = False, split: bool = False,
) -> ir.Model:  # fmt: skip
    """Three products of one input, an attention of four heads, and its mask."""
    random = np.random.default_rng(0)
    widths = {"q": 32, "k": 32, "v": value}
    lines: list[str] = []
    weights: dict[str, np.ndarray] = {}

    def constant(name: str, *shape: int) -> None:
        weights[name] = (random.standard_normal(shape) * 0.3).astype(np.float32)

    if merged:
        constant("w", WIDTH, 64 + value)
        constant("b", 64 + value)
        weights["sizes"] = np.array([32, 32, value])
        lines += ["p = MatMul (x, w)", "pb = Add (p, b)", "q, k, v = Split <axis = -1> (pb, sizes)"]
    for name, width in ({} if merged else widths).items():
        constant(f"w{name}", *((width, WIDTH) if gemm else (WIDTH, width)))
        constant(f"b{name}", width)
        if gemm:
            lines.append(f"t{name} = Transpose <perm = [1, 0]> (w{name})")
        weight = "wq" if shared and name == "k" else f"{'t' if gemm else 'w'}{name}"
        lines.append(f"{'p' if biases else ''}{name} = MatMul (x, {weight})")
        lines += [f"{name} = Add (p{name}, b{name})"] * biases
    call = "<q_num_heads = 4, kv_num_heads = 4, scale = 0.3>"
    operands = "q, k, v"
    if split:
        for name, width in widths.items():
            weights[f"a{name}"] = np.array([0, 0, 4, width // 4])
            lines.append(f"s{name} = Reshape ({name}, a{name})")
            lines.append(f"h{name} = Transpose <perm = [0, 2, 1, 3]> (s{name})")
        operands, call = "hq, hk, hv", "<scale = 0.3>"
    given = {"padded": "wide", "none": "", "causal": "", "bias": "given"}[mask]
    if mask == "causal":
        call = call.replace("<", "<is_causal = 1, ")
    lines += ["exists = Cast <to = 9> (padding)", "keys = Unsqueeze (exists, axes)"]
    lines += ["narrow = Where (keys, zero, low)", "length = Shape <start = 1, end = 2> (x)"]
    lines += ["pair = Concat <axis = 0> (length, length)", "wide = Expand (narrow, pair)"]
    result = "hy" if split else "y"
    lines.append(f"{result} = Attention {call} ({operands}{', ' + given if given else ''})")
    if split:
        weights["together"] = np.array([0, 0, value])
        lines.append("ty = Transpose <perm = [0, 2, 1, 3]> (hy)")
        lines.append("y = Reshape (ty, together)")
    text = f"""
    <ir_version: 11, opset_import: ["" : 23]>
    layer (float[b, s, {WIDTH}] x, int64[b, s] padding, float[b, 4, s, s] given)
      => (float[b, s, {value}] y)
    <float zero = {{0}}, float low = {{-inf}}, int64[2] axes = {{1, 2}}>
    {{ {" ".join(lines)} }}
    """
    message = onnx.parser.parse_model(text)
    for name, array in weights.items():
        message.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return ir.from_proto(message)


def feed() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    padding = np.ones((3, 5), np.int64)
    padding[0, 3:], padding[1] = 0, 0
    given = random.standard_normal((3, 4, 5, 5)).astype(np.float32)
    given[2, :, 1] = -np.inf
    x = random.standard_normal((3, 5, WIDTH)).astype(np.float32)
    return {"x": x, "padding": padding, "given": given}


@pytest.mark.parametrize(
    ("form", "mask"),
    [
        ("Attention with weights", "none"),
        ("Attention with weights", "bias"),
        ("Attention with weights", "padded"),
        ("Attention with weights (causal)", "causal"),
        (HIDE, "padded"),
    ],
)
@pytest.mark.parametrize(
    "changes",
    [{}, {"biases": False}, {"merged": True}, {"gemm": True}, {"value": 16}, {"split": True},
     {"merged": True, "split": True, "value": 16}],
)  # fmt: skip
def test_equals_the_operator(form: str, mask: str, changes: dict[str, Any]) -> None:
    model = model_of(mask=mask, **changes)
    lowered = model.clone()
    outcome = LowerAttention().apply(lowered, make_context(choosing(form), sizes=SIZES))
    assert outcome.rewrites == 1
    onnx.checker.check_model(ir.to_proto(lowered), full_check=True)
    operators = [node.op_type for node in lowered.graph]
    assert operators.count("Attention") == 1
    assert not {"MatMul", "Split"} & set(operators)
    assert sum(item.const_value.nbytes for item in lowered.graph.initializers.values()) < (  # type: ignore[union-attr]
        sum(item.const_value.nbytes for item in model.graph.initializers.values()) + 600  # type: ignore[union-attr]
    )
    mine, theirs = (run_model(item, [feed()])[0]["y"] for item in (model, lowered))
    assert np.isfinite(theirs).all()
    for row in range(3):
        assert relative_l2(mine[row], theirs[row]) < 1e-6


@pytest.mark.parametrize("mask", ["none", "bias", "causal"])
@pytest.mark.parametrize("biases", [True, False])
def test_packed_heads_are_laid_out_as_documented(mask: str, biases: bool) -> None:
    """Unpacked as the operator documents it, the product is queries, keys and values.

    The kernel for processors does not take it packed, so it runs with the three taken apart.
    """
    model = model_of(mask=mask, biases=biases)
    name = f"MultiHeadAttention (packed{', causal' if mask == 'causal' else ''})"
    lowered = model.clone()
    context = make_context(choosing(name), sizes=SIZES)
    context = Context(**{**vars(context), "provider": "cuda"})
    assert LowerAttention().apply(lowered, context).rewrites == 1
    node = next(item for item in lowered.graph if item.op_type == "MultiHeadAttention")
    packed = node.inputs[0]
    assert packed is not None and not any(node.inputs[1:3])
    node.resize_inputs(max(3, len(node.inputs)))
    for index in range(3):
        place = ir.Value(name=f"place{index}", const_value=ir.tensor(np.array(index)))
        lowered.graph.register_initializer(place)
        part = ir.node("Gather", [packed, place], {"axis": 3})
        shape = ir.Value(name=f"flat{index}", const_value=ir.tensor(np.array([0, 0, 32])))
        lowered.graph.register_initializer(shape)
        flat = ir.node("Reshape", [part.outputs[0], shape])
        lowered.graph.insert_before(node, [part, flat])
        node.replace_input_with(index, flat.outputs[0])
    mine, theirs = (run_model(item, [feed()])[0]["y"] for item in (model, lowered))
    assert relative_l2(mine, theirs) < 1e-6


def _give(model: ir.Model, value: ir.Value) -> None:
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["b", "s", 32])
    model.graph.outputs.append(value)


@pytest.mark.parametrize("changes", [{"shared": True}, {"output": True}, {"second": True}])
def test_products_that_are_needed_elsewhere_stay(changes: dict[str, Any]) -> None:
    model = model_of(shared=changes.get("shared", False))
    if "output" in changes:
        value = next(item.outputs[0] for item in model.graph if item.outputs[0].name == "q")
        _give(model, value)
    if "second" in changes:
        source, weight = model.graph.inputs[0], model.graph.initializers["wv"]
        node = ir.node("MatMul", [source, weight])
        node.outputs[0].name = "again"
        model.graph.append(node)
        _give(model, node.outputs[0])
    before = model.clone()
    context = make_context(choosing("Attention with weights"), sizes=SIZES)
    assert LowerAttention().apply(model, context).rewrites == 0
    assert identical(before, model)


def test_weights_are_put_together_while_they_are_written() -> None:
    model = model_of()
    LowerAttention().apply(model, make_context(choosing(HIDE), sizes=SIZES))
    weight = next(item for item in model.graph if item.op_type == "Attention").inputs[1]
    assert weight is not None and isinstance(weight.const_value, ir.LazyTensor)
    assert not weight.const_value.cache
