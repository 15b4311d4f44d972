"""Two linear layers in a row as one: (x @ a + c) @ b + d == x @ (a @ b) + (c @ b + d)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import only_reader
from burnish.optimizer.analysis.products import Product, find_products, label, shape_of
from burnish.optimizer.computed import Part, lazy
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
    alone = only_reader(value) is not None
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
    graph, old, name = second.graph, second.output, second.output.name
    inputs = [value for node in second.nodes for value in node.inputs]
    weight, bias = _constants(first, second)
    made = [ir.node("MatMul", [first.activation, weight])]
    if bias is not None:
        made.append(ir.node("Add", [made[0].outputs[0], bias]))
    for node in made:
        node.outputs[0].type, node.outputs[0].shape = ir.TensorType(FLOAT), old.shape
    graph.insert_before(second.nodes[0], made)
    result = made[-1].outputs[0]
    ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
    graph.remove(reversed(second.nodes), safe=True)
    prune(inputs)
    result.name = name
    return Product(tuple(made), first.activation, weight, False, bias, 1.0, 1.0, result)


def _constants(first: Product, second: Product) -> tuple[ir.Value, ir.Value | None]:
    """The weight [k, n] and the bias [n] of both; they are computed while they are written."""
    home, name = second.weight.graph, f"{second.weight.name}_composed"
    assert isinstance(home, ir.Graph)
    left, right = (_array(item.weight, item.transposed) for item in (first, second))
    weight = lazy((first.k, second.n), FLOAT, lambda: (left() @ right()).astype(np.float32))
    value = add_initializer(home, name, weight)
    if first.bias is None:
        return value, second.bias
    carried = _array(first.bias)
    own = _array(second.bias) if second.bias is not None else lambda: np.float64(0)
    bias = lazy((second.n,), FLOAT, lambda: (carried() @ right() + own()).astype(np.float32))
    return value, add_initializer(home, f"{name}_bias", bias)


def _array(value: ir.Value, transposed: bool = False) -> Callable[[], Array]:
    """Reads a constant in float64."""
    assert value.const_value is not None
    part = Part(value.const_value, shape_of(value), transposed)
    return lambda: part.array(FLOAT).astype(np.float64)
