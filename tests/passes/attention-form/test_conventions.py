"""What exporters and operators call a window of so many keys, off by one and off by half."""

from __future__ import annotations

import pytest
from samples import parse

from burnish.optimizer.analysis.masks import Masks
from burnish.optimizer.analysis.masks.reach import reach_of

TEXT = """
<ir_version: 11, opset_import: ["" : 23]>
conventions (float[s, 8] x) => (bool[s, s] mask)
<int64 first = {0}, int64 step = {1}, int64[1] last = {1}, int64 zero = {0}, int64 size = {SIZE},
 int64 least = {LEAST}>
{
  length = Shape <start = 0, end = 1> (x)
  count = Squeeze (length)
  keys = Range (first, count, step)
  queries = Unsqueeze (keys, last)
  distance = Sub (keys, queries)
  back = Sub (queries, keys)
  far = Abs (distance)
  causal = LessOrEqual (distance, zero)
  BODY
}
"""

ROWS = {
    # Hugging Face's sliding_window=W is `key > query - W`: W keys with the query itself.
    "sliding_window": ("within = Less (back, size)\n  mask = And (causal, within)", 4, (3, 0)),
    # Its ModernBERT's local_attention=W is `|query - key| <= W / 2`.
    "local_attention": ("mask = LessOrEqual (far, size)", 4, (4, 4)),
    # ONNX's Attention of operator set 25 counts keys to the left and to the right.
    "left_window": ("within = GreaterOrEqual (distance, least)\n  mask = And (causal, within)", 4,
                    (4, 0)),
    # ONNX Runtime's local_window_size attended W + 1 keys in older releases.
    "local_window_size": ("within = LessOrEqual (back, size)\n  mask = And (causal, within)", 4,
                          (4, 0)),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_reach(row: str) -> None:
    body, size, expected = ROWS[row]
    text = TEXT.replace("BODY", body).replace("SIZE", str(size)).replace("LEAST", str(-size))
    model = parse(text)
    found, _ = reach_of(Masks().of(model.graph.outputs[0]))
    assert found is not None
    assert (found.left, found.right) == expected
