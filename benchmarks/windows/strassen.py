"""One level of Strassen's product, in standard operators, against ONNX Runtime's own.

    python benchmarks/windows/strassen.py [--sizes 512x768x3072,4096x4096x4096] [--seconds 4]

`x [m, k] @ w [k, n]` with a constant weight, as one `MatMul` and in Winograd's variant of
Strassen's algorithm (Strassen 1969; Winograd 1971): seven products of half the sizes, 4 sums of
quarters of `x`, 7 sums of products. The 4 sums of the weight's quarters are constants. The quarters
of `x` are views for no kernel, so they are copied by `Slice`, and the result is put together by
`Concat`. Both are timed in alternating blocks, in processes of their own.

The bound is what sums and copies leave of the eighth of the work that is saved: `m k n / 4`
operations at the rate of the product, less the bytes of the other operators at the rate of a sum
that no cache holds. Above it come only sizes of which caches hold the quarters.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from burnish.optimizer import sandbox
from burnish.optimizer.contract import relative_l2
from burnish.optimizer.measure import Contest, Entrant
from burnish.optimizer.sandbox import Limits
from burnish.runtimes.arrays import write_arrays

STOPWATCH = "burnish.runtimes.work:stopwatch"

SIZES = (
    "512x768x768,512x768x3072,512x3072x768,1024x1024x4096,2048x1024x1024,1024x2048x2048,"
    "2048x2048x2048,1024x2048x8192,2048x2048x8192,1024x4096x4096,2048x4096x4096,4096x4096x4096,"
    "1024x4096x11008"
)
"""Rows and weights of BERT, GPT-2 medium, models of 1 and of 7 billion parameters."""


class Writer:
    """Collects the nodes and weights of a model of one input `x`."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, **attributes: int) -> str:
        """The output of a new node."""
        name = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, array: np.ndarray) -> str:
        """A constant."""
        name = f"constant{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def message(self, m: int, k: int, n: int, result: str) -> onnx.ModelProto:
        """The model; it gives one row, as a whole output would get memory of its own each run."""
        first, one = (self.constant(np.array([item], np.int64)) for item in (0, 1))
        row = self.op("Slice", result, first, one, first)
        ports = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("x", [m, k]), (row, [1, n]))
        ]
        graph = helper.make_graph(self.nodes, "product", ports[:1], ports[1:], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def plain(m: int, w: np.ndarray) -> onnx.ModelProto:
    """The product as it is."""
    writer = Writer()
    return writer.message(m, *w.shape, writer.op("MatMul", "x", writer.constant(w)))


def strassen(m: int, w: np.ndarray) -> onnx.ModelProto:
    """The product by seven products of halves (Winograd's variant)."""
    writer, (k, n) = Writer(), w.shape
    b11, b12, b21, b22 = (part for half in np.split(w, 2) for part in np.split(half, 2, axis=1))
    t1 = b12 - b11
    t2, t3 = b22 - t1, b22 - b12
    t4 = t2 - b21
    axes = writer.constant(np.array([0, 1], np.int64))

    def quarter(row: int, column: int) -> str:
        bounds = np.array([row * m // 2, column * k // 2], np.int64)
        ends = bounds + np.array([m // 2, k // 2])
        return writer.op("Slice", "x", writer.constant(bounds), writer.constant(ends), axes)

    def product(left: str, right: np.ndarray) -> str:
        return writer.op("MatMul", left, writer.constant(right))

    a11, a12, a21, a22 = (quarter(row, column) for row in (0, 1) for column in (0, 1))
    s1 = writer.op("Add", a21, a22)
    s2, s3 = writer.op("Sub", s1, a11), writer.op("Sub", a11, a21)
    s4 = writer.op("Sub", a12, s2)
    p1 = product(a11, b11)
    u2 = writer.op("Add", p1, product(s2, t2))
    p5 = product(s1, t1)
    u3, u4 = writer.op("Add", u2, product(s3, t3)), writer.op("Add", u2, p5)
    top = (
        writer.op("Add", p1, product(a12, b21)),
        writer.op("Add", u4, product(s4, b22)),
    )
    bottom = (writer.op("Sub", u3, product(a22, t4)), writer.op("Add", u3, p5))
    halves = [writer.op("Concat", *pair, axis=1) for pair in (top, bottom)]
    return writer.message(m, k, n, writer.op("Concat", *halves, axis=0))


def copy_rate() -> float:
    """Bytes read and written a second by the sum of two arrays that no cache holds."""
    first, second = np.ones(1 << 26, np.float32), np.ones(1 << 26, np.float32)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        np.add(first, second, out=second)
        best = min(best, time.perf_counter() - start)
    return 3 * first.nbytes / best


def bound(m: int, k: int, n: int, seconds: float, rate: float) -> float:
    """The best speedup where the products lose nothing and no cache holds the quarters."""
    # Quarters of x: 4 copied, 4 sums; of the result: 7 sums, and two copies of all of it.
    elements = 2 * m * k + 3 * m * k + 7 * 3 * m * n / 4 + 4 * m * n
    return seconds / (seconds * 7 / 8 + 4 * elements / rate)


def rows(sizes: str, seconds: float) -> Iterator[str]:
    """The table, line by line."""
    random, rate = np.random.default_rng(0), copy_rate()
    yield f"A sum that no cache holds reads and writes {rate / 1e9:.1f} GB a second.\n"
    yield "| m x k x n | MatMul ms | GFLOP/s | Strassen ms | times faster | bound | difference |"
    yield "|---|---|---|---|---|---|---|"
    limits = Limits(sandbox.default_memory(), 3600.0)
    for size in sizes.split(","):
        m, k, n = map(int, size.split("x"))
        x = random.standard_normal((m, k), np.float32)
        w = random.standard_normal((k, n), np.float32)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_arrays(folder / "feed", {"x": x})
            entrants, found = {}, []
            for form, build in (("plain", plain), ("strassen", strassen)):
                path = folder / f"{form}.onnx"
                onnx.save(build(m, w), path)
                entrants[form] = Entrant(path, folder / "feed")
                session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
                found.append(session.run(None, {"x": x})[0])
                del session
            with Contest(STOPWATCH, limits) as contest:
                timing = contest.compare(entrants, seconds)["strassen"]
        rate_here = 2e-6 * m * k * n / timing.baseline_ms
        limit = bound(m, k, n, timing.baseline_ms / 1e3, rate)
        yield (
            f"| {size} | {timing.baseline_ms:.2f} | {rate_here:.0f} | {timing.candidate_ms:.2f} "
            f"| {timing.speedup:.3f} ({timing.low:.3f} to {timing.high:.3f}) "
            f"| {limit:.3f} | {relative_l2(*found):.1e} |"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each size")
    options = parser.parse_args()
    for line in rows(options.sizes, options.seconds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
