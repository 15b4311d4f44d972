"""What packing refuses, and batches in which few or no tokens are real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from harness import made_up, make_checker, make_context, make_executor, run_model
from samples import parse

from burnish.optimizer import pipeline
from burnish.optimizer.contract import Outcome
from burnish.optimizer.undefined import cleared
from burnish.passes.restructure.pack import Pack

ENCODER = (Path(__file__).parent / "encoder.before.onnxtxt").read_text()
POOLED = (Path(__file__).parent / "pooled.before.onnxtxt").read_text()
MASKED = "masked = Mul (hidden, column)"


def packed(text: str) -> tuple[ir.Model, ir.Model, Outcome]:
    """The model, the same packed, and what the pass said."""
    before = parse(text)
    after = before.clone()
    return before, after, Pack().apply(after, make_context())


REFUSED = [
    (ENCODER, {"Add (scaled, hidden_keys)": "Identity (scaled)"}, "no mask hides padded keys"),
    (ENCODER, {"{-10000.0}": "{-5.0}"}, "no mask hides padded keys"),
    (ENCODER, {"Sub (unit, keys)": "Identity (keys)"}, "no mask hides padded keys"),
    (
        ENCODER,
        {
            "hidden_keys = Mul (absent, lowest)": "rows = Transpose <perm = [0, 1, 3, 2]> (absent) "
            "hidden_keys = Mul (rows, lowest)"
        },
        "no mask hides padded keys",
    ),
    (
        ENCODER,
        {"int64[batch, sequence] attention_mask": "int64[batch, 8] attention_mask"},
        "is fixed or has no name",
    ),
    (
        ENCODER,
        {"int64[batch, sequence] attention_mask": "float[batch, sequence] amounts",
         "(attention_mask)": "(amounts)"},
        "no input [batch, sequence] says",
    ),
    (ENCODER, {'"" : 17': '"" : 12'}, "the operator set is older"),
    (POOLED, {MASKED: "masked = Identity (hidden)"}, "ReduceSum mixes padded tokens"),
    (
        POOLED,
        {"number = Cast <to = 1> (mask)": "number = Cast <to = 1> (ids)"},
        "ReduceSum mixes padded tokens",
    ),
    (
        POOLED,
        {
            "taken = ": "flat = Reshape (ids, minus) id = Gather (flat, zero) taken = ",
            "(hidden, zero)": "(hidden, id)",
            "axis1 = ": "minus = {-1}, int64[1] axis1 = ",
        },
        "it takes tokens at computed places",
    ),
    (POOLED, {"(hidden, zero)": "(summed, zero)", "taken = ": "summed = CumSum (hidden, zero) "
              "taken = "}, "padded rows reach CumSum"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "edits", "reason"), REFUSED)
def test_refuses(text: str, edits: dict[str, str], reason: str) -> None:
    for old, new in edits.items():
        assert old in text
        text = text.replace(old, new)
    before, after, outcome = packed(text)
    assert outcome.rewrites == 0
    assert ir.to_proto(before) == ir.to_proto(after)
    assert any(reason in refusal.reason for refusal in outcome.refusals), outcome.refusals


@pytest.mark.parametrize("text", [ENCODER, POOLED], ids=["encoder", "pooled"])
def test_real_tokens_are_as_they_were(text: str) -> None:
    before, after, outcome = packed(text)
    assert outcome.rewrites
    random = np.random.default_rng(0)
    feeds = []
    for feed in made_up(before):
        name = next(name for name in feed if "mask" in name)
        mask = random.random(feed[name].shape) > 0.6
        mask[:, mask.shape[1] // 2] = True
        feeds += [feed, {**feed, name: mask.astype(feed[name].dtype)}]
    runs = zip(feeds, run_model(before, feeds), run_model(after, feeds), strict=True)
    for feed, mine, theirs in runs:
        for name, array in cleared(mine, feed, outcome.undefined).items():
            np.testing.assert_allclose(array, theirs[name], rtol=1e-5, atol=1e-6)


def test_a_batch_without_tokens_is_zero() -> None:
    _, after, _ = packed(ENCODER)
    ids = np.zeros((2, 5), np.int64)
    (result,) = run_model(after, [{"ids": ids, "attention_mask": ids}])
    assert result["hidden"].shape == (2, 5, 4)
    assert (result["hidden"] == 0).all()


def test_a_selected_token_is_computed_although_it_is_padded() -> None:
    before, after, _ = packed(POOLED)
    ids = np.array([[1, 2, 3, 4]])
    feed = {"ids": ids, "mask": np.array([[False, False, True, True]])}
    mine, theirs = run_model(before, [feed])[0], run_model(after, [feed])[0]
    np.testing.assert_allclose(mine["first"], theirs["first"], rtol=1e-5)
    assert (theirs["weights"][0, :, :2] == 0).all()


def test_products_run_on_real_tokens_only() -> None:
    _, after, outcome = packed(ENCODER)
    product = next(node for node in after.graph if node.op_type == "MatMul")
    value = product.outputs[0]
    after.graph.outputs.append(value)
    ids = np.zeros((3, 7), np.int64)
    mask = np.zeros_like(ids)
    mask[0, :4], mask[2, 2] = 1, 1
    (result,) = run_model(after, [{"ids": ids, "attention_mask": mask}])
    assert result[value.name or ""].shape == (1, 1 + 5, 4)
    assert outcome.rewrites == 4


def test_padding_counts_for_nothing_but_has_to_be_zero(tmp_path: Path) -> None:
    before, after, outcome = packed(ENCODER)
    checker = make_checker(make_executor(tmp_path), before)
    assert not checker.check(before, after, Pack.promise, outcome.undefined).problem
    assert checker.check(before, after, Pack.promise).problem
    same = before.clone()
    last = same.graph[-1]
    last.replace_input_with(0, last.inputs[0])
    last.op_type = "Sum"
    assert checker.check(before, same, Pack.promise, outcome.undefined).problem


def test_the_pipeline_keeps_it(tmp_path: Path) -> None:
    before = parse(POOLED)
    check = make_checker(make_executor(tmp_path), before).check
    compiled = pipeline.run(before, [Pack()], make_context(), check)
    assert compiled.steps[0].status == "kept", compiled.steps[0].reason
    assert [row.output for row in compiled.undefined] == ["weights"]
    assert pipeline.first_asked(compiled) == 0
