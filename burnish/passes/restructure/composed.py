"""Two linear layers in a row as one: (x @ a + c) @ b + d == x @ (a @ b) + (c @ b + d)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.products import Product, find_products, label, shape_of
from burnish.optimizer.computed import lazy
from burnish.optimizer.contract import Array, Refusal
from burnish.optimizer.model import add_initializer
from burnish.optimizer.pruning import prune

MOST_WORK = 1 << 33
"""Multiplications to put two weights together; they are done anew whenever one is read."""

FLOAT = ir.DataType.FLOAT


def compose(model: ir.Model) -> tuple[int, list[Refusal]]:
    """Compose float32 layers in place where that saves multiplications; how many, and why not."""
    done, refusals = 0, []
    makers: dict[ir.Value, Product] = {}
    for product in find_products(model)[0]:
        # Read from the node: an earlier composition may have replaced what was found with it.
        activation = product.nodes[0].inputs[0]
        current = replace(product, activation=activation or product.activation)
        while (first := makers.get(current.activation)) is not None:
            if not _saves(first, current):
                break
            if reason := _unfit(first, current):
                refusals.append(Refusal(label(current.nodes[0]), reason))
                break
            current = _composed(first, current)
            done += 1
        makers[current.output] = current
    return done, refusals


def _saves(first: Product, second: Product) -> bool:
    """Whether one product for both has fewer multiplications than there are now."""
    value = first.output
    alone = len(value.uses()) == 1 and not value.is_graph_output()
    now = second.k * second.n + (first.k * first.n if alone else 0)
    return first.k * second.n < now


def _unfit(first: Product, second: Product) -> str:
    if first.graph is not second.graph:
        return "the layer before it is in another graph"
    if any(item.alpha != 1.0 or item.beta != 1.0 for item in (first, second)):
        return "a Gemm of the two layers in a row has a factor"
    biases = [item.bias for item in (first, second) if item.bias is not None]
    if any(len(shape_of(bias)) != 1 for bias in biases):
        return "a bias of the two layers in a row has two dimensions"
    if first.k * first.n * second.n > MOST_WORK:
        return "the weights of the two layers in a row are too large to multiply"
    return ""


def _composed(first: Product, second: Product) -> Product:
    """Put one product in place of the second; the first goes where nobody else reads it."""
    anchor, old, home = second.nodes[0], second.output, second.weight.graph
    assert isinstance(home, ir.Graph)
    name, inputs = old.name, [value for node in second.nodes for value in node.inputs]
    weight = add_initializer(
        home,
        f"{second.weight.name}_composed",
        lazy((first.k, second.n), FLOAT, lambda: _rounded(_matrix(first) @ _matrix(second))),
    )
    made = [ir.node("MatMul", [first.activation, weight])]
    bias = second.bias
    if first.bias is not None:
        bias = add_initializer(
            home,
            f"{second.weight.name}_composed_bias",
            lazy((second.n,), FLOAT, lambda: _rounded(_shift(first, second))),
        )
    if bias is not None:
        made.append(ir.node("Add", [made[0].outputs[0], bias]))
    for node in made:
        node.outputs[0].type, node.outputs[0].shape = ir.TensorType(FLOAT), old.shape
    second.graph.insert_before(anchor, made)
    result = made[-1].outputs[0]
    ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
    second.graph.remove(reversed(second.nodes), safe=True)
    prune(inputs)
    result.name = name
    nodes = tuple(made)
    return replace(
        second, nodes=nodes, activation=first.activation, weight=weight, transposed=False, bias=bias,
        output=result,
    )  # fmt: skip


def _matrix(product: Product) -> Array:
    """The weight as [k, n] in float64."""
    array = _array(product.weight)
    return array.T if product.transposed else array


def _shift(first: Product, second: Product) -> Array:
    assert first.bias is not None
    carried = _array(first.bias) @ _matrix(second)
    return carried if second.bias is None else carried + _array(second.bias)


def _array(value: ir.Value) -> Array:
    assert value.const_value is not None
    return value.const_value.numpy().astype(np.float64)


def _rounded(array: Array) -> Array:
    return array.astype(np.float32)
