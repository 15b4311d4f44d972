"""What is proven of masks, and the reasons why forms cannot say them."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from samples import parse

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.masks import Masks
from burnish.passes.lower.attention.facts import Facts, facts_of
from burnish.passes.lower.attention.forms import FORMS
from burnish.passes.lower.attention.meaning import meaning_of
from burnish.passes.lower.attention.site import Meaning, Site, site_of

MODEL = """
<ir_version: 11, opset_import: ["" : 23]>
attention (float[b, s, 32] q, float[b, s, 32] k, float[b, s, 32] v, int64[b, s] padding,
           bool[b, 1, s, s] given, float[1, 4, s, s] numbers, int64[b, n] longer)
  => (float[b, s, 32] y)
<float zero = {0}, float low = {-inf}, float lowest = {-1e30}, int64[2] axes = {1, 2},
 int64 first = {0}, int64 step = {1}, int64[1] one = {1}, int64 ahead = {1}, int64 width = {-3}>
{
  length = Shape <start = 1, end = 2> (q)
  count = Squeeze (length)
  columns = Range (first, count, step)
  rows = Unsqueeze (columns, one)
  causal = LessOrEqual (columns, rows)
  later = Add (rows, ahead)
  loose = LessOrEqual (columns, later)
  place = Sub (columns, rows)
  near = Greater (place, width)
  window = And (causal, near)
  exists = Cast <to = 9> (padding)
  keys = Unsqueeze (exists, axes)
  both = And (causal, keys)
  finite = Where (both, zero, lowest)
  biased = Add (numbers, numbers)
  y = Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v, MASK)
}
"""


def site(mask: str, change: tuple[str, str] = ("", "")) -> Site:
    model = parse(MODEL.replace("MASK", mask).replace(*change))
    shapes.annotate(model)
    node = next(item for item in model.graph if item.op_type == "Attention")
    facts = facts_of(node)
    assert isinstance(facts, Facts)
    return site_of(node, facts, meaning_of(node, facts, Masks()), {})


def meaning(mask: str) -> Meaning:
    return site(mask).meaning


def named(value: ir.Value | None) -> str | None:
    return value.name if value is not None else None


def test_causal_and_padding_are_told_apart() -> None:
    found = meaning("both")
    assert (found.causal, named(found.padding), found.rest) == (True, "padding", "")
    assert found.zero and not found.sees_itself
    found = meaning("causal")
    assert (found.causal, found.padding, found.rest) == (True, None, "")
    assert found.sees_itself


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        ("given", "its mask is given(given)"),
        ("loose", "its mask has a window"),
        ("window", "its mask has a window(left=2, right=0)"),
        ("numbers", "its mask adds numbers"),
        ("biased", "its mask is not understood at Add biased"),
    ],
)
def test_the_rest_is_named(mask: str, reason: str) -> None:
    assert reason in meaning(mask).rest
    for form in ("MultiHeadAttention (causal)", "MultiHeadAttention (key padding)"):
        assert reason in FORMS[form].refusal(site(mask))


def test_added_numbers_may_hide_every_key() -> None:
    assert not meaning("numbers").sees_itself
    assert not meaning("biased").sees_itself


def test_a_window_is_causal_and_sees_itself() -> None:
    found = meaning("window")
    assert found.causal and found.sees_itself and found.rest
    assert FORMS["GroupQueryAttention"].refusal(site("window")) == ""


@pytest.mark.parametrize(
    ("form", "mask", "reason"),
    [
        ("GroupQueryAttention", "keys", "it is not causal"),
        ("GroupQueryAttention", "loose", "its mask has a window"),
        ("GroupQueryAttention", "finite", "a mean that it cannot say"),
        ("MultiHeadAttention (key padding)", "finite", "a mean that it cannot say"),
        ("MultiHeadAttention (key padding)", "causal", "it hides no keys by an input"),
        ("MultiHeadAttention (causal)", "both", "it hides keys by an input"),
        ("MultiHeadAttention (causal)", "keys", "it hides keys by an input"),
        ("Attention with weights", "both", "three products of one input"),
        ("MultiHeadAttention (packed)", "both", "three products of one input"),
    ],
)
def test_a_form_says_why_it_cannot(form: str, mask: str, reason: str) -> None:
    assert reason in FORMS[form].refusal(site(mask))


def test_heads_that_are_no_multiple_of_eight() -> None:
    found = site("causal", ("num_heads = 4", "num_heads = 8"))
    assert "multiple of 8" in FORMS["GroupQueryAttention"].refusal(found)


def test_a_bound_on_scores_is_a_reason() -> None:
    found = site("causal", ("<q_num", "<softcap = 2.0, q_num"))
    assert "bounded" in FORMS["MultiHeadAttention"].refusal(found)
    assert FORMS["GroupQueryAttention"].refusal(found) == ""
