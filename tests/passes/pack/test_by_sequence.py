"""Attention of packed tokens in a loop over sequences, and why it is left padded."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from harness import choosing, last_form, make_context, run_model
from samples import parse

from burnish.optimizer.contract import Outcome, relative_l2
from burnish.optimizer.undefined import cleared
from burnish.passes.restructure import sequences
from burnish.passes.restructure.pack import Pack

ENCODER = (Path(__file__).parent / "by_sequence.before.onnxtxt").read_text()
CALL = "Attention <q_num_heads = 2, kv_num_heads = 2> (query, query, value, mask)"

Change = dict[str, str]


def packed(changes: Change, provider: str = "cpu") -> tuple[ir.Model, ir.Model, Outcome]:
    """The model, the same packed, and what the pass said."""
    text = ENCODER
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    before = parse(text)
    after = before.clone()
    context = dataclasses.replace(make_context(last_form), provider=provider)
    return before, after, Pack().apply(after, context)


def loops(model: ir.Model) -> int:
    return Counter(node.op_type for node in ir.traversal.RecursiveGraphIterator(model.graph))[
        "Loop"
    ]


MASKS = {
    "right padding": [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]],
    "left padding": [[0, 1, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1]],
    "holes": [[1, 0, 1, 1], [0, 1, 0, 1], [1, 1, 0, 0]],
    "a sequence without tokens": [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]],
    "no padding": [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]],
    "no tokens": [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
    "one token": [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]],
}

CASES: dict[str, Change] = {
    "all heads": {},
    "heads in groups": {
        "kv_num_heads = 2> (query, query, value": "kv_num_heads = 1> (query, key, part",
        "  context =": "  key = MatMul (x, narrower)\n  part = MatMul (x, narrower)\n  context =",
        "int64[2] axes12": "float[4, 2] narrower = {1, 2, 3, -4, 5, 0.6, 0.7, -8}, int64[2] axes12",
    },
    "causal": {"Attention <": "Attention <is_causal = 1, "},
    "bounded, with a scale": {"Attention <": "Attention <softcap = 2.0, scale = 3.0, "},
    "a finite mask": {"{-inf}": "{-1e30}"},
}


@pytest.mark.parametrize("padding", MASKS)
@pytest.mark.parametrize("case", CASES)
def test_real_tokens_are_unchanged(case: str, padding: str) -> None:
    before, after, outcome = packed(CASES[case])
    assert loops(after) == 1
    assert "1 attentions by sequence" in outcome.detail
    mask = np.array(MASKS[padding])
    feed = {"ids": np.arange(12).reshape(3, 4) % 6, "attention_mask": mask}
    mine, theirs = (run_model(model, [feed])[0] for model in (before, after))
    expected = cleared(mine, feed, outcome.undefined)["hidden"]
    assert np.isfinite(theirs["hidden"]).all()
    assert relative_l2(expected, theirs["hidden"]) < 1e-6


def test_a_selected_token_is_no_key_unless_it_is_real() -> None:
    """The first token is computed for the output `first` where it is padding as well."""
    change = {
        "=> (float[batch, sequence, 4] hidden)": "=> (float[batch, 4] first)",
        "hidden = Add (projected, x)": "hidden = Add (projected, x)\n"
        "  first = Gather <axis = 1> (hidden, place)",
        "int64[2] axes12": "int64 place = {0}, int64[2] axes12",
    }
    before, after, _ = packed(change)
    assert loops(after) == 1
    for padding in ("right padding", "left padding", "holes"):
        mask = np.array(MASKS[padding])
        feed = {"ids": np.arange(12).reshape(3, 4) % 6, "attention_mask": mask}
        mine, theirs = (run_model(model, [feed])[0]["first"] for model in (before, after))
        assert relative_l2(mine, theirs) < 1e-6


REFUSED: dict[str, tuple[Change, str]] = {
    "another result": (
        {"hidden)\n": "hidden, float[batch, sequence, 4] context)\n"},
        "its result is not packed again",
    ),
    "values that are given": (
        {
            "(query, query, value": "(query, query, given",
            "attention_mask)\n  =>": "attention_mask, float[batch, sequence, 4] given)\n  =>",
        },
        "not all made by packed layers",
    ),
    "a number for each distance": (
        {
            "mask)\n": "near)\n",
            "  context =": "  count = Squeeze (size)\n  row = Range (none, count, step)\n"
            "  column = Unsqueeze (row, last)\n  far = Sub (row, column)\n"
            "  away = Abs (far)\n  slope = Cast <to = 1> (away)\n  near = Sub (mask, slope)\n"
            "  context =",
            "int64[2] axes12": "int64 none = {0}, int64 step = {1}, int64[1] last = {1}, "
            "int64[2] axes12",
        },
        "its mask adds numbers",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_left_padded(case: str) -> None:
    _, after, outcome = packed(REFUSED[case][0])
    assert outcome.rewrites > 0
    assert loops(after) == 0
    assert any(REFUSED[case][1] in item.reason for item in outcome.refusals)


def test_other_providers_attend_in_the_padded_layout() -> None:
    _, after, outcome = packed({}, "cuda")
    assert outcome.rewrites > 0
    assert loops(after) == 0
    assert "nothing was measured on this provider" in outcome.refusals[0].reason


def test_padded_where_that_is_measured_as_fast() -> None:
    model = parse(ENCODER)
    outcome = Pack().apply(model, make_context(choosing("padded")))
    assert loops(model) == 0
    assert "by sequence is not measurably faster" in outcome.refusals[0].reason


def test_samples_of_both_forms_compute_the_same() -> None:
    samples = {}

    def choose(key: str, forms: dict, rule: str) -> object:
        samples.update({name: build() for name, build in forms.items()})
        return last_form(key, forms, rule)

    Pack().apply(parse(ENCODER), make_context(choose))
    models = {name: ir.from_proto(message) for name, message in samples.items()}
    random = np.random.default_rng(0)
    feed = {
        value.name: random.standard_normal(value.shape.numpy()).astype(np.float32)
        for value in models[sequences.PADDED].graph.inputs
    }
    padded, looped = (run_model(models[name], [feed])[0]["result"] for name in models)
    # The first token is one of the first sequence in the one, and a sequence in the other.
    assert relative_l2(padded[:, 1:], looped[:, 1:]) < 1e-6
    assert loops(models[sequences.BY_SEQUENCE]) == 1
