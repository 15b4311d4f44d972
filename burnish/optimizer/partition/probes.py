"""Small models that show a device's rates: products of given shapes, weights that are streamed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from burnish.optimizer.contract import Array
from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.operators import PRODUCTS

SHAPES = 3
"""Shapes of products that are timed, those with the most work."""

USUAL = (256, 512, 512)
"""Rows, depth and columns of a product where the model has none."""

STREAMED = 1 << 24
"""Elements of the weights that are streamed: more than caches hold."""

Seconds = Callable[[bytes, dict[str, Any]], float]
"""Times a run of a model on some feeds."""


def rates(chain: Chain, seconds: Seconds) -> tuple[float, float]:
    """Operations a second in the model's own products, and bytes a second from memory."""
    shapes = _shapes(chain) or {USUAL: 1.0}
    work = spent = 0.0
    most = sorted(shapes.items(), key=lambda item: -item[1])[:SHAPES]
    for (rows, depth, columns), share in most:
        took = seconds(*product(rows, depth, columns))
        work += share
        spent += share * took / (2.0 * rows * depth * columns)
    side = 1 << (STREAMED.bit_length() // 2)
    took = seconds(*product(1, side, STREAMED // side))
    return work / spent, 4.0 * STREAMED / took


def _shapes(chain: Chain) -> dict[tuple[int, int, int], float]:
    """Operations by rows, depth and columns of the products with a matrix."""
    found: dict[tuple[int, int, int], float] = defaultdict(float)
    for node, atom in zip(chain.nodes, chain.atoms, strict=True):
        weight = node.inputs[1] if atom.kind == PRODUCTS and len(node.inputs) > 1 else None
        if weight is None or weight.const_value is None or not atom.flops:
            continue
        sizes = [int(size) for size in weight.const_value.shape.numpy()]
        if len(sizes) == 2:
            rows = round(atom.flops / (2.0 * math.prod(sizes)))
            turned = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1
            depth, columns = reversed(sizes) if turned else sizes
            found[max(rows, 1), depth, columns] += atom.flops
    return found


def product(rows: int, depth: int, columns: int) -> tuple[bytes, dict[str, Array]]:
    """A product with a stored matrix, and its feeds."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((depth, columns), np.float32) / math.sqrt(depth)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = _model([node], {"x": [rows, depth]}, {"y": [rows, columns]}, {"w": weight})
    return model, {"x": random.standard_normal((rows, depth), np.float32)}


def nothing() -> tuple[bytes, dict[str, Array]]:
    """A run with hardly any work, which shows what any run takes."""
    node = helper.make_node("Neg", ["x"], ["y"])
    return _model([node], {"x": [1]}, {"y": [1]}, {}), {"x": np.ones(1, np.float32)}


def _model(
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, list[int]],
    outputs: Mapping[str, list[int]],
    weights: Mapping[str, Array],
) -> bytes:
    given, made = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side]
        for side in (inputs.items(), outputs.items())
    )
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "probe", given, made, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
