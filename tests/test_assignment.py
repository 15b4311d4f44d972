"""The way from everything compressed to everything in float: nothing on it can be bettered."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from burnish.driver.assignment import PRICES, Form, Unit, way
from burnish.driver.plan import Spared


def unit(name: str, energy: float, ms: tuple[float, float, float], left: float = 0.25) -> Unit:
    """A unit of one place; `ms` compressed, finer, as it was."""
    return Unit((name,), 1000, Form(energy, ms[0]), Form(energy * left, ms[1]), ms[2])


def price(units: list[Unit], forms: tuple[str, ...]) -> tuple[float, float]:
    """Energy left and price paid of an assignment, price as the way reckons it."""
    energy = paid = 0.0
    for item, form in zip(units, forms, strict=True):
        assert item.finer is not None
        known = {"coarse": item.coarse, "finer": item.finer, "keep": Form(0.0, item.exact_ms)}
        energy += known[form].energy
        paid += known[form].ms - item.coarse.ms
        if form != "coarse":
            paid += PRICES[form] * item.parameters
    return energy, paid


@pytest.mark.parametrize("seed", range(5))
def test_no_assignment_is_both_cheaper_and_closer(seed: int) -> None:
    random = np.random.default_rng(seed)
    units = [
        unit(f"u{i}", random.uniform(0.1, 5), tuple(np.cumsum(random.uniform(0.2, 2, 3))))  # type: ignore[arg-type]
        for i in range(5)
    ]
    total = sum(item.coarse.energy for item in units)
    every = [price(units, forms) for forms in itertools.product(PRICES | {"coarse": 0}, repeat=5)]
    steps = way(units)
    for step in steps:
        forms = tuple(
            "keep" if item.names[0] in step.spared.keep
            else "finer" if item.names[0] in step.spared.finer
            else "coarse"
            for item in units
        )  # fmt: skip
        energy, paid = price(units, forms)
        assert step.energy == pytest.approx(energy / total, abs=1e-9)
        slack = 1e-9 + 0.001 * paid
        better = [other for other in every if other[0] < energy - 1e-9 and other[1] < paid - slack]
        assert not better
    assert steps[-1].energy == pytest.approx(0.0, abs=1e-12)
    assert set(steps[-1].spared.keep) == {item.names[0] for item in units}


def test_a_finer_form_that_is_no_slower_comes_first() -> None:
    steps = way([unit("dear", 9.0, (1, 3, 4)), unit("free", 0.1, (1, 1, 2))])
    assert steps[0].spared == Spared(finer=("free",))


def test_a_form_between_that_is_no_trade_is_passed_over() -> None:
    """Finer takes nearly as long as float and saves a tenth."""
    steps = way([unit("a", 1.0, (1.0, 3.0, 3.1), left=0.9)])
    assert [step.spared for step in steps] == [Spared(keep=("a",))]


def test_places_without_a_finer_form_go_to_float() -> None:
    steps = way([Unit(("table",), 10, Form(1.0, 0.0), None, 0.0)])
    assert [step.spared for step in steps] == [Spared(keep=("table",))]
    assert steps[0].energy == 0.0
