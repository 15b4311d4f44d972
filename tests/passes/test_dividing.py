"""Dividing an activation and multiplying the weights that read it changes no answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from harness import made_up, run_model
from onnx import TensorProto, helper
from samples import Builder

from burnish.optimizer.analysis.products import Product, find_products, groups
from burnish.optimizer.contract import relative_l2
from burnish.passes.compress.smoothing.dividing import Divided, divide_all

WIDTH, INNER = 16, 48


def start() -> Builder:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    return b


def finish(b: Builder) -> ir.Model:
    b.linear("inner", "y", INNER, WIDTH)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    model = b.model(18)
    # Inference would say so.
    for node in model.graph:
        for value in node.outputs:
            value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
    return model


def gated(b: Builder, up: str = "up") -> Builder:
    b.linear("x", "gate", WIDTH, INNER)
    b.op("Sigmoid", ["gate"], "share")
    b.op("Mul", ["gate", "share"], "silu")
    b.op("Mul", ["silu", up], "inner")
    return b


def swiglu() -> ir.Model:
    b = start()
    b.linear("x", "up", WIDTH, INNER)
    return finish(gated(b))


def gemm_swiglu() -> ir.Model:
    """Two-dimensional, the weight of `up` stored the other way round and its bias scaled."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", WIDTH])
    b.normal("w", INNER, WIDTH)
    b.normal("b", INNER)
    b.op("Gemm", ["x", "w", "b"], "up", transB=1, alpha=0.5, beta=2.0)
    gated(b)
    b.linear("inner", "y", INNER, WIDTH)
    b.output("y", TensorProto.FLOAT, ["batch", WIDTH])
    return b.model(18)


def turned_swiglu() -> ir.Model:
    """A weight behind a transpose, without a bias."""
    b = start()
    b.normal("w", INNER, WIDTH)
    b.op("Transpose", ["w"], "turned", perm=[1, 0])
    b.op("MatMul", ["x", "turned"], "up")
    return finish(gated(b))


def merged_swiglu() -> ir.Model:
    b = start()
    b.linear("x", "both", WIDTH, 2 * INNER)
    b.constant("sizes", [INNER, INNER], np.int64)
    b.nodes.append(helper.make_node("Split", ["both", "sizes"], ["gate", "up"], axis=-1))
    b.op("Sigmoid", ["gate"], "share")
    b.op("Mul", ["gate", "share"], "silu")
    b.op("Mul", ["up", "silu"], "inner")
    return finish(b)


def rectified(operator: str = "Relu", **attributes: Any) -> ir.Model:
    b = start()
    b.linear("x", "up", WIDTH, INNER)
    b.op(operator, ["up"], "inner", **attributes)
    return finish(b)


def leaky() -> ir.Model:
    return rectified("LeakyRelu", alpha=0.1)


def parametric() -> ir.Model:
    b = start()
    b.linear("x", "up", WIDTH, INNER)
    b.op("PRelu", ["up", b.normal("slopes", INNER)], "inner")
    return finish(b)


def straight() -> ir.Model:
    b = start()
    b.linear("x", "inner", WIDTH, INNER)
    return finish(b)


def normalized() -> ir.Model:
    b = start()
    b.norm("x", "normed", WIDTH)
    b.linear("normed", "y", WIDTH, WIDTH)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    return b.model(18)


