"""Ranges that calibration fixes: what each method finds, and which of them is taken."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from harness import run_model
from samples import Builder, parse

from burnish.optimizer.analysis.products import Product, find_products
from burnish.optimizer.contract import Observation
from burnish.passes.compress.int8.ranges import METHODS, PERCENTILE, Range, range_of
from burnish.passes.compress.smoothing.search import columns_of

WIDTH = 32


def products() -> list[Product]:
    b = Builder()
    b.input("x", 1, ["n", WIDTH])
    for name, width in (("a", 48), ("b", 300)):
        b.linear("x", name, WIDTH, width)
        b.output(name, 1, ["n", width])
    return find_products(b.model())[0]


def seen(rows: np.ndarray) -> Observation:
    return Observation(rows.min(0), rows.max(0), rows)


def normal(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1024, WIDTH))


def spiked(size: float = 40.0) -> np.ndarray:
    """Normal rows, of which one has an element that is as large as no other."""
    rows = normal()
    rows[7, 3] = size
    return rows


def span(found: Range | None) -> tuple[float, float]:
    """The least and the largest number that the integers stand for."""
    assert found is not None
    return tuple((code - found.zero) * found.scale for code in (found.low, found.high))  # type: ignore[return-value]


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_round_trip_is_that_of_the_operators(symmetric: bool) -> None:
    found = Range.covering(-1.7, 5.3, symmetric=symmetric)
    kind = "int8" if symmetric else "uint8"
    model = parse(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        f (float[n] x) => (float[n] y)
        <float s = {{{found.scale:.9g}}}, {kind} z = {{{found.zero}}}>
        {{ q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }}
    """)
    x = np.linspace(-9, 9, 4001, dtype=np.float32)
    theirs = run_model(model, [{"x": x}])[0]["y"]
    # Halves may fall on either side, since the scale is rounded to float32.
    assert np.mean(np.abs(found.rounded(x) - theirs) > 1e-5) < 0.01
    assert (np.abs(theirs - x) <= found.scale / 2 * 1.001)[(x > -1.6) & (x < 5.2)].all()
    assert found.origin.dtype == np.dtype(kind)


def test_what_the_range_covers() -> None:
    low, high = span(Range.covering(-1.0, 3.0))
    assert low == pytest.approx(-1.0, abs=4 / 255)
    assert high == pytest.approx(3.0, abs=4 / 255)
    assert span(Range.covering(2.0, 4.0)) == pytest.approx((0.0, 4.0))
    assert span(Range.covering(-4.0, -2.0)) == pytest.approx((-4.0, 0.0))
    found = Range.covering(-1.0, 3.0, symmetric=True)
    assert (found.zero, found.scale) == (0, pytest.approx(3 / 127))
    zeros = np.zeros(3)
    for symmetric in (False, True):
        assert not Range.covering(0.0, 0.0, symmetric=symmetric).rounded(zeros).any()


def test_each_method_on_a_value_that_stands_out() -> None:
    rows, members = spiked(), products()
    found = {name: span(range_of(seen(rows), members, None, name)) for name in METHODS}
    assert found["minmax"] == pytest.approx((rows.min(), 40.0), abs=0.2)
    outside = (100 - PERCENTILE) / 2
    ends = np.percentile(rows, [outside, 100 - outside])
    assert found["percentile"] == pytest.approx(tuple(ends), abs=0.03)
    # One value in 32768 is worth no more than it costs the others.
    assert 2.5 < found["entropy"][1] < 6
    assert 3.5 < found["mse"][1] < 40


def test_mse_is_the_least_of_the_thresholds() -> None:
    """Against the errors of the values themselves, for another number of thresholds."""
    rows = spiked(12.0)
    found = range_of(seen(rows), products(), None, "mse")
    assert found is not None

    def error(item: Range) -> float:
        return float(np.square(item.rounded(rows) - rows).mean())

    tried = [Range.covering(max(rows.min(), -x), x) for x in np.linspace(1, 12, 200)]
    assert error(found) < 1.01 * min(map(error, tried))
    assert error(found) < 0.99 * error(Range.covering(rows.min(), rows.max()))


def test_entropy_keeps_what_has_no_tail() -> None:
    rows = np.random.default_rng(0).uniform(-1, 1, (1024, WIDTH))
    assert span(range_of(seen(rows), products(), None, "entropy"))[1] > 0.95


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("size", [3.0, 40.0, 4000.0])
def test_the_best_is_that_of_the_products(size: float, symmetric: bool) -> None:
    rows, members = spiked(size), products()
    divisors = np.geomspace(0.5, 2, WIDTH)
    matrix = np.concatenate([columns_of(member) for member in members], axis=1) * divisors[:, None]

    def error(found: Range | None) -> float:
        assert found is not None
        return float(np.linalg.norm((found.rounded(rows / divisors) - rows / divisors) @ matrix))

    def range_by(method: str) -> Range | None:
        return range_of(seen(rows), members, divisors, method, symmetric=symmetric)

    best = error(range_by("best"))
    others = [error(range_by(name)) for name in METHODS]
    # (x / d) @ (d * w) is x @ w, so that these are the errors of the products themselves.
    assert best == pytest.approx(min(others))
    assert max(others) > 1.02 * best


def test_without_rows_it_is_from_the_least_to_the_largest() -> None:
    bounds = Observation(np.full(WIDTH, -2.0), np.full(WIDTH, 6.0))
    for method in ("best", "mse"):
        assert range_of(bounds, products(), None, method) == Range.covering(-2.0, 6.0)
    divided = range_of(bounds, products(), np.full(WIDTH, 2.0))
    assert divided == Range.covering(-1.0, 3.0)


def test_what_has_no_range() -> None:
    rows = normal()
    for number in (np.inf, np.nan):
        rows[0, 0] = number
        assert range_of(seen(rows), products()) is None
    zeros = range_of(seen(np.zeros((8, WIDTH))), products())
    assert zeros is not None
    assert not zeros.rounded(np.zeros(3)).any()


def test_columns_are_of_the_weight_whichever_way_it_lies() -> None:
    wide = next(item for item in products() if item.n == 300)
    assert columns_of(wide).shape == (WIDTH, 150)
    stored = wide.weight.const_value
    assert stored is not None
    np.testing.assert_array_equal(columns_of(wide), stored.numpy()[:, ::2])
    turned = ir.val("t", const_value=ir.tensor(stored.numpy().T.copy()))
    same = Product(wide.nodes, wide.activation, turned, True, None, 1.0, 1.0, wide.output)
    np.testing.assert_array_equal(columns_of(same), columns_of(wide))
