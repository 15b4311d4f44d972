"""The tanh formula is another function: close, asked for, reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from harness import loaded_operators, make_context, run_model
from samples import parse

from burnish.driver.plan import passes_for
from burnish.driver.request import Request
from burnish.optimizer.contract import LOSSY, Choice
from burnish.optimizer.regions import identical
from burnish.passes.compress.fast_gelu import FastGelu


def gelu(approximate: str, size: str = "n") -> ir.Model:
    return parse(f"""
        <ir_version: 10, opset_import: ["" : 20]>
        graph (float[{size}] x) => (float[{size}] y)
        {{ y = Gelu <approximate = "{approximate}"> (x) }}
    """)


def test_differs_by_as_much_as_it_says() -> None:
    exact, fast = gelu("none"), gelu("none")
    assert FastGelu().apply(fast, make_context()).rewrites == 1
    feeds = [{"x": np.linspace(-8, 8, 10001, dtype=np.float32)}]
    error = np.abs(run_model(exact, feeds)[0]["y"] - run_model(fast, feeds)[0]["y"]).max()
    assert 4.6e-4 < error < 4.8e-4


def test_leaves_the_tanh_form_and_says_so() -> None:
    model = gelu("tanh")
    before = model.clone()
    outcome = FastGelu().apply(model, make_context())
    assert (outcome.rewrites, outcome.detail) == (0, "it has no exact GELU")
    assert identical(before, model)


def test_leaves_what_is_as_fast() -> None:
    seen: dict[str, list[str]] = {}

    def choose(key: str, forms: Any, rule: str) -> Choice:
        seen.update({name: loaded_operators(ir.from_proto(forms[name]())) for name in forms})
        return Choice("as it is", 0.8, True)

    model = gelu("none", "batch")
    before = model.clone()
    outcome = FastGelu().apply(model, make_context(choose))
    assert outcome.refusals[0].reason == "no other form is measurably faster (0.80 times)"
    assert identical(before, model)
    assert seen == {"as it is": ["Gelu"], "the tanh formula": ["FastGelu"]}


def test_runs_where_it_is_asked_for() -> None:
    assert FastGelu.asked and FastGelu.promise is LOSSY
    for asked in (False, True):
        names = [item.name for item in passes_for(Request("model.onnx", fast_gelu=asked))]
        assert ("fast-gelu" in names) == asked
        assert "activation-form" in names
