"""Wrong passes between right ones: each is rejected by name, and the model stays right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from harness import made_up, make_checker, make_context, make_executor, run_model
from samples import encoder
from wrong_passes import WRONG, DanglingInput, Planted

from burnish.optimizer import pipeline
from burnish.passes.recover.clean import Clean

FRESH = 71
"""Seed of feeds that no check has seen."""

CRASHING = {"planted-more-memory-than-there-is", "planted-cycle"}
"""Those whose result is dangerous to run in this process."""


@pytest.mark.parametrize("wrong", WRONG, ids=lambda kind: kind.name)
def test_is_rejected(wrong: type[Planted], tmp_path: Path) -> None:
    model = ir.from_proto(wrong.sample())
    executor = make_executor(tmp_path, child=wrong.name in CRASHING)
    check = make_checker(executor, model).check
    feeds = made_up(model, FRESH)
    expected = run_model(model, feeds)

    compiled = pipeline.run(model, [Clean(), wrong(), Clean()], make_context(), check)

    first, step, last = compiled.steps
    assert step.status == "rejected"
    assert step.reason
    assert step.transform.name == wrong.name
    assert {first.status, last.status} <= {"kept", "unchanged"}
    for before, after in zip(expected, run_model(compiled.model, feeds), strict=True):
        assert list(before) == list(after)
        for name, array in before.items():
            np.testing.assert_array_equal(array, after[name])


def test_reasons_fit_on_a_line(tmp_path: Path) -> None:
    """Also where the graph is so broken that a library answers with all of it."""
    model = ir.from_proto(encoder())
    check = make_checker(make_executor(tmp_path), model).check
    (step,) = pipeline.run(model, [DanglingInput()], make_context(), check).steps
    assert step.status == "rejected"
    assert len(step.reason) <= 400
    assert "\n" not in step.reason
