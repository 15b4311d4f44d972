"""Sizes that are not those of the axes, and other readers, leave the reshapes in place."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import make_context
from samples import parse

from burnish.optimizer.regions import identical
from burnish.passes.recover.flat_transpose import FlatTranspose

KEYS = Path(__file__).with_name("keys.before.onnxtxt").read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Concat <axis = 0> (all, rows, width)", "Concat <axis = 0> (all, width, rows)"),
        ("Concat <axis = 0> (others, width, rows)", "Concat <axis = 0> (others, rows, width)"),
        ("Concat <axis = 0> (others, width, rows)", "Concat <axis = 0> (all, width, rows)"),
        ("Slice (sizes, first, from)", "Slice (sizes, first, first)"),
        ("int64[1] width = {4}", "int64[1] width = {2}"),
    ],
)
def test_refuses_other_sizes(old: str, new: str) -> None:
    assert old in KEYS
    model = parse(KEYS.replace(old, new))
    before = model.clone()
    outcome = FlatTranspose().apply(model, make_context())
    assert outcome.rewrites == 0
    assert len(outcome.refusals) == 1
    assert identical(before, model)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("perm = [0, 2, 1]", "perm = [2, 0, 1]"),
        ("(float[batch, 2, 4, length] y)", "(float[batch, 2, 4, length] y, swapped)"),
        ("[batch, 2, length, 4] x", "[batch, length, 4] x"),
    ],
)
def test_leaves_what_is_no_flat_transpose(old: str, new: str) -> None:
    assert old in KEYS
    outcome = FlatTranspose().apply(parse(KEYS.replace(old, new)), make_context())
    assert (outcome.rewrites, outcome.refusals) == (0, ())
