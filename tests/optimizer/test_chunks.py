"""Windows of attentions in chunks are proven, or nothing is claimed."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from samples import parse

from burnish.optimizer.analysis.anchors import Flow, attentions
from burnish.optimizer.analysis.chunks import Chunks, window_of

BAND = ", ".join(
    "0" if -3 <= key - 4 - query <= 2 else "-1e9" for query in range(4) for key in range(12)
)
"""Added to the scores of a chunk of four: keys three before and two after are seen."""

CHUNKS = f"""
<ir_version: 10, opset_import: ["" : 20]>
chunks (float[rows, n, 8] q, float[rows, n, 8] k, float[rows, n, 8] v, int64[rows, n] mask)
  => (float[rows, n, 8] y)
<float half = {{0.5}}, float one = {{1}}, float large = {{1e9}}, float[4, 12] band = {{{BAND}}},
 int64[6] sides = {{0, 4, 0, 0, 4, 0}}, int64[1] axis = {{1}}, int64[1] zero = {{0}},
 int64[1] four = {{4}}, int64[1] eight = {{8}}, int64[1] last = {{-4}}, int64[1] before = {{-8}},
 int64[1] far = {{9223372036854775807}}, int64[4] apart = {{0, -1, 4, 8}},
 int64[4] single = {{0, -1, 1, 4}}, int64[3] whole = {{0, -1, 8}}, int64[1] depth = {{2}}>
{{
  qc = Reshape (q, apart)
  kp = Pad (k, sides)
  k0 = Slice (kp, zero, before, axis) k1 = Slice (kp, four, last, axis)
  k2 = Slice (kp, eight, far, axis)
  ka = Reshape (k0, apart) kb = Reshape (k1, apart) kc = Reshape (k2, apart)
  keys = Concat <axis = 2> (ka, kb, kc)
  vp = Pad (v, sides)
  v0 = Slice (vp, zero, before, axis) v1 = Slice (vp, four, last, axis)
  v2 = Slice (vp, eight, far, axis)
  va = Reshape (v0, apart) vb = Reshape (v1, apart) vc = Reshape (v2, apart)
  values = Concat <axis = 2> (va, vb, vc)
  real = Cast <to = 1> (mask) wide = Unsqueeze (real, depth)
  mp = Pad (wide, sides)
  m0 = Slice (mp, zero, before, axis) m1 = Slice (mp, four, last, axis)
  m2 = Slice (mp, eight, far, axis)
  ma = Reshape (m0, single) mb = Reshape (m1, single) mc = Reshape (m2, single)
  seen = Concat <axis = 3> (ma, mb, mc)
  less = Sub (seen, one) hidden = Mul (less, large)
  turned = Transpose <perm = [0, 1, 3, 2]> (keys)
  product = MatMul (qc, turned)
  scaled = Mul (product, half)
  banded = Add (scaled, band)
  scores = Add (banded, hidden)
  p = Softmax <axis = -1> (scores)
  mixed = MatMul (p, values)
  y = Reshape (mixed, whole)
}}
"""


OWN = ", ".join((["-1e9"] * 4 + ["0"] * 4 + ["-1e9"] * 4) * 4)
"""Every query sees its own chunk, wherever in it the query stands."""


def found(*pairs: tuple[str, str]) -> Chunks | str:
    text = CHUNKS
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    model = parse(text)
    flow = Flow(model)
    (anchor,) = attentions(flow)
    return window_of(model, anchor, flow)


def test_the_window_is_proven_at_several_lengths_and_under_padding() -> None:
    window = found()
    assert isinstance(window, Chunks)
    assert str(window) == "window(left=3, right=2) & key_padding(mask)"
    assert (window.heads, window.size, window.scale) == (1, 8, 0.5)
    assert len(window.lengths) == 3


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        # The scores are of keys one chunk further on than the values.
        ("(ka, kb, kc)", "(kb, kc, ka)", "but not by their keys' scores"),
        # The tokens that are hidden beside a chunk are those of the chunk.
        ("(ma, mb, mc)", "(mb, mb, mb)", "no window"),
        ("real = Cast <to = 1> (mask)",
         "c = Cast <to = 1> (mask) d = Sub (c, c) real = Add (d, one)", "not under padding"),
        (f"band = {{{BAND}}}", f"band = {{{OWN}}}", "no window"),
        ("scaled = Mul (product, half)", "t = Mul (product, half) scaled = Tanh (t)", "scores"),
        ("product = MatMul (qc, turned)",
         "a = MatMul (qc, turned) b = MatMul (qc, turned) product = Add (a, b)", "come from"),
        ("mixed = MatMul (p, values)",
         "a = MatMul (p, values) b = MatMul (p, keys) mixed = Add (a, b)", "go into"),
    ],
)  # fmt: skip
def test_nothing_is_claimed(old: str, new: str, reason: str) -> None:
    outcome = found((old, new))
    assert isinstance(outcome, str)
    assert reason in outcome


def test_a_length_at_which_it_is_no_window_is_enough() -> None:
    """A band that is lifted where the text is longer than sixteen tokens."""
    lifted = (
        "banded = Add (scaled, band)",
        "size = Shape <start = 1, end = 2> (q) longer = Greater (size, sixteen)"
        "other = Mul (band, tiny) used = Where (longer, other, band) banded = Add (scaled, used)",
    )
    one = "float one = {1}"
    constants = (one, f"{one}, float tiny = {{1e-12}}, int64[1] sixteen = {{16}}")
    assert isinstance(found(lifted, constants), str)


def test_in_a_subgraph_it_is_not_run() -> None:
    body = CHUNKS[CHUNKS.index("qc =") : CHUNKS.rindex("}")]
    head = CHUNKS[: CHUNKS.index("qc =")]
    model = parse(
        f"{head} f = Cast <to = 9> (zero) y = If (f) < "
        f"then_branch = t () => (y1) {{ {body.replace('y = Reshape', 'y1 = Reshape')} }}, "
        "else_branch = e () => (y2) { y2 = Identity (v) } > }"
    )
    flow = Flow(model)
    (anchor,) = attentions(flow)
    assert isinstance(outcome := window_of(model, anchor, flow), str)
    assert "subgraph" in outcome
    assert isinstance(model, ir.Model)
