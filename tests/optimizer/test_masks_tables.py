from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from mask_graphs import IDS, PADDED, analyse, build, proven

from burnish.optimizer.analysis.masks import Added, Given, Masks, Relative, Table

SLICED = """
  ends = Unsqueeze(length, first)
  rows = Slice(buffer, first, ends, first)
  kept = Slice(rows, first, ends, second)
"""


def with_table(body: str, table: np.ndarray, **settings: str) -> ir.Model:
    """A model whose text may name the constant `buffer`."""
    inputs = f"{PADDED}, float[{', '.join(map(str, table.shape))}] buffer"
    model = build(body, inputs, **settings)
    value = model.graph.inputs.pop()
    value.const_value = ir.tensor(table, name="buffer")
    value.dtype = value.const_value.dtype
    model.graph.register_initializer(value)
    return model


def test_a_sliced_triangle_is_causal() -> None:
    table = np.tril(np.ones((16, 16), bool))
    body = SLICED + "  mask = Where(kept, none, lowest)\n"
    assert str(proven(with_table(body, table, shape="s, s"))) == "causal"


def test_a_sliced_band_is_a_window() -> None:
    table = np.tril(np.ones((16, 16), bool)) & ~np.tril(np.ones((16, 16), bool), -4)
    body = SLICED + "  mask = Where(kept, none, lowest)\n"
    assert str(proven(with_table(body, table, shape="s, s"))) == "causal & window(left=3, right=0)"


def test_a_triangle_with_one_wrong_bit_is_a_table() -> None:
    table = np.tril(np.ones((16, 16), bool))
    table[9, 3] = False
    mask = proven(with_table(SLICED + "  mask = Where(kept, none, lowest)\n", table, shape="s, s"))
    assert mask.causal is None
    assert str(mask) == "given(buffer)"


def test_additive_triangle_with_padding() -> None:
    table = np.triu(np.full((16, 16), -1e9, np.float32), 1)
    mask = proven(with_table(SLICED + "  mask = Identity(kept)\n", table, shape="s, s"))
    assert str(mask) == "causal"
    assert mask.levels == {-1e9}
    assert mask.empty_rows == "unmasked"


def test_numbers_by_position_are_a_table() -> None:
    table = np.random.default_rng(0).standard_normal((2, 16, 16)).astype(np.float32)
    body = """
  ends = Unsqueeze(length, first)
  rows = Slice(buffer, first, ends, second)
  mask = Slice(rows, first, ends, third)
"""
    mask = proven(with_table(body, table, shape="heads, s, s"))
    assert mask.first(Table)
    assert mask.depends == {"head", "query", "key"}


def test_a_learned_bias_of_the_distance_is_relative() -> None:
    table = np.random.default_rng(0).standard_normal((31, 2)).astype(np.float32)
    body = """
  middle_place = Constant<value = int64 {15}>()
  distance = Sub(key, query)
  bucket = Add(distance, middle_place)
  found = Gather(buffer, bucket)
  heads = Transpose<perm = [2, 0, 1]>(found)
  mask = Unsqueeze(heads, first)
"""
    assert proven(with_table(body, table)).first(Relative)


@pytest.mark.parametrize("kind", ["float", "bool"])
def test_a_given_mask(kind: str) -> None:
    inputs = f"{IDS}, {kind}[batch, 1, sequence, sequence] bias"
    mask = analyse(build("  mask = Identity(bias)\n", inputs, kind))
    assert mask.first(Added if kind == "float" else Given)
    assert mask.boolean is (kind == "bool")
    assert not mask.opaque


def test_lookup_in_a_flattened_mask_says_what_it_assumes() -> None:
    inputs = f"{IDS}, int64[batch, total] attention_mask, float[batch, 2, past, 4] cache"
    model = build("""
  caches = Shape(cache)
  two = Constant<value = int64 {2}>()
  past = Gather(caches, two)
  end = Add(past, length)
  every = Range(zero, end, one)
  keys = Unsqueeze(every, heading)
  widths = Shape(attention_mask)
  width = Gather(widths, one)
  lines = Range(zero, batch, one)
  axes = Constant<value = int64[3] {1, 2, 3}>()
  row = Unsqueeze(lines, axes)
  start = Mul(row, width)
  place = Add(keys, start)
  flat = Reshape(attention_mask, last)
  found = Gather(flat, place)
  kept = Cast<to=9>(found)
  mask = Where(kept, none, lowest)
""", inputs, shape="batch, 1, 1, total")  # fmt: skip
    mask = proven(model)
    assert str(mask) == "key_padding(attention_mask)"
    assert len(mask.assumed) == 1
    assert mask.assumed[0].endswith("<= total")


def test_gather_nd_over_broadcast_positions() -> None:
    mask = proven(build("""
  lines = Range(zero, batch, one)
  axes = Constant<value = int64[4] {1, 2, 3, 4}>()
  row = Unsqueeze(lines, axes)
  ends = Constant<value = int64[4] {0, 1, 2, 4}>()
  keys = Unsqueeze(places, ends)
  both = Max(row, keys)
  target = Shape(both)
  rows = Expand(row, target)
  columns = Expand(keys, target)
  pairs = Concat<axis = -1>(rows, columns)
  real = Cast<to=9>(attention_mask)
  kept = GatherND(real, pairs)
  mask = Where(kept, none, lowest)
""", shape="batch, 1, 1, sequence"))  # fmt: skip
    assert str(mask) == "key_padding(attention_mask)"
    assert mask.assumed == ()


def test_batch_times_heads_in_one_axis() -> None:
    mask = proven(build("""
  slopes = Constant<value = float[2] {0.5, 0.25}>()
  heads = Unsqueeze(slopes, middle)
  number = Cast<to=1>(attention_mask)
  padded = Unsqueeze(number, middle)
  scaled = Mul(heads, padded)
  ends = Unsqueeze(length, first)
  wide = Concat<axis = 0>(last, second, ends)
  mask = Reshape(scaled, wide)
""", shape="rows, 1, sequence"))  # fmt: skip
    assert str(mask) == "full + alibi(pick(head, 0.5, 0.25), attention_mask[batch, key])"


def test_one_analysis_is_remembered() -> None:
    model = build("  kept = Less(zero, one)\n  mask = Where(kept, none, lowest)\n", shape="")
    masks = Masks()
    value = model.graph.outputs[0]
    assert masks.of(value) is masks.of(value)
    assert masks.of(value).is_full