def residual() -> ir.Model:
    b = start()
    b.norm("x", "normed", WIDTH)
    b.linear("normed", "wide", WIDTH, 2 * WIDTH)
    b.op("Relu", ["normed"], "rest")
    b.output("wide", TensorProto.FLOAT, ["batch", "sequence", 2 * WIDTH])
    b.output("rest", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    return b.model(18)


FOLDED = [
    swiglu, gemm_swiglu, turned_swiglu, merged_swiglu, rectified, leaky, parametric, straight,
    normalized,
]  # fmt: skip


def divided(model: ir.Model, *, real: bool = True) -> tuple[ir.Model, Divided]:
    """With the last activation that can be divided by anything from 1/8 to 8, in float."""
    after = model.clone()
    random = np.random.default_rng(1)

    def divisor(members: Sequence[Product]) -> np.ndarray:
        return np.exp2(random.uniform(-3, 3, members[0].k)).astype(np.float32)

    last = groups(find_products(after)[0])[-1]
    outcome = divide_all(after, [last], divisor, {}, real=real)
    for members, by in outcome.groups:
        for member in members if by is not None else ():
            tensor = member.weight.const_value
            assert tensor is not None
            whole = by[None, :] if member.transposed else by[:, None]
            member.weight.const_value = ir.tensor(tensor.numpy() * whole)
    return after, outcome


def kinds(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize("make", [*FOLDED, residual])
def test_no_answer_changes(make: Callable[[], ir.Model]) -> None:
    model = make()
    after, outcome = divided(model)
    assert outcome.count == 1
    feeds = made_up(model)
    assert feeds
    for mine, theirs in zip(run_model(model, feeds), run_model(after, feeds), strict=True):
        for name in mine:
            assert relative_l2(mine[name], theirs[name]) < 1e-6


@pytest.mark.parametrize("make", FOLDED)
def test_it_costs_nothing(make: Callable[[], ir.Model]) -> None:
    model = make()
    after, outcome = divided(model)
    assert kinds(after) == kinds(model)
    # What is divided on the way is called otherwise, and says where its error is.
    names = {value.name for node in after.graph for value in node.outputs}
    lost = {value.name for node in model.graph for value in node.outputs} - names
    assert lost
    assert all(f"{name}_smooth" in names for name in lost)
    assert set(outcome.hidden) <= lost
    assert list(outcome.hidden.values()) == ([] if make is normalized else [("y",)])


def test_a_residual_costs_a_mul() -> None:
    model = residual()
    after, outcome = divided(model)
    assert kinds(after) == ["LayerNormalization", "Mul", "MatMul", "Add", "Relu"]
    assert not outcome.hidden


def test_a_chain_is_divided_at_each_link() -> None:
    """The error of each product is in the last one."""
    b = start()
    for source, target in (("x", "a"), ("ra", "b"), ("rb", "y")):
        b.linear(source, target, WIDTH, WIDTH)
        b.op("Relu", [target], f"r{target}")
    b.output("ry", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    model = b.model(18)
    after = model.clone()
    found = groups(find_products(after)[0])
    by = np.linspace(0.5, 2, WIDTH).astype(np.float32)
    outcome = divide_all(after, found, lambda members: by, {}, real=True)
    assert outcome.hidden == {"a": ("b",), "b": ("y",)}
    assert [divisor is not None for _, divisor in outcome.groups] == [False, True, True]


def reads_elsewhere(name: str) -> Callable[[ir.Model], None]:
    def change(model: ir.Model) -> None:
        value = next(v for node in model.graph for v in node.outputs if v.name == name)
        node = ir.node("Tanh", [value])
        node.outputs[0].name, node.outputs[0].type = "more", ir.TensorType(ir.DataType.FLOAT)
        model.graph.append(node)
        model.graph.outputs.append(node.outputs[0])

    change.__name__ = f"{name} is read elsewhere"
    return change


def is_output(model: ir.Model) -> None:
    value = next(v for node in model.graph for v in node.outputs if v.name == "up")
    model.graph.outputs.append(value)


def squared(model: ir.Model) -> None:
    """The product of a value with itself grows with the square."""
    node = next(node for node in model.graph if node.outputs[0].name == "inner")
    up = next(v for n in model.graph for v in n.outputs if v.name == "up")
    node.replace_input_with(0, up)
    node.replace_input_with(1, up)


def bent(model: ir.Model) -> None:
    """Nothing linear."""
    node = next(node for node in model.graph if node.outputs[0].name == "inner")
    tanh = ir.node("Tanh", [node.inputs[1]])
    model.graph.insert_before(node, tanh)
    node.replace_input_with(1, tanh.outputs[0])


def shared_weight(model: ir.Model) -> None:
    source = model.graph.initializers["up.weight"]
    node = ir.node("Transpose", [source], {"perm": (1, 0)})
    node.outputs[0].name, node.outputs[0].type = "more", ir.TensorType(ir.DataType.FLOAT)
    model.graph.append(node)
    model.graph.outputs.append(node.outputs[0])


@pytest.mark.parametrize(
    "change",
    [
        reads_elsewhere("up"), reads_elsewhere("inner"), reads_elsewhere("up.product"), is_output,
        squared, bent, shared_weight,
    ],
    ids=lambda item: item.__name__,
)  # fmt: skip
def test_left_alone(change: Callable[[ir.Model], None]) -> None:
    model = swiglu()
    change(model)
    after, outcome = divided(model)
    assert outcome.count == 0
    assert kinds(after) == kinds(model)


def test_only_normalizations_are_divided_by_what_made_up_inputs_say() -> None:
    assert divided(swiglu(), real=False)[1].count == 0
    assert divided(normalized(), real=False)[1].count == 1


def test_a_transpose_that_two_products_share_is_not_one_products_own() -> None:
    b = start()
    b.normal("w", WIDTH, WIDTH)
    b.op("Transpose", ["w"], "turned", perm=[1, 0])
    b.norm("x", "normed", WIDTH)
    b.op("MatMul", ["x", "turned"], "a")
    b.op("MatMul", ["normed", "turned"], "y")
    for name in "ay":
        b.output(name, TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    assert divided(b.model(18))[1].count == 0


def test_a_divided_weight_is_the_same_tensor_each_time() -> None:
    """So that what was made of it is found again."""
    memo: dict[Any, Any] = {}
    model = rectified()
    by = np.linspace(0.5, 2, INNER).astype(np.float32)
    found = []
    for _ in range(2):
        after = model.clone()
        divide_all(after, groups(find_products(after)[0]), lambda _: by, memo, real=True)
        found.append(after.graph.initializers["up.weight_smooth"].const_value)
    assert found[0] is found[1]
    exact = model.graph.initializers["up.weight"].const_value
    assert exact is not None
    # What stands out is divided; what does not is not multiplied.
    larger = np.maximum(by, np.median(by)) / np.median(by)
    np.testing.assert_allclose(found[0].numpy() * larger, exact.numpy(), rtol=1e-6)
