"""Convolutions by a product of spectra, in every form; what is none stays a pair of transforms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import make_context, run_model
from samples import Builder

from burnish.optimizer.contract import Choice, relative_l2
from burnish.passes.restructure.spectral.products import PRODUCTS
from burnish.passes.restructure.spectral.spectral import Spectral

FLOAT = onnx.TensorProto.FLOAT
CLOSE = 3e-6


def filtered(
    channels: int = 3, present: int = 64, length: int = 128, given: int = 64, opset: int = 20,
    lags: tuple[int, int] = (0, 63), conjugate: bool = False, shared: bool = False,
    computed: bool = True,
) -> tuple[ir.Model, np.ndarray]:  # fmt: skip
    """`irfft(rfft(u, length) * K)[..., :given]` of `u` [batch, channels, present], and the filter.

    The spectrum is computed in the graph where `computed`; the filter is [channels, length].
    """
    b = Builder(3)
    kernel = np.zeros((1 if shared else channels, length))
    places = np.arange(lags[0], lags[1] + 1) % length
    kernel[:, places] = b.random.standard_normal((len(kernel), len(places)))
    b.input("u", FLOAT, ["batch", channels, present])
    for name, numbers in (
        ("last", [-1]), ("first", [0]), ("one", [1]), ("two", [2]), ("crop", [given]),
        ("ends", [0, 0, 0, 0, 0, length - present]), ("n", length), ("axis", 2), ("axis_h", 1),
    ):  # fmt: skip
        b.constant(name, numbers, np.int64)
    padded = b.op("Pad", ["u", "ends"], "padded") if length > present else "u"
    lifted = b.op("Unsqueeze", [padded, "last"], "lifted")
    spectrum = _transform(b, lifted, "spectrum", "axis", opset)
    if computed:
        b.constant("h", kernel)
        b.op("Unsqueeze", ["h", "last"], "lifted_h")
        _transform(b, "lifted_h", "k", "axis_h", opset)
    else:
        found = np.fft.rfft(kernel)
        b.constant("k", np.stack([found.real, found.imag], -1))
    a, c = (b.op("Slice", [name, "first", "one", "last"], f"{name}0") for name in (spectrum, "k"))
    d, e = (b.op("Slice", [name, "one", "two", "last"], f"{name}1") for name in (spectrum, "k"))
    products = {x + y: b.op("Mul", [x, y], f"{x}{y}") for x in (a, d) for y in (c, e)}
    signs = ("Add", "Sub") if conjugate else ("Sub", "Add")
    b.op(signs[0], [products[a + c], products[d + e]], "re")
    if conjugate:
        b.op("Sub", [products[d + c], products[a + e]], "im")
    else:
        b.op("Add", [products[a + e], products[d + c]], "im")
    b.op("Concat", ["re", "im"], "product", axis=-1)
    _transform(b, "product", "back", "axis", opset, inverse=1)
    b.op("Slice", ["back", "first", "one", "last"], "only")
    result = b.op("Squeeze", ["only", "last"], "whole")
    if given < length:
        result = b.op("Slice", ["whole", "first", "crop", "last"], "cropped")
    b.op("Tanh", [result], "y")
    b.output("y", FLOAT, ["batch", channels, given])
    return b.model(opset), kernel


def _transform(b: Builder, value: str, name: str, axis: str, opset: int, **more: int) -> str:
    if opset >= 20:
        return b.op("DFT", [value, "n", axis], name, onesided=1, **more)
    return b.op("DFT", [value, "n"], name, onesided=1, axis={"axis": 2, "axis_h": 1}[axis], **more)


def expected(u: np.ndarray, kernel: np.ndarray, given: int, conjugate: bool = False) -> np.ndarray:
    length = kernel.shape[-1]
    spectrum = np.fft.rfft(kernel)
    spectrum = spectrum.conj() if conjugate else spectrum
    wide = np.fft.rfft(u.astype(np.float64), length)
    return np.tanh(np.fft.irfft(wide * spectrum, length)[..., :given])


CASES: dict[str, dict[str, Any]] = {
    "causal": {},
    "old": {"opset": 17},
    "spectrum stored": {"computed": False},
    "one filter": {"shared": True},
    "short": {"lags": (0, 9)},
    "both sides": {"lags": (-20, 33)},
    "later and earlier": {"lags": (-63, 63)},
    "behind": {"lags": (5, 40)},
    "ahead": {"lags": (-40, -5)},
    "correlation": {"conjugate": True},
    "all that comes out": {"given": 128},
    "fewer than go in": {"given": 32},
    "around": {"present": 64, "length": 64, "given": 64},
    "around, longer": {"present": 96, "length": 96, "given": 96, "lags": (-30, 50)},
    "odd": {"present": 64, "length": 133, "given": 64},
    "long": {"present": 256, "length": 512, "given": 256, "lags": (0, 255)},
    "very short": {"present": 8, "length": 16, "given": 8, "lags": (0, 7)},
}


@pytest.mark.parametrize("name", CASES)
def test_every_form_is_the_same_function(name: str) -> None:
    """In the model and in what is timed."""
    settings = CASES[name]
    model, kernel = filtered(**settings)
    u = np.random.default_rng(2).standard_normal((2, 3, settings.get("present", 64)), np.float32)
    wanted = expected(u, kernel, settings.get("given", 64), settings.get("conjugate", False))
    seen: dict[str, bytes] = {}

    def collect(key: str, forms: Mapping[str, Callable[[], Any]], rule: str) -> Choice:
        assert key.startswith("convolution")
        assert rule in forms
        seen.update({form: build().SerializeToString() for form, build in forms.items()})
        return Choice(rule, 1.0, False)

    assert Spectral().apply(model.clone(), make_context(collect)).rewrites == 1
    samples = {
        form: run_model(ir.from_proto(onnx.ModelProto.FromString(text)), [{"signal": u}])[0]
        for form, text in seen.items()
    }
    first = samples[PRODUCTS]  # the operator is less exact where the length is no power of 2
    for form in [form for form in seen if form != "as it is"]:
        for mine, theirs in zip(first.values(), samples[form].values(), strict=True):
            assert relative_l2(mine, theirs) < CLOSE, form
        after = model.clone()
        outcome = Spectral().apply(after, make_context(taking(form)))
        assert outcome.rewrites >= 1
        [found] = run_model(after, [{"u": u}])
        assert relative_l2(wanted, found["y"]) < CLOSE, form
        if form != PRODUCTS:
            onnx.checker.check_model(ir.to_proto(after), full_check=True)
            assert not [node for node in after.graph if node.op_type == "DFT"]


def taking(form: str) -> Any:
    """A chooser that takes the form of a convolution, and leaves other places."""

    def choose(key: str, forms: Mapping[str, Any], rule: str) -> Choice:
        return Choice(form if form in forms else next(iter(forms)), 1.0, False)

    return choose


def test_forms_by_size() -> None:
    found: dict[int, set[str]] = {}
    for present in (8, 64, 2048):

        def choose(key: str, forms: Mapping[str, Any], rule: str, at: int = present) -> Choice:
            if key.startswith("convolution"):
                found[at] = set(forms) - {"as it is", PRODUCTS}
            return Choice("as it is", 1.0, False)

        model, _ = filtered(
            present=present, length=2 * present, given=present, lags=(0, present - 1)
        )
        Spectral().apply(model, make_context(choose))
    assert found[8] == {"taps"}
    assert found[64] == {"taps", "blocks of 16", "blocks of 32", "spectrum in two steps by 16"}
    steps = {f"spectrum in two steps by {size}" for size in (16, 32, 64)}
    assert found[2048] == steps | {"blocks of 16", "blocks of 32"}


def test_a_filter_that_is_computed_from_inputs_is_none() -> None:
    model, _ = filtered()
    graph = model.graph
    h = graph.initializers.pop("h")
    h.const_value = None
    graph.inputs.append(h)
    keys: list[str] = []

    def choose(key: str, forms: Mapping[str, Any], rule: str) -> Choice:
        keys.append(key)
        return Choice("as it is", 1.0, False)

    assert Spectral().apply(model, make_context(choose)).rewrites == 0
    assert not [key for key in keys if key.startswith("convolution")]
    assert len(keys) == 3  # each transform by itself


def test_a_product_that_is_not_complex_is_none() -> None:
    model, _ = filtered()
    for node in model.graph:
        if node.outputs[0].name == "im":
            node.op_type = "Sub"
    keys: list[str] = []

    def choose(key: str, forms: Mapping[str, Any], rule: str) -> Choice:
        keys.append(key)
        return Choice("as it is", 1.0, False)

    Spectral().apply(model, make_context(choose))
    assert not [key for key in keys if key.startswith("convolution")]


def test_a_result_that_is_read_as_a_whole_is_computed_as_a_whole() -> None:
    model, _ = filtered()
    whole = next(v for n in model.graph for v in n.outputs if v.name == "whole")
    node = ir.node("Neg", [whole])
    node.outputs[0].name, node.outputs[0].type = "more", ir.TensorType(ir.DataType.FLOAT)
    node.outputs[0].shape = ir.Shape(["batch", 3, 128])
    model.graph.append(node)
    model.graph.outputs.append(node.outputs[0])
    after = model.clone()
    assert Spectral().apply(after, make_context(taking("blocks of 16"))).rewrites == 1
    feed = {"u": np.random.default_rng(2).standard_normal((2, 3, 64), np.float32)}
    for mine, theirs in zip(run_model(model, [feed]), run_model(after, [feed]), strict=True):
        for name, array in mine.items():
            assert relative_l2(array, theirs[name]) < CLOSE
