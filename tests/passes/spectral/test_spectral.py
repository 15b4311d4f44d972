"""Transforms as products give what numpy gives, in every form; what is not understood stays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import (
    choosing,
    last_form,
    made_up,
    make_checker,
    make_context,
    make_executor,
    run_model,
)
from samples import Builder, parse

from burnish.optimizer import pipeline
from burnish.optimizer.analysis.spectra import Matrix, factors
from burnish.optimizer.contract import Choice, relative_l2
from burnish.optimizer.regions import identical
from burnish.passes.restructure.spectral.products import PRODUCTS
from burnish.passes.restructure.spectral.spectral import Spectral
from burnish.passes.restructure.spectral.steps import STEPS
from burnish.passes.restructure.spectral.surface import HALVES, QUARTERS

CLOSE = 2e-6

FLOAT = onnx.TensorProto.FLOAT


def taking(form: str) -> Any:
    """A chooser that takes products over the operator, and then a form over those."""
    return lambda key, forms, rule: Choice(form if form in forms else PRODUCTS, 1.0, False)


def transform(
    shape: list[int | str], axis: int, opset: int = 20, length: int | None = None,
    parts: tuple[int, ...] = (), **attributes: int,
) -> ir.Model:  # fmt: skip
    """One `DFT` of an input `x`; with `parts`, those are the outputs."""
    b = Builder()
    b.input("x", FLOAT, shape)
    b.constant("axis", axis, np.int64)
    inputs = ["x", "n" if length else ""]
    if length:
        b.constant("n", length, np.int64)
    if opset >= 20:
        inputs.append("axis")
    else:
        attributes["axis"] = axis
    b.op("DFT", inputs, "spectrum", **attributes)
    free = [f"size{index}" for index in range(len(shape))]
    for part in parts:
        b.constant(f"index{part}", part, np.int64)
        b.op("Gather", ["spectrum", f"index{part}"], f"part{part}", axis=-1)
        b.output(f"part{part}", FLOAT, free[:-1])
    if not parts:
        b.output("spectrum", FLOAT, free)
    return b.model(opset)


def lowered(model: ir.Model, choose: Any) -> ir.Model:
    result = model.clone()
    outcome = Spectral().apply(result, make_context(choose, sizes={"batch": 3, "n": 6}))
    assert outcome.rewrites > 0, outcome.refusals
    assert not [node for node in result.graph if node.op_type in ("DFT", "STFT")]
    once = result.clone()
    again = Spectral().apply(result, make_context(choose, sizes={"batch": 3, "n": 6}))
    assert again.rewrites == 0
    assert identical(once, result)
    return result


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(shape, np.float32)


def as_complex(array: np.ndarray) -> np.ndarray:
    wide = array.astype(np.float64)
    return wide[..., 0] + (1j * wide[..., 1] if wide.shape[-1] == 2 else 0)


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("inverse", [0, 1])
@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("parts", [(), (0,), (1,), (0, 1)])
def test_whole_transforms(
    opset: int, inverse: int, axis: int, size: int, parts: tuple[int, ...]
) -> None:
    x = normal(2, 5, 6, 4, size)
    before = transform(list(x.shape), axis, opset, parts=parts, inverse=inverse)
    [found] = run_model(lowered(before, taking(PRODUCTS)), [{"x": x}])
    function = np.fft.ifft if inverse else np.fft.fft
    expected = function(as_complex(x), axis=axis)
    planes = [expected.real, expected.imag]
    wanted = [planes[part] for part in parts] if parts else [np.stack(planes, -1)]
    for mine, theirs in zip(wanted, found.values(), strict=True):
        assert relative_l2(mine, theirs) < CLOSE


@pytest.mark.parametrize("length", [None, 4, 5, 8, 9])
@pytest.mark.parametrize("parts", [(), (0,), (0, 1)])
def test_one_side_padded_and_cut(length: int | None, parts: tuple[int, ...]) -> None:
    x = normal(2, 6, 3, 1)
    before = transform(["batch", 6, 3, 1], 1, length=length, parts=parts, onesided=1)
    [found] = run_model(lowered(before, taking(PRODUCTS)), [{"x": x}])
    expected = np.fft.rfft(x[..., 0].astype(np.float64), length, axis=1)
    planes = [expected.real, expected.imag]
    wanted = [planes[part] for part in parts] if parts else [np.stack(planes, -1)]
    for mine, theirs in zip(wanted, found.values(), strict=True):
        assert relative_l2(mine, theirs) < CLOSE


@pytest.mark.parametrize("length", [None, 5, 6, 7, 8])
def test_inverse_of_one_side(length: int | None) -> None:
    x = normal(2, 4, 3, 2)
    before = transform(["batch", 4, 3, 2], 1, length=length, inverse=1, onesided=1)
    [found] = run_model(lowered(before, taking(PRODUCTS)), [{"x": x}])
    expected = np.fft.irfft(as_complex(x), length, axis=1)[..., None]
    assert relative_l2(expected, found["spectrum"]) < CLOSE


@pytest.mark.parametrize("length", [256, 384, 1000])
@pytest.mark.parametrize(
    ("size", "inverse", "onesided"), [(1, 0, 0), (1, 0, 1), (2, 0, 0), (2, 1, 0)]
)
def test_two_steps(length: int, size: int, inverse: int, onesided: int) -> None:
    x = normal(3, length, size)
    before = transform(["batch", length, size], 1, inverse=inverse, onesided=onesided)
    [found] = run_model(lowered(before, taking(STEPS)), [{"x": x}])
    whole = as_complex(x)
    expected = np.fft.ifft(whole) if inverse else np.fft.fft(whole)
    expected = expected[:, : length // 2 + 1] if onesided else expected
    assert relative_l2(np.stack([expected.real, expected.imag], -1), found["spectrum"]) < CLOSE


def surface(shape: list[int | str], order: tuple[int, int] = (2, 1)) -> ir.Model:
    """The real part of both transforms of `x` [batch, s, h]."""
    b = Builder()
    b.input("x", FLOAT, shape)
    b.constant("last", [-1], np.int64)
    b.constant("zero", 0, np.int64)
    value = b.op("Unsqueeze", ["x", "last"], "lifted")
    for axis in order:
        b.constant(f"axis{axis}", axis, np.int64)
        value = b.op("DFT", [value, "", f"axis{axis}"], f"along{axis}")
    b.op("Gather", [value, "zero"], "y", axis=-1)
    b.output("y", FLOAT, shape)
    return b.model(20)


@pytest.mark.parametrize("form", [PRODUCTS, HALVES, QUARTERS])
@pytest.mark.parametrize("size", [(4, 4), (5, 6), (6, 5), (7, 9), (8, 12)])
@pytest.mark.parametrize("order", [(2, 1), (1, 2)])
def test_surfaces(form: str, size: tuple[int, int], order: tuple[int, int]) -> None:
    model = lowered(surface(["batch", *size], order), taking(form))
    expected_products = {PRODUCTS: 4, HALVES: 4, QUARTERS: 4}[form]
    assert sum(node.op_type == "MatMul" for node in model.graph) == expected_products
    x = normal(3, *size)
    [found] = run_model(model, [{"x": x}])
    assert relative_l2(np.fft.fft2(x.astype(np.float64)).real, found["y"]) < CLOSE


@pytest.mark.parametrize("form", [PRODUCTS, HALVES])
def test_surfaces_of_any_length(form: str) -> None:
    model = lowered(surface(["batch", "n", 8]), taking(form))
    for length in (1, 2, 3, 7, 64, 321):
        x = normal(2, length, 8)
        [found] = run_model(model, [{"x": x}])
        assert relative_l2(np.fft.fft2(x.astype(np.float64)).real, found["y"]) < CLOSE


@pytest.mark.parametrize(
    ("size", "attributes"), [(1, {}), (2, {}), (2, {"inverse": 1}), (1, {"onesided": 1})]
)
@pytest.mark.parametrize("axis", [1, 2])
def test_any_length(size: int, attributes: dict[str, int], axis: int) -> None:
    shape: list[int | str] = ["batch", 4, 4, size]
    shape[axis] = "n"
    model = lowered(transform(shape, axis, **attributes), taking(PRODUCTS))
    for length in (1, 2, 5, 6, 40):
        sizes = [2, 4, 4, size]
        sizes[axis] = length
        x = normal(*sizes)
        [found] = run_model(model, [{"x": x}])
        function = np.fft.ifft if attributes.get("inverse") else np.fft.fft
        expected = function(as_complex(x), axis=axis)
        if attributes.get("onesided"):
            expected = np.take(expected, range(length // 2 + 1), axis)
        assert relative_l2(np.stack([expected.real, expected.imag], -1), found["spectrum"]) < CLOSE


def test_layers_share_the_matrices_of_a_length_that_is_not_known() -> None:
    b = Builder()
    b.input("x", FLOAT, ["batch", "n", 4])
    b.constant("last", [-1], np.int64)
    b.constant("one", 1, np.int64)
    b.constant("zero", 0, np.int64)
    value = "x"
    for layer in range(3):
        b.op("Unsqueeze", [value, "last"], f"lifted{layer}")
        b.op("DFT", [f"lifted{layer}", "", "one"], f"spectrum{layer}")
        b.op("Gather", [f"spectrum{layer}", "zero"], f"real{layer}", axis=-1)
        value = b.op("Tanh", [f"real{layer}"], f"tanh{layer}")
    b.output(value, FLOAT, ["batch", "n", 4])
    model = lowered(b.model(20), taking(PRODUCTS))
    kinds = [node.op_type for node in model.graph]
    assert kinds.count("Cos") == 1
    assert kinds.count("Range") == 1
    assert kinds.count("MatMul") == 3


FRAMES = """
<ir_version: 10, opset_import: ["" : 17]>
frames (float[batch, SAMPLES] x) => (float[batch, frames, bins, 2] y)
<int64 step = {3}, int64 n = {8}, float[8] window = {0, 0.2, 0.7, 1, 1, 0.7, 0.2, 0.1}>
{ y = STFT <onesided = ONE> (x, step, WINDOW) }
"""


def frames(samples: str, onesided: int, window: str) -> ir.Model:
    text = FRAMES.replace("SAMPLES", samples).replace("ONE", str(onesided))
    return parse(text.replace("WINDOW", window))


@pytest.mark.parametrize("form", ["frames", "convolution"])
@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("window", ["window, n", "window", ", n"])
@pytest.mark.parametrize("samples", ["30", "n"])
def test_frames(form: str, onesided: int, window: str, samples: str) -> None:
    before = frames(samples, onesided, window)
    after = before.clone()
    choose = last_form if samples == "n" else choosing(form)
    assert Spectral().apply(after, make_context(choose, sizes={"batch": 2, "n": 30})).rewrites == 1
    feed = {"x": normal(2, 30)}
    for mine, theirs in zip(run_model(before, [feed]), run_model(after, [feed]), strict=True):
        assert relative_l2(mine["y"], theirs["y"]) < CLOSE


CASES: dict[str, Callable[[], ir.Model]] = {
    "whole": lambda: transform(["batch", 5, 6, 1], 2),
    "complex": lambda: transform(["batch", 6, 5, 2], 1, parts=(0,)),
    "old": lambda: transform(["batch", 6, 5, 2], 1, opset=17),
    "padded": lambda: transform(["batch", 6, 1], 1, length=9, onesided=1),
    "back": lambda: transform(["batch", 4, 2], 1, length=6, inverse=1, onesided=1),
    "long": lambda: transform(["batch", 256, 2], 1),
    "surface": lambda: surface(["batch", 6, 8]),
    "any": lambda: surface(["batch", "n", 8]),
    "frames": lambda: frames("30", 1, "window, n"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_timed_is_the_same_function(name: str) -> None:
    """All samples of a place give the same, and a key names one place."""
    keys: list[str] = []

    def choose(key: str, forms: Mapping[str, Callable[[], Any]], rule: str) -> Choice:
        keys.append(key)
        models = [ir.from_proto(build()) for build in forms.values()]
        assert rule in forms
        random = np.random.default_rng(1)
        feed = {
            value.name or "": random.standard_normal(
                [int(str(size)) for size in value.shape or ()], np.float32
            )
            for value in models[0].graph.inputs
        }
        first, *others = [list(run_model(model, [feed])[0].values()) for model in models]
        for other in others:
            for mine, theirs in zip(first, other, strict=True):
                assert relative_l2(mine, theirs) < CLOSE
        return Choice(list(forms)[-1], 1.5, True)

    model = CASES[name]()
    outcome = Spectral().apply(model, make_context(choose, sizes={"batch": 3, "n": 6}))
    assert outcome.rewrites == 1
    assert outcome.speedup == 1.5
    assert len(set(keys)) == len(keys) > 0


@pytest.mark.parametrize("name", CASES)
def test_stays_where_the_operator_is_as_fast(name: str) -> None:
    model = CASES[name]()
    before = model.clone()
    context = make_context(choosing("as it is"), sizes={"batch": 3, "n": 6})
    outcome = Spectral().apply(model, context)
    assert outcome.rewrites == 0
    assert len(outcome.refusals) >= 1
    assert identical(before, model)


def refused(model: ir.Model) -> str:
    before = model.clone()
    outcome = Spectral().apply(model, make_context(last_form))
    assert outcome.rewrites == 0
    assert identical(before, model)
    [refusal] = outcome.refusals
    return refusal.reason


def test_refuses_what_is_known_in_a_run_only() -> None:
    back = transform(["batch", "half", 2], 1, inverse=1, onesided=1)
    assert "in a run only" in refused(back)
    assert "in a run only" in refused(transform(["batch", "n", 1], 1, length=9))
    assert "real or complex" in refused(transform(["batch", 6, "parts"], 1))


def test_refuses_other_types_axes_and_windows() -> None:
    text = """
        <ir_version: 10, opset_import: ["" : 20]>
        graph (float[2, 6, 5, 1] x, int64 axis, float[8] window, float[2, 30] signal)
          => (float[2, a, b, 2] y) <int64 step = {3}, int64 one = {1}> { BODY }
    """
    moved = parse(text.replace("BODY", "y = DFT (x, , axis)"))
    assert refused(moved) == "its axis is no constant, or not one of positions"
    windowed = parse(text.replace("BODY", "y = STFT (signal, step, window)"))
    assert refused(windowed) == "its window is not constant"
    double = parse(text.replace("BODY", "y = DFT (x, , one)").replace("float[", "double["))
    assert refused(double) == "it computes in DOUBLE"


def test_refuses_matrices_that_are_too_large() -> None:
    assert "64 MB" in refused(transform(["batch", 2, 8209, 1], 2))
    model = transform(["batch", 2, 8192, 1], 2)
    forms: list[str] = []

    def choose(key: str, candidates: Mapping[str, Any], rule: str) -> Choice:
        forms.extend(candidates)
        return Choice(rule, 1.0, False)

    assert Spectral().apply(model, make_context(choose)).rewrites == 1
    assert forms == ["as it is", STEPS]


def test_spectra_of_constants_become_constants() -> None:
    text = """
        <ir_version: 10, opset_import: ["" : 20]>
        graph (float[batch, 4, 2] x) => (float[batch, 4, 2] y)
        <float[1, 4, 1] h = {1, 2, 3, 4}, int64 one = {1}>
        { k = DFT (h, , one) y = Mul (x, k) }
    """
    model = lowered(parse(text), last_form)
    assert [node.op_type for node in model.graph] == ["Mul"]
    [found] = run_model(model, [{"x": np.ones((1, 4, 2), np.float32)}])
    expected = np.fft.fft([1, 2, 3, 4])
    np.testing.assert_allclose(found["y"][0], np.stack([expected.real, expected.imag], -1), 1e-6)


@pytest.mark.parametrize("part", ["cosine", "sine"])
def test_a_wrong_matrix_is_caught(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(Matrix, part).fget
    monkeypatch.setattr(Matrix, part, property(lambda self: np.roll(right(self), 1, 1)))
    model = surface(["batch", 6, 8])
    check = make_checker(make_executor(tmp_path), model).check
    [step] = pipeline.run(model, [Spectral()], make_context(last_form), check).steps
    assert step.status == "rejected"
    assert "differs by" in step.reason


@pytest.mark.parametrize("size", [(6, 8), (5, 4)])
def test_the_pipeline_keeps_it(size: tuple[int, int], tmp_path: Path) -> None:
    model = surface(["batch", *size])
    check = make_checker(make_executor(tmp_path), model).check
    [step] = pipeline.run(model, [Spectral()], make_context(last_form), check).steps
    assert step.status == "kept", step.reason
    assert made_up(model)


def test_factors_are_the_nearest() -> None:
    assert [factors(number) for number in (2048, 768, 12, 7)] == [(64, 32), (32, 24), (4, 3), None]


def test_matrices_do_not_lose_digits_as_they_grow() -> None:
    """The kernel's angles in float32 do: 1e-4 at this size."""
    x = normal(3, 768)
    expected = np.fft.fft(x.astype(np.float64))
    matrix = Matrix(768, 768, 768)
    for part, wanted in itertools.product(("cosine", "sine"), (expected,)):
        plane = wanted.real if part == "cosine" else wanted.imag
        assert relative_l2(plane, x @ getattr(matrix, part).T) < CLOSE


def test_transforms_in_a_branch() -> None:
    text = """
        <ir_version: 10, opset_import: ["" : 20]>
        branches (bool go, float[n, 6, 1] x) => (float[n, 6, 2] y)
        <int64 one = {1}>
        {
          y = If (go) <
            then_branch = one () => (float[n, 6, 2] a) { a = DFT (x, , one) },
            else_branch = two () => (float[n, 6, 2] b) { t = Tanh (x) b = DFT (t, , one) }>
        }
    """
    model = parse(text)
    after = model.clone()
    context = make_context(last_form, sizes={"n": 3})
    assert Spectral().apply(after, context).rewrites == 2
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    for go in (True, False):
        feed = {"go": np.array(go), "x": normal(3, 6, 1)}
        for mine, theirs in zip(run_model(model, [feed]), run_model(after, [feed]), strict=True):
            assert relative_l2(mine["y"], theirs["y"]) < CLOSE
