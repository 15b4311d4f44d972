"""Random small graphs of the kinds of places that passes look for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper
from samples import Builder

WIDTH = 8
HEADS = 2


class Writer(Builder):
    """A builder that counts its places, so that names never meet."""

    def __init__(self, seed: int, opset: int) -> None:
        super().__init__(seed)
        self.opset = opset
        self.count = 0
        self.functions: list[onnx.FunctionProto] = []

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"


def _linear(b: Writer, x: str) -> str:
    return b.linear(x, b.fresh("linear"), WIDTH, WIDTH)


def _shared_input(b: Writer, x: str) -> str:
    first, second = _linear(b, x), _linear(b, x)
    return b.op("Mul", [first, second], b.fresh("gated"))


def _stored_transposed(b: Writer, x: str) -> str:
    name = b.fresh("stored")
    b.normal(f"{name}.weight", WIDTH, WIDTH, scale=0.3)
    b.op("Transpose", [f"{name}.weight"], f"{name}.turned", perm=[1, 0])
    return b.op("MatMul", [x, f"{name}.turned"], name)


def _flat_gemm(b: Writer, x: str) -> str:
    name = b.fresh("gemm")
    b.normal(f"{name}.weight", WIDTH, WIDTH, scale=0.3)
    b.normal(f"{name}.bias", WIDTH)
    b.constant(f"{name}.flat", [-1, WIDTH], np.int64)
    b.op("Shape", [x], f"{name}.shape")
    b.op("Reshape", [x, f"{name}.flat"], f"{name}.rows")
    inputs = [f"{name}.rows", f"{name}.weight", f"{name}.bias"]
    b.op("Gemm", inputs, f"{name}.product", transB=1, alpha=0.5)
    return b.op("Reshape", [f"{name}.product", f"{name}.shape"], name)


def _normalized(b: Writer, x: str) -> str:
    name = b.fresh("norm")
    b.op("Add", [x, "x"], f"{name}.sum")
    if b.opset < 17:
        return b.op("Tanh", [f"{name}.sum"], name)
    return b.norm(f"{name}.sum", name, WIDTH)


def _activation(b: Writer, x: str) -> str:
    name = b.fresh("gelu")
    b.constant(f"{name}.half", 0.5)
    b.op("Erf", [x], f"{name}.erf")
    b.op("Mul", [f"{name}.erf", f"{name}.half"], f"{name}.share")
    return b.op("Mul", [x, f"{name}.share"], name)


def _torn(b: Writer, x: str) -> str:
    """A layer normalization, one by the root mean square, a GELU and a SiLU, in pieces."""
    name = b.fresh("torn")
    b.constant(f"{name}.small", 1e-5)
    b.constant(f"{name}.one", 1.0)
    b.constant(f"{name}.root2", np.sqrt(2))
    b.constant(f"{name}.scale", 1 + 0.2 * b.random.standard_normal(WIDTH))
    b.op("Add", [x, "x"], f"{name}.sum")
    mean = _mean(b, f"{name}.sum", f"{name}.mean")
    b.op("Sub", [f"{name}.sum", mean], f"{name}.difference")
    layer = _over_root(b, f"{name}.difference", f"{name}.layer")
    square = _over_root(b, layer, f"{name}.square")
    b.op("Mul", [square, f"{name}.scale"], f"{name}.scaled")
    b.op("Div", [f"{name}.scaled", f"{name}.root2"], f"{name}.less")
    b.op("Erf", [f"{name}.less"], f"{name}.erf")
    b.op("Add", [f"{name}.erf", f"{name}.one"], f"{name}.raised")
    b.op("Mul", [f"{name}.raised", f"{name}.scaled"], f"{name}.gelu")
    b.op("Neg", [f"{name}.gelu"], f"{name}.minus")
    b.op("Exp", [f"{name}.minus"], f"{name}.power")
    b.op("Add", [f"{name}.power", f"{name}.one"], f"{name}.above")
    return b.op("Div", [f"{name}.gelu", f"{name}.above"], name)


def _mean(b: Writer, x: str, name: str) -> str:
    if b.opset < 18:
        return b.op("ReduceMean", [x], name, axes=[-1])
    b.constant(f"{name}.axis", [-1], np.int64)
    return b.op("ReduceMean", [x, f"{name}.axis"], name)


def _over_root(b: Writer, x: str, name: str) -> str:
    """`x` over the root of the mean of its square; `small` is of the place."""
    small = f"{name.rsplit('.', 1)[0]}.small"
    b.op("Mul", [x, x], f"{name}.squared")
    mean = _mean(b, f"{name}.squared", f"{name}.mean")
    b.op("Add", [mean, small], f"{name}.above")
    b.op("Sqrt", [f"{name}.above"], f"{name}.root")
    return b.op("Div", [x, f"{name}.root"], name)


def _recovered(b: Writer, x: str) -> str:
    """Two activations that are in their form already, one with a bias."""
    name = b.fresh("recovered")
    b.constant(f"{name}.quick", 1.702)
    b.normal(f"{name}.bias", WIDTH)
    b.op("Mul", [x, f"{name}.quick"], f"{name}.scaled")
    b.op("Sigmoid", [f"{name}.scaled"], f"{name}.gate")
    b.op("Mul", [x, f"{name}.gate"], f"{name}.gated")
    b.op("Add", [f"{name}.gated", f"{name}.bias"], f"{name}.moved")
    return b.op("Gelu" if b.opset >= 20 else "Tanh", [f"{name}.moved"], name)


def _debris(b: Writer, x: str) -> str:
    """An identity, the same twice, a dead branch, a sum of constants."""
    name = b.fresh("debris")
    b.constant(f"{name}.one", np.ones(WIDTH))
    b.constant(f"{name}.again", np.ones(WIDTH))
    b.op("Identity", [x], f"{name}.same")
    b.op("Mul", [f"{name}.same", f"{name}.one"], f"{name}.first")
    b.op("Mul", [x, f"{name}.again"], f"{name}.second")
    b.op("Exp", [f"{name}.first"], f"{name}.dead")
    b.op("Add", [f"{name}.one", f"{name}.again"], f"{name}.two")
    b.op("Add", [f"{name}.first", f"{name}.second"], f"{name}.sum")
    return b.op("Div", [f"{name}.sum", f"{name}.two"], name)


def _attention(b: Writer, x: str) -> str:
    """One head whose mask hides by `Where`, guarded against rows without a key."""
    name = b.fresh("attention")
    query, key, value = (_linear(b, x) for _ in range(3))
    b.constant(f"{name}.zero", 0.0)
    b.constant(f"{name}.hidden", b.random.choice([-np.inf, -1e4]))
    b.constant(f"{name}.places", [0, 1, -1], np.int64)
    b.op("Transpose", [key], f"{name}.keys", perm=[0, 2, 1])
    b.op("MatMul", [query, f"{name}.keys"], f"{name}.scores")
    b.op("Cast", ["mask"], f"{name}.flags", to=TensorProto.BOOL)
    b.constant(f"{name}.row", [1], np.int64)
    b.op("Shape", ["mask"], f"{name}.shape")
    b.constant(f"{name}.index0", [0], np.int64)
    b.constant(f"{name}.index1", [1], np.int64)
    b.op("Gather", [f"{name}.shape", f"{name}.index0"], f"{name}.batch")
    b.op("Gather", [f"{name}.shape", f"{name}.index1"], f"{name}.length")
    parts = [f"{name}.batch", f"{name}.row", f"{name}.length"]
    b.op("Concat", parts, f"{name}.wide", axis=0)
    b.op("Reshape", [f"{name}.flags", f"{name}.wide"], f"{name}.visible")
    b.op("Where", [f"{name}.visible", f"{name}.zero", f"{name}.hidden"], f"{name}.bias")
    b.op("Add", [f"{name}.scores", f"{name}.bias"], f"{name}.masked")
    b.op("Softmax", [f"{name}.masked"], f"{name}.p", axis=-1 if b.opset >= 13 else 2)
    b.op("IsNaN", [f"{name}.p"], f"{name}.empty")
    b.op("Where", [f"{name}.empty", f"{name}.zero", f"{name}.p"], f"{name}.guarded")
    return b.op("MatMul", [f"{name}.guarded", value], name)


def _call(b: Writer, x: str) -> str:
    """A model-local function."""
    if not b.functions:
        nodes = [
            helper.make_node("Tanh", ["a"], ["inner"]),
            helper.make_node("Add", ["inner", "a"], ["c"]),
        ]
        opsets = [helper.make_opsetid("", b.opset)]
        b.functions.append(helper.make_function("local", "Layer", ["a"], ["c"], nodes, opsets))
    return b.op("Layer", [x], b.fresh("called"), domain="local")


def _mixed(b: Writer, x: str) -> str:
    """The real part of a transform along the width, as FNet mixes."""
    name = b.fresh("mixed")
    if b.opset < 17:
        return b.op("Tanh", [x], name)
    b.constant(f"{name}.last", [-1], np.int64)
    b.constant(f"{name}.real", 0, np.int64)
    b.op("Unsqueeze", [x, f"{name}.last"], f"{name}.lifted")
    if b.opset < 20:
        b.op("DFT", [f"{name}.lifted"], f"{name}.spectrum", axis=2)
    else:
        b.constant(f"{name}.axis", 2, np.int64)
        b.op("DFT", [f"{name}.lifted", "", f"{name}.axis"], f"{name}.spectrum")
    return b.op("Gather", [f"{name}.spectrum", f"{name}.real"], name, axis=-1)


def _pruned(b: Writer, x: str) -> str:
    """Two layers of which one has a weight in each column, or none, and the other rows of zeros."""
    name, hidden = b.fresh("pruned"), 320
    weight = np.zeros((WIDTH, hidden))
    used = np.arange(hidden - 40)
    weight[b.random.integers(0, WIDTH, len(used)), used] = b.random.standard_normal(len(used))
    b.constant(f"{name}.up", weight)
    b.normal(f"{name}.bias", hidden)
    down = b.random.standard_normal((hidden, WIDTH)) / np.sqrt(hidden)
    down[:24] = 0
    b.constant(f"{name}.down", down)
    b.op("MatMul", [x, f"{name}.up"], f"{name}.product")
    b.op("Add", [f"{name}.product", f"{name}.bias"], f"{name}.hidden")
    b.op("Sigmoid", [f"{name}.hidden"], f"{name}.active")
    return b.op("MatMul", [f"{name}.active", f"{name}.down"], name)


PLACES: tuple[Callable[[Writer, str], str], ...] = (
    _linear,
    _shared_input,
    _stored_transposed,
    _flat_gemm,
    _normalized,
    _activation,
    _torn,
    _debris,
    _attention,
    _call,
    _recovered,
    _mixed,
    _pruned,
)


def build(seed: int, opset: int, places: list[int]) -> onnx.ModelProto:
    """A chain of places from `x` (and `mask`) to `y`; `middle` is what half of them give."""
    b = Writer(seed, opset)
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    b.input("mask", TensorProto.INT64, ["batch", "sequence"])
    current, middle = "x", "x"
    for index, place in enumerate(places):
        current = PLACES[place](b, current)
        if index == len(places) // 2:
            middle = current
    b.op("Tanh", [middle], "middle")
    b.op("Relu", [current], "y")
    for name in ("y", "middle"):
        b.output(name, TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    message = b.message(opset, origin="graphs.py")
    message.functions.extend(b.functions)
    if b.functions:
        message.opset_import.append(helper.make_opsetid("local", 1))
    return message


def models() -> st.SearchStrategy[onnx.ModelProto]:
    """Graphs of one to five places in an old or a new operator set."""
    return st.builds(
        build,
        st.integers(0, 1 << 16),
        st.sampled_from([17, 11, 13, 18, 23]),
        st.lists(st.integers(0, len(PLACES) - 1), min_size=1, max_size=5),
    )
