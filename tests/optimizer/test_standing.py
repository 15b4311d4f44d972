"""A child that stays: the same for every order, and another where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.optimizer import standing
from burnish.optimizer.errors import InvalidModel, ResourceLimit, UnsafeInput
from burnish.optimizer.sandbox import Limits
from burnish.optimizer.standing import Standing

LIMITS = Limits(memory=1 << 30, wall=60)

TARGET = "sandbox_targets:serve"


@pytest.fixture(autouse=True)
def targets_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def test_one_child_answers_all_orders() -> None:
    with Standing(TARGET, LIMITS) as child:
        first = child.ask({})
        assert child.ask({"size": 1 << 20}) == first
        assert child.ask({}) == first


def test_none_is_started_before_the_first_order_or_left_after_the_last() -> None:
    with Standing(TARGET, LIMITS) as child:
        pid = child.ask({})["pid"]
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()


def test_another_child_takes_the_place_of_one_that_crashed() -> None:
    with Standing(TARGET, LIMITS) as child:
        first = child.ask({})
        with pytest.raises(InvalidModel, match="SIGSEGV"):
            child.ask({"signal": "SIGSEGV"})
        assert child.ask({})["pid"] != first["pid"]


def test_another_child_takes_the_place_of_one_that_refused() -> None:
    with Standing(TARGET, LIMITS) as child:
        first = child.ask({})
        with pytest.raises(UnsafeInput, match="it reaches outside"):
            child.ask({"refuse": True})
        assert child.ask({})["pid"] != first["pid"]


def test_a_limit_ends_the_order_alone() -> None:
    with Standing(TARGET, Limits(memory=200 << 20, wall=60)) as child:
        with pytest.raises(ResourceLimit, match="memory"):
            child.ask({"size": 1 << 40})
        assert child.ask({"size": 1 << 20})["pid"]


def test_an_order_does_not_pay_for_those_before_it() -> None:
    with Standing(TARGET, Limits(memory=200 << 20, wall=60)) as child:
        first = child.ask({"size": 100 << 20})
        assert child.ask({"size": 100 << 20})["pid"] != first["pid"]


def test_a_child_that_keeps_much_memory_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "IDLE_MEMORY", 100 << 20)
    with Standing(TARGET, LIMITS) as child:
        first = child.ask({"size": 1 << 20})
        assert child.ask({"size": 120 << 20}) == first
        assert not Path(f"/proc/{first['pid']}").exists()
        assert child.ask({})["pid"] != first["pid"]
