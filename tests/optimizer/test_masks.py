from __future__ import annotations

import pytest
from mask_graphs import IDS, PADDED, analyse, build, proven

from burnish.optimizer.analysis.masks import Alibi, KeyPadding, describe

CAUSAL = """
  seen = LessOrEqual(key, query)
  whole = Unsqueeze(seen, outer)
"""
PADDING = """
  padded = Unsqueeze(attention_mask, middle)
"""
ADDED = "  mask = Where(kept, none, lowest)\n"

FORMS = {
    "key_padding(attention_mask)": PADDING + "  kept = Cast<to=9>(padded)\n" + ADDED,
    "causal": CAUSAL + "  mask = Where(whole, none, lowest)\n",
    "causal & key_padding(attention_mask)": CAUSAL + PADDING + """
  real = Cast<to=9>(padded)
  kept = And(whole, real)
""" + ADDED,
    "causal & window(left=2, right=0)": """
  width = Constant<value = int64 {3}>()
  age = Sub(query, key)
  near = Less(age, width)
  seen = LessOrEqual(key, query)
  both = And(near, seen)
  kept = Unsqueeze(both, outer)
""" + ADDED,
    "window(left=2, right=2)": """
  width = Constant<value = int64 {2}>()
  signed = Sub(query, key)
  age = Abs(signed)
  near = LessOrEqual(age, width)
  kept = Unsqueeze(near, outer)
""" + ADDED,
    "block_diagonal(floor_div(key, 3))": """
  width = Constant<value = int64 {3}>()
  mine = Div(query, width)
  theirs = Div(key, width)
  same = Equal(mine, theirs)
  kept = Unsqueeze(same, outer)
""" + ADDED,
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    mask = proven(build(FORMS[form]))
    assert str(mask) == form
    assert mask.levels == {-3.4028234663852886e38}
    assert mask.empty_rows == "uniform"
    assert mask.is_causal_only() is (form == "causal")
    assert mask.shared_by_heads
    assert mask.shared_by_batch is ("padding" not in form)
    assert mask.shared_by_queries is (form == "key_padding(attention_mask)")


def test_one_minus_mask_assumes_zero_and_one() -> None:
    mask = proven(build(PADDING + """
  number = Cast<to=1>(padded)
  unit = Constant<value = float {1.0}>()
  rest = Sub(unit, number)
  large = Constant<value = float {-10000.0}>()
  mask = Mul(rest, large)
"""))  # fmt: skip
    assert str(mask) == "key_padding(attention_mask)"
    padding = mask.key_padding
    assert padding is not None
    assert (padding.names, padding.binary) == (("attention_mask",), True)
    assert mask.assumed == ("attention_mask[batch, key] is 0 or 1",)
    assert mask.empty_rows == "unmasked"
    assert "rows without keys are unmasked" in describe(mask)


def test_two_hiding_masks_add_up_to_infinity() -> None:
    mask = proven(build(CAUSAL + PADDING + """
  real = Cast<to=9>(padded)
  one_mask = Where(whole, none, lowest)
  other = Where(real, none, lowest)
  mask = Add(one_mask, other)
"""))  # fmt: skip
    assert str(mask) == "causal & key_padding(attention_mask)"
    assert len(mask.levels) == 2
    assert mask.empty_rows == "mixed"


def test_inverted_condition() -> None:
    body = CAUSAL + "  mask = Not(whole)\n"
    model = build(body, kind="bool")
    from burnish.optimizer.analysis.masks import Masks

    assert str(Masks().of(model.graph.outputs[0], inverted=True)) == "causal"
    assert analyse(model).causal is None


def test_past_moves_the_query() -> None:
    inputs = f"{IDS}, float[batch, 2, past, 4] cache"
    mask = proven(build("""
  caches = Shape(cache)
  two = Constant<value = int64 {2}>()
  past = Gather(caches, two)
  end = Add(past, length)
  every = Range(zero, end, one)
  place = Add(query, past)
  keys = Unsqueeze(every, first)
  seen = LessOrEqual(keys, place)
  kept = Unsqueeze(seen, outer)
""" + ADDED, inputs, shape="1, 1, sequence, total"))  # fmt: skip
    assert str(mask) == "causal(offset=past)"


def test_prefix_is_seen_by_all() -> None:
    inputs = f"{IDS}, int64[batch] prefix"
    mask = proven(build("""
  seen = LessOrEqual(key, query)
  ends = Unsqueeze(prefix, middle)
  early = Less(key, ends)
  either = Or(seen, early)
  kept = Unsqueeze(either, second)
""" + ADDED, inputs))  # fmt: skip
    assert str(mask).startswith("prefix(")
    assert not mask.shared_by_batch


def test_packed_sequences_by_what_an_input_says() -> None:
    mask = proven(build("""
  rows = Unsqueeze(ids, third)
  columns = Unsqueeze(ids, second)
  same = Equal(rows, columns)
  seen = LessOrEqual(key, query)
  both = And(same, seen)
  kept = Unsqueeze(both, second)
""" + ADDED))  # fmt: skip
    assert str(mask) == "causal & block_diagonal(ids[batch, key])"


def test_alibi_and_padded_positions() -> None:
    mask = proven(build("""
  slopes = Constant<value = float[2] {0.5, 0.25}>()
  heads = Unsqueeze(slopes, middle)
  age = Sub(key, query)
  number = Cast<to=1>(age)
  mask = Mul(heads, number)
""", shape="2, sequence, sequence"))  # fmt: skip
    bias = mask.bias
    assert isinstance(bias, Alibi)
    assert str(bias.distance) == "key - query"
    assert mask.depends == {"head", "query", "key"}


def test_query_padding() -> None:
    mask = proven(build("""
  rows = Unsqueeze(attention_mask, third)
  columns = Unsqueeze(attention_mask, second)
  both = Mul(rows, columns)
  pairs = Unsqueeze(both, second)
  kept = Cast<to=9>(pairs)
""" + ADDED))  # fmt: skip
    assert {item.orientation for item in mask.all(KeyPadding)} == {"key", "query"}


def test_what_is_computed_from_activations_is_opaque() -> None:
    inputs = f"{PADDED}, float[batch, 1, sequence, sequence] scores"
    mask = analyse(build("  mask = Sigmoid(scores)\n", inputs))
    assert [str(item) for item in mask.opaque] == [
        "opaque(no known function of batch, key, query at Sigmoid mask)"
    ]


def test_a_wrong_normal_form_is_caught() -> None:
    import dataclasses

    from mask_graphs import run, trials

    from burnish.optimizer.analysis.masks import Causal
    from burnish.optimizer.analysis.masks.proof import prove
    from burnish.optimizer.analysis.masks.terms import ONE

    model = build(FORMS["causal"])
    wrong = dataclasses.replace(analyse(model), clauses=(Causal(ONE),))
    reasons = [prove(wrong, model, feeds, run) for feeds in trials(model)]
    assert "it is seen in one of the two only at [0, 0, 0, 1]" in reasons


def test_many_layers_take_linear_work() -> None:
    layer = """
  number{n} = Cast<to=1>(whole{m})
  sum{n} = Add(number{n}, number{n})
  again{n} = Mul(sum{n}, sum{n})
  whole{n} = Cast<to=9>(again{n})
"""
    body = CAUSAL + "  whole0 = Identity(whole)\n"
    body += "".join(layer.format(n=number + 1, m=number) for number in range(60))
    mask = analyse(build(body + "  mask = Where(whole60, none, lowest)\n"))
    assert str(mask) == "causal"
