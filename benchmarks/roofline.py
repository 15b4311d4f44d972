"""How near float32 is to the limit of the machine.

    python benchmarks/roofline.py MODEL [--shape 8,128]

The limit is what the work would take if nothing else were done: for each matrix product the best
time of a model that holds it alone, at its own shape, and for each normalization, softmax and
activation one pass through memory, reading and writing, at the rate of a copy. Both are measured in
the same run as the model, in turns, on the same threads. Stock sessions, default options. The limit
is of best times, so the model's best time is what compares with it; on a machine whose speed drifts
the median says more about the machine.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

PASSES = {
    "LayerNormalization", "SkipLayerNormalization", "RMSNormalization", "Softmax", "Gelu",
    "BiasGelu", "FastGelu", "QuickGelu", "Relu",
}  # fmt: skip
PRODUCTS = {"MatMul", "FusedMatMul", "Gemm"}
ROUNDS = 15


def session(message: onnx.ModelProto | str) -> onnxruntime.InferenceSession:
    """A stock session on the processor."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    content = message if isinstance(message, str) else message.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def made_up(model: onnxruntime.InferenceSession, batch: int, length: int) -> dict[str, np.ndarray]:
    """Ids over the vocabulary, nothing masked."""
    random = np.random.default_rng(0)
    feed = {}
    for port in model.get_inputs():
        shape = [size if isinstance(size, int) else batch for size in port.shape[:1]]
        shape += [size if isinstance(size, int) else length for size in port.shape[1:]]
        if "float" in port.type:
            feed[port.name] = random.standard_normal(shape).astype(np.float32)
        elif "mask" in port.name:
            feed[port.name] = np.ones(shape, np.int64)
        else:
            feed[port.name] = random.integers(0, 2 if "type" in port.name else 1000, shape)
    return feed


def inner(path: str, feed: dict[str, np.ndarray]) -> tuple[Counter[tuple], list[int]]:
    """Shapes of the products (left, right, whether the right one is a weight); bytes of passes."""
    model = onnx.load(path)
    weights = {item.name: tuple(item.dims) for item in model.graph.initializer}
    wanted = {
        name
        for node in model.graph.node
        if node.op_type in PRODUCTS | PASSES | {"Attention"}
        for name in (*node.input, *node.output)
        if name and name not in weights
    }
    known = {item.name for item in model.graph.output} | set(feed)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted - known))
    probe = session(model)
    names = [item.name for item in probe.get_outputs()]
    shapes = {name: value.shape for name, value in zip(names, probe.run(None, feed), strict=True)}
    shapes |= {name: value.shape for name, value in feed.items()} | weights
    products: Counter[tuple] = Counter()
    passes = []
    for node in model.graph.node:
        if node.op_type in PRODUCTS:
            left, right = shapes[node.input[0]], shapes[node.input[1]]
            turned = any(item.name == "transB" and item.i for item in node.attribute)
            products[left, right, node.input[1] in weights, turned] += 1
        elif node.op_type == "Attention":
            _attention(node, shapes, products, passes)
        elif node.op_type in PASSES:
            passes.append(8 * math.prod(shapes[node.output[0]]))
    return products, passes


def _attention(node: onnx.NodeProto, shapes: dict, products: Counter, passes: list[int]) -> None:
    """Both products of the operator, and the pass of its softmax."""
    heads = next((item.i for item in node.attribute if item.name == "q_num_heads"), 0)
    query, key, value = (shapes[name] for name in node.input[:3])
    if heads:
        query, key, value = (
            (item[0], heads, item[1], item[2] // heads) for item in (query, key, value)
        )
    scores = (*query[:3], key[2])
    products[query, key, False, True] += 1
    products[scores, value, False, False] += 1
    passes.append(8 * math.prod(scores))


def alone(left: tuple, right: tuple, weight: bool, turned: bool) -> onnx.ModelProto:
    """One product as a model."""
    inputs = [helper.make_tensor_value_info("a", TensorProto.FLOAT, left)]
    tensors = []
    if weight:
        values = np.random.default_rng(0).standard_normal(right).astype(np.float32)
        tensors.append(onnx.numpy_helper.from_array(values, "b"))
    else:
        inputs.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, right))
    node = helper.make_node(
        "FusedMatMul", ["a", "b"], ["y"], domain="com.microsoft", transB=int(turned)
    )
    graph = helper.make_graph(
        [node],
        "alone",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def copy_rate() -> float:
    """Bytes read and written a second by a copy that no cache holds."""
    source = np.ones(1 << 26, np.float32)
    target = np.empty_like(source)
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best


def timed(model: onnxruntime.InferenceSession, feed: dict[str, np.ndarray]) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    model.run(None, feed)
    return time.perf_counter() - start


def main() -> None:
    """Print the limit, the time, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--shape", default="8,128", help="rows and tokens")
    options = parser.parse_args()
    batch, length = map(int, options.shape.split(","))
    whole = session(str(options.model))
    feed = made_up(whole, batch, length)
    products, passes = inner(str(options.model), feed)
    best, taken = dict.fromkeys(products, math.inf), []
    random = np.random.default_rng(0)
    for _ in range(3):
        taken += [timed(whole, feed) for _ in range(ROUNDS)]
        for product in products:
            single = session(alone(*product))
            sizes = zip(single.get_inputs(), product[:2], strict=False)
            arrays = {port.name: random.random(size, np.float32) for port, size in sizes}
            best[product] = min(best[product], *(timed(single, arrays) for _ in range(ROUNDS)))
    multiplied = sum(best[product] * count for product, count in products.items())
    moved = sum(passes) / copy_rate()
    limit, median = multiplied + moved, float(np.median(taken))
    print("| model | products ms | passes ms | limit ms | least ms | over | median ms | over |")
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| {options.model.name} | {1e3 * multiplied:.1f} | {1e3 * moved:.1f} | {1e3 * limit:.1f} "
        f"| {1e3 * min(taken):.1f} | {min(taken) / limit - 1:+.1%} "
        f"| {1e3 * median:.1f} | {median / limit - 1:+.1%} |"
    )


if __name__ == "__main__":
    main()
