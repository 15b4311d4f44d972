"""Products with structured, low-rank and sparse weights: where each form begins to pay.

    python benchmarks/windows/products.py [--only channels,columns,blocks,tiles,kronecker,...]

prints a table for each form: small models of the sizes named, the form against the dense product.
Times are those of the processor on one thread, so that other work on the machine disturbs them
less: medians over pairs of blocks that alternate in one process, and in brackets the middle half of
the pairs. Weights are random. Low rank with real weights is in `low_rank.py` beside this.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper

from burnish.passes.compress.low_rank import low_rank
from burnish.passes.lower.sparse.encoding import MASK, STEPS, smallest, with_fillers
from burnish.passes.lower.sparse.sparse_storage import SparseStorage
from burnish.passes.restructure.sparse.forms import Apart, Batched, Form, TwoProducts
from burnish.passes.restructure.sparse.sample import Sample, sparse_layers
from burnish.passes.restructure.sparse.structure import (
    Block,
    Kronecker,
    by_support,
    fewer,
)

SECONDS = 1.0
"""Time given to each comparison."""

BLOCK_SECONDS = 0.02
"""Length of a block of runs."""

ROWS = ((8, 128), (1, 8))
"""Axes before the channels: a batch of sentences, and a few tokens."""

Build = Callable[[], onnx.ModelProto | bytes]


@dataclass(frozen=True)
class Ratio:
    """Times of two models on one thread.

    Attributes:
        ms: of the first, the median.
        middle, low, high: median of the ratios of pairs, first over second, and where the middle
            half of them lies.
    """

    ms: float
    middle: float
    low: float
    high: float


def compared(first: Build, second: Build, feed: dict[str, np.ndarray] | None = None) -> Ratio:
    """The second model against the first, in turn, in one process; by default on normal numbers."""
    sessions = [opened(build()) for build in (first, second)]
    port = sessions[0].get_inputs()[0]
    feed = feed or {port.name: np.random.default_rng(1).standard_normal(port.shape, np.float32)}
    runs = max(
        1, int(BLOCK_SECONDS / max(1e-6, min(block(sessions[0], feed, 1) for _ in range(3))))
    )
    pairs = []
    deadline = time.monotonic() + SECONDS
    while len(pairs) < 9 or time.monotonic() < deadline:
        order = (0, 1) if len(pairs) % 2 else (1, 0)
        taken = {index: block(sessions[index], feed, runs) for index in order}
        pairs.append((taken[0], taken[1]))
    times = np.array(pairs)
    low, middle, high = np.percentile(times[:, 0] / times[:, 1], (25, 50, 75))
    return Ratio(float(np.median(times[:, 0])) / runs * 1e3, middle, low, high)


def opened(message: onnx.ModelProto | bytes) -> onnxruntime.InferenceSession:
    """A session on one thread."""
    message = message if isinstance(message, bytes) else message.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(message, options, providers=["CPUExecutionProvider"])


def block(session: onnxruntime.InferenceSession, feed: dict[str, np.ndarray], runs: int) -> float:
    """Seconds of the processor that so many runs take."""
    start = time.process_time()
    for _ in range(runs):
        session.run(None, feed)
    return time.process_time() - start


def told(ratio: Ratio) -> str:
    """A ratio with where the middle half of the pairs lies."""
    return f"{ratio.ms:.3f} | {ratio.middle:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def head(*titles: str) -> None:
    """The first two lines of a table."""
    print(f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)


def line(*cells: object) -> None:
    """A line of a table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def channels() -> None:
    """Hidden channels cut on both sides."""
    head("rows", "k x hidden x n", "channels cut", "ms whole", "times faster")
    for rows in (1024, 8):
        for k, hidden in ((384, 1536), (768, 3072)):
            for cut in (16, hidden // 16, hidden // 8, hidden // 4, hidden // 2):
                wide, narrow = (k, hidden, k), (k, hidden - cut, k)
                ratio = compared(
                    lambda rows=rows, sizes=wide: sparse_layers(rows, sizes, 1),
                    lambda rows=rows, sizes=narrow: sparse_layers(rows, sizes, 1),
                )
                line(rows, f"{k} x {hidden} x {k}", f"{cut} ({cut / hidden:.1%})", told(ratio))


def form_against_whole(axes: tuple[int, ...], k: int, n: int, form: Form) -> str:
    """A form against the dense product."""
    sample = Sample(axes, k, n)
    return told(compared(lambda: sample.build(None), lambda: sample.build(form)))


SHARES = (0.0625, 0.125, 0.25, 0.5)


def columns() -> None:
    """Zero columns that are put back, and zero rows that are taken out."""
    head("rows", "k x n", "zero", "order", "share", "ms whole", "times faster")
    random = np.random.default_rng(0)
    for axes in ROWS:
        for k, n in ((384, 384), (768, 768), (768, 3072)):
            for what, size in (("columns", n), ("rows", k)):
                for order, tile in (("scattered", 1), ("in tiles of 16", 16)):
                    for share in SHARES:
                        parts = size // tile
                        kept = np.sort(random.permutation(parts)[: parts - int(parts * share)])
                        kept = (kept[:, None] * tile + np.arange(tile)).ravel()
                        rows, width = (
                            (kept, np.arange(n)) if what == "rows" else (np.arange(k), kept)
                        )
                        form = Apart((Block(rows, width),), n)
                        cells = (
                            "x".join(map(str, axes)),
                            f"{k} x {n}",
                            what,
                            order,
                            f"{share:.1%}",
                        )
                        line(*cells, form_against_whole(axes, k, n, form))


def blocks() -> None:
    """Block-diagonal weights, in order and in any order."""
    head("rows", "k x n", "blocks", "order", "form", "ms whole", "times faster")
    random = np.random.default_rng(0)
    for axes in ROWS:
        for k, n in ((384, 384), (768, 768), (768, 3072)):
            for count in (2, 4, 12):
                for order in ("in order", "scattered"):
                    rows, width = np.arange(k), np.arange(n)
                    if order == "scattered":
                        rows, width = random.permutation(k), random.permutation(n)
                    parts = tuple(
                        Block(np.sort(a), np.sort(b))
                        for a, b in zip(np.split(rows, count), np.split(width, count), strict=True)
                    )
                    for form in (Apart(parts, n), Batched(parts, n)):
                        cells = ("x".join(map(str, axes)), f"{k} x {n}", count, order, form.name)
                        line(*cells, form_against_whole(axes, k, n, form))


def tiles() -> None:
    """Random tiles that are zero."""
    head("rows", "k x n", "tile", "zero", "form", "work left", "ms whole", "times faster")
    random = np.random.default_rng(0)
    for k, n in ((768, 768), (768, 3072)):
        for tile in (64, 128, 256):
            for share in (0.5, 0.75, 0.9):
                mask = np.kron(
                    random.random((k // tile, n // tile)) >= share, np.ones((tile, tile))
                )
                found = by_support(mask.astype(bool))
                for most in sorted({min(most, len(found)) for most in (2, 4, 8)} - {0}):
                    form = Apart(tuple(fewer(found, most)), n)
                    cells = (
                        f"{k} x {n}",
                        tile,
                        f"{share:.0%}",
                        form.name,
                        f"{form.work / k / n:.0%}",
                    )
                    line("8x128", *cells, form_against_whole((8, 128), k, n, form))


def kronecker() -> None:
    """Kronecker products."""
    head("rows", "k x n", "form", "work left", "ms whole", "times faster")
    random = np.random.default_rng(0)
    for axes in ROWS:
        for k, n, shapes in (
            (384, 384, ((2, 2), (16, 16), (192, 192))),
            (768, 768, ((2, 2), (24, 24), (384, 384))),
            (768, 3072, ((2, 2), (24, 48), (384, 1536))),
        ):
            for a, b in shapes:
                left = random.standard_normal((a, b)).astype(np.float32)
                right = random.standard_normal((k // a, n // b)).astype(np.float32)
                for way in (False, True):
                    form = TwoProducts(Kronecker(left, right), way)
                    cells = ("x".join(map(str, axes)), f"{k} x {n}", form.name)
                    times = form_against_whole(axes, k, n, form)
                    line(*cells, f"{form.work / k / n:.1%}", times)


def rank() -> None:
    """Two products of low rank, by the share of the multiplications that they do."""
    head("rows", "k x n", "rank", "work left", "ms whole", "times faster")
    for rows in (1024, 8):
        for k, n in ((384, 384), (384, 1536), (768, 768), (768, 3072)):
            for share in (1.0, 0.9, 0.75, 0.5, 0.25):
                size = max(16, int(share * k * n / (k + n)) // 16 * 16)
                ratio = compared(
                    lambda rows=rows, k=k, n=n: low_rank.sample(rows, k, n),
                    lambda rows=rows, k=k, n=n, size=size: low_rank.sample(rows, k, n, size),
                )
                line(rows, f"{k} x {n}", size, f"{size * (k + n) / k / n:.0%}", told(ratio))


def storage() -> None:
    """Bytes of a weight by form, and what loading it costs."""
    forms = ("dense", "mask", *STEPS, "CSR", "sparse_initializer", "taken")
    loaded = ("load ms: dense", "expanded", "sparse_initializer")
    head("size", "not zero", *(f"MB {form}" for form in forms[:-1]), forms[-1], *loaded)
    for size in (768, 3072):
        for share in (0.5, 0.3, 0.15, 0.1, 0.05, 0.01, 0.001):
            random = np.random.default_rng(0)
            weight = random.standard_normal((size, size), np.float32)
            weight[random.random((size, size)) >= share] = 0
            count = np.count_nonzero(weight)
            nbytes = sizes(weight)
            models = {form: model(weight, form) for form in ("dense", "expanded", "sparse")}
            times = [f"{loading(message):.1f}" for message in models.values()]
            found = smallest(ir.Tensor(weight))
            cells = [f"{item / 1e6:.3f}" for item in nbytes.values()]
            line(f"{size} x {size}", f"{count / weight.size:.1%}", *cells, found.form, *times)


def sizes(weight: np.ndarray) -> dict[str, int]:
    """Bytes of what is stored in each form."""
    positions = np.flatnonzero(weight)
    found = {"dense": weight.nbytes, MASK: -(-weight.size // 8) + 4 * len(positions) + 4}
    for form, kind in STEPS.items():
        found[form] = len(with_fillers(positions, kind)) * (np.dtype(kind).itemsize + 4)
    found["CSR"] = len(positions) * 6 + 4 * (len(weight) + 1)
    found["sparse_initializer"] = len(positions) * 12
    return found


def model(weight: np.ndarray, form: str) -> bytes:
    """A product with the weight stored in a form."""
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", size])
        for name, size in zip("xy", weight.shape, strict=True)
    ]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    dense = [onnx.numpy_helper.from_array(weight, "w")] if form != "sparse" else []
    positions = np.flatnonzero(weight)
    sparse = [
        helper.make_sparse_tensor(
            onnx.numpy_helper.from_array(weight.reshape(-1)[positions], "w"),
            onnx.numpy_helper.from_array(positions, "places"),
            weight.shape,
        )
    ]
    graph = helper.make_graph(
        [node], "product", ports[:1], ports[1:], dense, sparse_initializer=[] if dense else sparse
    )
    opset = [helper.make_opsetid("", 17)]
    message = helper.make_model(graph, opset_imports=opset, ir_version=8)
    if form == "expanded":
        parsed = ir.from_proto(message)
        # Nothing is measured or run by this pass, so that it needs no context.
        SparseStorage().apply(parsed, None)  # type: ignore[arg-type]
        message = ir.to_proto(parsed)
    found: bytes = message.SerializeToString()
    return found


def loading(message: bytes) -> float:
    """Milliseconds of the processor until a session is there: the median of nine."""
    times = []
    for _ in range(9):
        start = time.process_time()
        opened(message)
        times.append(time.process_time() - start)
    return float(np.median(times)) * 1e3


TABLES = {
    item.__name__: item for item in (channels, columns, blocks, tiles, kronecker, rank, storage)
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(TABLES))
    arguments = parser.parse_args()
    for name in arguments.only.split(","):
        print(f"\n### {TABLES[name].__doc__}")
        TABLES[name]()


if __name__ == "__main__":
    main()
