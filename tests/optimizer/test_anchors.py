"""What a model is made of, in the spellings of exporters and in what only resembles it."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from samples import parse

from burnish.optimizer.analysis.anchors import KINDS, find_anchors

WEIGHTS = """float[4, 4] w, float[4] g, float zero = {0}, float one = {1}, float half = {0.5},
float two = {2}, float three = {3}, float minus = {-1}, float c = {0.044715}, float root = {0.7978},
float quick = {1.702}, float eps = {0.00001}, float count = {4}, float power = {-0.5},
float lowest = {-1e9}, int64[1] last = {-1}, int64[1] start = {0}, int64[1] middle = {2},
int64[1] end = {4}, float[1, 4, 1] column, float[4, 1] single, float[4, 4, 1] kernel,
float[2, 3, 1] sink,
float[1, 1, 4] probe, int64[4] heads = {0, 0, 2, 2}, int64[1] one_more = {1},
int64[1] two_axis = {2}, int64[1] four = {4}, int64[1] far = {9223372036854775807}"""


def model(body: str, opset: int = 20) -> ir.Model:
    """A model whose result is `y`; its constants are those of `WEIGHTS`."""
    return parse(f"""
        <ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>
        g (float[2, 3, 4] x, float[2, 3, 4] z) => (y) <{_filled(WEIGHTS)}> {{ {body} }}
    """)


def _filled(weights: str) -> str:
    """The declarations with numbers for those that give none."""
    parts = []
    for part in weights.replace("\n", " ").split(", float"):
        text = part if part.startswith("float") else f"float{part}"
        if "=" not in text and "int64" not in text:
            sizes = [int(size) for size in text[text.find("[") + 1 : text.find("]")].split(",")]
            count = 1
            for size in sizes:
                count *= size
            text += f" = {{{', '.join(['0.5'] * count)}}}"
        parts.append(text)
    return ", ".join(parts)


def counts(model: ir.Model, kind: str) -> tuple[int, int]:
    """Expected, and of those in the recovered form."""
    anchors = find_anchors(model)[kind]
    assert {anchor.kind for anchor in anchors} <= {kind}
    return len(anchors), sum(anchor.found for anchor in anchors)


QUERY = "k = Transpose <perm = [0, 2, 1]> (z)  s = MatMul (x, k)"

ATTENTION = {
    "plain": (f"{QUERY} p = Softmax <axis = -1> (s) y = MatMul (p, z)", 1, 0),
    "scaled, capped, masked, cast": (
        f"{QUERY} a = Mul (s, half) t = Tanh (a) b = Mul (t, two) m = Add (b, lowest)"
        "h = Cast <to = 10> (m) p = Softmax (h) f = Cast <to = 1> (p) d = Dropout (f)"
        "y = MatMul (d, z)",
        1, 0,
    ),
    "guarded": (
        f"{QUERY} p = Softmax (s) n = IsNaN (p) o = Where (n, zero, p) y = MatMul (o, z)", 1, 0,
    ),
    "with a where for its mask": (
        f"{QUERY} n = Less (s, zero) o = Where (n, lowest, s) p = Softmax (o) y = MatMul (p, z)",
        1, 0,
    ),
    "with sinks": (
        f"{QUERY} e = Concat <axis = -1> (s, sink) p = Softmax (e)"
        "o = Slice (p, start, last, last) y = MatMul (o, z)",
        1, 1,
    ),
    "with sinks that come first, shifted": (
        f"{QUERY} e = Concat <axis = 2> (sink, s) m = ReduceMax <keepdims = 1> (e, last)"
        "d = Sub (e, m) p = Softmax (d) f = Cast <to = 1> (p) o = Slice (f, one_more, far, last)"
        "y = MatMul (o, z)",
        1, 1,
    ),
    "with sinks in the sum that divides": (
        f"{QUERY} m = ReduceMax <keepdims = 1> (s, last) d = Sub (s, m) e = Exp (d)"
        "t = ReduceSum <keepdims = 1> (e, last) i = Sub (sink, m) j = Exp (i) a = Add (t, j)"
        "p = Div (e, a) y = MatMul (p, z)",
        1, 1,
    ),
    "with a sink of zero": (
        f"{QUERY} m = ReduceMax <keepdims = 1> (s, last) d = Sub (s, m) e = Exp (d)"
        "t = ReduceSum <keepdims = 1> (e, last) i = Neg (m) j = Exp (i) a = Add (j, t)"
        "p = Div (e, a) y = MatMul (p, z)",
        1, 1,
    ),
    "with a sum that another maximum was taken off": (
        f"{QUERY} m = ReduceMax <keepdims = 1> (s, last) d = Sub (s, m) e = Exp (d)"
        "t = ReduceSum <keepdims = 1> (e, last) h = ReduceMax <keepdims = 1> (x, last)"
        "i = Sub (sink, h) j = Exp (i) a = Add (t, j) p = Div (e, a) y = MatMul (p, z)",
        1, 0,
    ),
    "with sinks of which one is kept": (
        f"{QUERY} d = Concat <axis = -1> (sink, sink) e = Concat <axis = -1> (s, d)"
        "p = Softmax (e) o = Slice (p, start, last, last)"
        "h = Slice (z, start, one_more, one_more) v = Concat <axis = 1> (z, h) y = MatMul (o, v)",
        1, 0,
    ),
    "with scores that are cut off, not sinks": (
        f"{QUERY} e = Concat <axis = -1> (s, sink) p = Softmax (e)"
        "o = Slice (p, one_more, far, last) y = MatMul (o, z)",
        1, 0,
    ),
    "with columns that an input gives": (
        f"{QUERY} h = Slice (x, start, one_more, last) e = Concat <axis = -1> (s, h)"
        "p = Softmax (e) o = Slice (p, start, last, last) y = MatMul (o, z)",
        1, 0,
    ),
    "of a learned query": (
        "k = Transpose <perm = [0, 2, 1]> (z) s = MatMul (probe, k) p = Softmax (s)"
        "y = MatMul (p, z)",
        1, 0,
    ),
    "of a learned query, by einsum": (
        's = Einsum <equation = "qd,bkd->bqk"> (w, z) p = Softmax (s) y = MatMul (p, z)', 1, 0,
    ),
    "of a learned query for each row": (
        "r = Shape <end = 1> (z) h = Concat <axis = 0> (r, one_more, four) q = Expand (g, h)"
        "k = Transpose <perm = [0, 2, 1]> (z) s = MatMul (q, k) p = Softmax (s)"
        "y = MatMul (p, z)",
        1, 0,
    ),
    "spelled with Mul and ReduceSum": (
        "q = Unsqueeze (x, two_axis) k = Unsqueeze (z, one_more) a = Mul (q, k)"
        "s = ReduceSum <keepdims = 0> (a, last) p = Softmax (s) u = Unsqueeze (p, last)"
        "b = Mul (u, k) y = ReduceSum <keepdims = 0> (b, two_axis)",
        1, 0,
    ),
    "by einsum": (
        's = Einsum <equation = "bid,bjd->bij"> (x, z) p = Softmax (s)'
        'y = Einsum <equation = "bij,bjd->bid"> (p, z)',
        1, 0,
    ),
    "by a fused product": (
        "s = com.microsoft.FusedMatMul <transB = 1> (x, z) p = Softmax (s) y = MatMul (p, z)", 1, 0,
    ),
    "spelled with Exp": (
        f"{QUERY} m = ReduceMax <keepdims = 1> (s) d = Sub (s, m) e = Exp (d)"
        "t = ReduceSum <keepdims = 1> (e, last) p = Div (e, t) y = MatMul (p, z)",
        1, 0,
    ),
    "spelled with Exp, divided afterwards": (
        f"{QUERY} e = Exp (s) t = ReduceSum <keepdims = 1> (e, last) r = Reciprocal (t)"
        "o = MatMul (e, z) y = Mul (o, r)",
        1, 0,
    ),
    "of a LogSoftmax": (f"{QUERY} l = LogSoftmax (s) p = Exp (l) y = MatMul (p, z)", 1, 0),
    "as one operator": ("y = Attention <q_num_heads = 2, kv_num_heads = 2> (x, z, z)", 1, 1),
    "as ONNX Runtime's operator": (
        "y = com.microsoft.MultiHeadAttention <num_heads = 2> (x, z, z)", 1, 1,
    ),
    "not: a router": ("s = MatMul (x, w) p = Softmax (s) y = MatMul (p, z)", 0, 0),
    "not: a router with a tied, transposed weight": (
        "t = Transpose <perm = [1, 0]> (w) s = MatMul (x, t) a = Add (s, g) p = Softmax (a)"
        "y = MatMul (p, z)",
        0, 0,
    ),
    "not: a router by einsum": (
        's = Einsum <equation = "bkd,de->bke"> (z, w) p = Softmax (s) y = MatMul (p, z)', 0, 0,
    ),
    "not: the entropy of its weights": (
        f"{QUERY} p = Softmax (s) l = Log (p) e = Mul (p, l) y = ReduceSum (e, last)", 0, 0,
    ),
    "not: over classes": (f"{QUERY} p = Softmax (s) y = Mul (p, half)", 0, 0),
    "not: weights that gate elementwise": (f"{QUERY} p = Softmax (s) y = Mul (p, s)", 0, 0),
    "not: multiplied with a constant": (
        "s = MatMul (x, w) t = Transpose <perm = [0, 2, 1]> (s) q = MatMul (s, t)"
        "p = Softmax (q) r = ReduceSum <keepdims = 1> (p, last) y = MatMul (r, one)",
        0, 0,
    ),
    "not: with another function between": (
        f"{QUERY} r = Relu (s) p = Softmax (r) y = MatMul (p, z)", 0, 0,
    ),
    "not: an Exp without its sum": (f"{QUERY} e = Exp (s) y = MatMul (e, z)", 0, 0),
}  # fmt: skip

CENTRE = "m = ReduceMean <keepdims = 1> (x, last) d = Sub (x, m)"

NORMALIZATION = {
    "layer": (
        f"{CENTRE} s = Mul (d, d) v = ReduceMean (s, last) a = Add (v, eps) r = Sqrt (a)"
        "y = Div (d, r)",
        1, 0,
    ),
    "layer with Pow and Reciprocal": (
        f"{CENTRE} s = Pow (d, two) v = ReduceMean (s, last) a = Add (v, eps) r = Sqrt (a)"
        "i = Reciprocal (r) y = Mul (d, i)",
        1, 0,
    ),
    "layer with a sum over a count": (
        f"{CENTRE} s = Mul (d, d) t = ReduceSum (s, last) v = Div (t, count) a = Add (v, eps)"
        "r = Sqrt (a) y = Div (d, r)",
        1, 0,
    ),
    "layer from the mean of squares": (
        "m = ReduceMean (x, last) q = Mul (m, m) s = Mul (x, x) e = ReduceMean (s, last)"
        "v = Sub (e, q) a = Add (v, eps) r = Sqrt (a) d = Sub (x, m) y = Div (d, r)",
        1, 0,
    ),
    "rms in another type": (
        "f = Cast <to = 1> (x) s = Pow (f, two) v = ReduceMean (s, last) a = Add (v, eps)"
        "i = Pow (a, power) n = Mul (f, i) y = Cast <to = 1> (n)",
        1, 0,
    ),
    "rms with one over the root": (
        "s = Mul (x, x) v = ReduceMean (s, last) a = Add (v, eps) r = Sqrt (a) i = Div (one, r)"
        "y = Mul (x, i)",
        1, 0,
    ),
    "as one operator": ("y = LayerNormalization (x, g)", 1, 1),
    "as ONNX Runtime's operator": ("y = com.microsoft.SkipLayerNormalization (x, z, g)", 1, 1),
    "not: a loss": ("d = Sub (x, z) s = Mul (d, d) y = ReduceMean (s)", 0, 0),
    "not: a root of a loss": (
        "d = Sub (x, z) s = Mul (d, d) v = ReduceMean (s) y = Sqrt (v)", 0, 0,
    ),
    "not: the length of a vector": (
        "s = Mul (x, x) t = ReduceSum (s, last) r = Sqrt (t) y = Div (x, r)", 0, 0,
    ),
    "not: divided by the mean itself": (
        "s = Mul (x, x) v = ReduceMean (s, last) y = Div (x, v)", 0, 0,
    ),
    "not: a mean of products": (
        "s = Mul (x, z) v = ReduceMean (s, last) r = Sqrt (v) y = Div (x, r)", 0, 0,
    ),
    "not: the root is divided": (
        "s = Mul (x, x) v = ReduceMean (s, last) r = Sqrt (v) y = Div (r, two)", 0, 0,
    ),
}  # fmt: skip

ACTIVATION = {
    "gelu": (
        "a = Div (x, two) e = Erf (a) p = Add (e, one) m = Mul (x, p) y = Mul (m, half)", 1, 0,
    ),
    "gelu, half first": (
        "h = Mul (x, half) a = Mul (x, root) e = Erf (a) p = Add (one, e) y = Mul (h, p)", 1, 0,
    ),
    "gelu of tanh": (
        "u = Pow (x, three) v = Mul (u, c) s = Add (x, v) t = Mul (s, root) e = Tanh (t)"
        "p = Add (e, one) h = Mul (x, half) y = Mul (h, p)",
        1, 0,
    ),
    "gelu of tanh, factored": (
        "q = Mul (x, x) u = Mul (q, c) v = Add (u, one) r = Mul (x, root) t = Mul (r, v)"
        "e = Tanh (t) p = Add (e, one) m = Mul (x, p) y = Mul (m, half)",
        1, 0,
    ),
    "gelu of a sigmoid of a cubic": (
        "q = Mul (x, x) u = Mul (q, c) v = Add (u, one) r = Mul (x, root) t = Mul (r, v)"
        "e = Sigmoid (t) y = Mul (x, e)",
        1, 0,
    ),
    "silu": ("s = Sigmoid (x) y = Mul (x, s)", 1, 1),
    "quick gelu": ("a = Mul (x, quick) s = Sigmoid (a) y = Mul (x, s)", 1, 1),
    "silu between casts": (
        "f = Cast <to = 11> (x) s = Sigmoid (f) h = Cast <to = 1> (s) y = Mul (x, h)", 1, 0,
    ),
    "silu spelled out": (
        "n = Neg (x) e = Exp (n) p = Add (e, one) s = Reciprocal (p) y = Mul (x, s)", 1, 0,
    ),
    "silu spelled out with Div": (
        "n = Mul (x, minus) e = Exp (n) p = Add (one, e) s = Div (one, p) y = Mul (x, s)", 1, 0,
    ),
    "swiglu": ("s = Sigmoid (x) a = Mul (x, s) y = Mul (a, z)", 1, 1),
    "geglu, the gate first": (
        "a = Mul (x, root) e = Erf (a) p = Add (e, one) u = Mul (p, z) m = Mul (u, x)"
        "y = Mul (m, half)",
        1, 0,
    ),
    "relu": ("y = Relu (x)", 1, 1),
    "as one operator": ("y = Gelu (x)", 1, 1),
    "as ONNX Runtime's operator": ("y = com.microsoft.FastGelu (x)", 1, 1),
    "not: a gate for another value": ("s = Sigmoid (x) y = Mul (z, s)", 0, 0),
    "not: the other half of a split": (
        "a, b = Split <axis = -1, num_outputs = 2> (x) s = Sigmoid (a) y = Mul (b, s)", 0, 0,
    ),
    "not: a tanh": ("y = Tanh (x)", 0, 0),
    "not: a tanh that gates itself": ("t = Tanh (x) y = Mul (x, t)", 0, 0),
    "not: a cap": ("a = Mul (x, half) t = Tanh (a) y = Mul (t, two)", 0, 0),
    "not: an erf of something else": ("e = Erf (z) p = Add (e, one) y = Mul (x, p)", 0, 0),
    "not: an Exp": ("n = Neg (x) e = Exp (n) y = Mul (x, e)", 0, 0),
}  # fmt: skip

HALVES = "a = Slice (x, start, middle, last) b = Slice (x, middle, end, last)"

ROTARY = {
    "halves": (
        f"{HALVES} n = Neg (b) t = Concat <axis = -1> (n, a) s = Mul (t, g) r = Mul (x, g)"
        "y = Add (r, s)",
        1, 0,
    ),
    "halves of a split, times minus one": (
        "a, b = Split <axis = -1, num_outputs = 2> (x) n = Mul (b, minus)"
        "t = Concat <axis = -1> (n, a) s = Mul (t, z) r = Mul (x, z) y = Add (r, s)",
        1, 0,
    ),
    "interleaved": (
        "a, b = Split <axis = -1, num_outputs = 2> (x) n = Neg (b) u = Unsqueeze (n, last)"
        "v = Unsqueeze (a, last) t = Concat <axis = -1> (u, v) f = Reshape (t, heads)"
        "s = Mul (f, z) r = Mul (x, z) y = Add (r, s)",
        1, 0,
    ),
    "two products for each half": (
        f"{HALVES} c1 = Mul (a, half) s1 = Mul (b, two) c2 = Mul (b, half) s2 = Mul (a, two)"
        "m = Sub (c1, s1) p = Add (c2, s2) y = Concat <axis = -1> (m, p)",
        1, 0,
    ),
    "as ONNX Runtime's operator": (
        "y = com.microsoft.RotaryEmbedding (x, last, w, w)", 1, 1,
    ),
    "not: another value's half": (
        f"{HALVES} d = Slice (z, start, middle, last) n = Neg (b) t = Concat <axis = -1> (n, d)"
        "s = Mul (t, g) r = Mul (x, g) y = Add (r, s)",
        0, 0,
    ),
    "not: no product afterwards": (f"{HALVES} n = Neg (b) y = Concat <axis = -1> (n, a)", 0, 0),
    "not: nothing negated": (
        f"{HALVES} t = Concat <axis = -1> (b, a) s = Mul (t, g) y = Add (x, s)", 0, 0,
    ),
}  # fmt: skip

LINEAR = {
    "not: a learned query": (
        "k = Transpose <perm = [0, 2, 1]> (z) s = MatMul (w, k) p = Softmax (s)"
        "y = MatMul (p, z)",
        0, 0,
    ),
    "with a bias": ("p = MatMul (x, w) y = Add (p, g)", 1, 1),
    "with a transposed weight": ("t = Transpose <perm = [1, 0]> (w) y = MatMul (x, t)", 1, 1),
    "of one channel": ("y = MatMul (x, single)", 1, 1),
    "by einsum": ('y = Einsum <equation = "bid,de->bie"> (x, w)', 1, 0),
    "by a convolution of one position": (
        "t = Transpose <perm = [0, 2, 1]> (x) y = Conv (t, kernel)", 1, 0,
    ),
    "the weight on the left": ("t = Transpose <perm = [0, 2, 1]> (x) y = MatMul (w, t)", 1, 0),
    "a cast weight": (
        "h = Cast <to = 10> (w) f = Cast <to = 1> (h) y = MatMul (x, f)", 1, 0,
    ),
    "of ONNX Runtime": ("y = com.microsoft.DynamicQuantizeMatMul (x, w, g)", 1, 1),
    "not: of two activations": (f"{QUERY} y = Identity (s)", 0, 0),
    "not: of constants": ("y = MatMul (w, w)", 0, 0),
    "not: an outer product": (
        "t = Slice (x, start, middle, last) r = ReduceSum <keepdims = 1> (t, last)"
        "q = Transpose <perm = [0, 2, 1]> (r) y = MatMul (column, q)",
        0, 0,
    ),
    "not: a table computed from constants": (
        "n = LayerNormalization (w, g) p = MatMul (n, w) b = Add (g, p)"
        "t = Transpose <perm = [1, 0]> (b) y = MatMul (x, t)",
        0, 0,
    ),
}  # fmt: skip

CASES = {
    "attention": ATTENTION,
    "normalization": NORMALIZATION,
    "activation": ACTIVATION,
    "rotary": ROTARY,
    "linear": LINEAR,
}


@pytest.mark.parametrize(
    ("kind", "case"), [(kind, case) for kind, cases in CASES.items() for case in cases]
)
def test_cases(kind: str, case: str) -> None:
    body, expected, found = CASES[kind][case]
    opset = 23 if "Attention <q" in body else 20
    assert counts(model(body, opset=opset), kind) == (expected, found)


def test_every_kind_has_cases() -> None:
    assert set(CASES) == set(KINDS)


def test_an_encoder(bert: ir.Model) -> None:
    anchors = find_anchors(bert)
    assert {kind: len(items) for kind, items in anchors.items()} == {
        "attention": 2, "normalization": 5, "activation": 2, "rotary": 0, "linear": 13,
    }  # fmt: skip
    assert anchors["attention"][0].node.name == "layer0.probabilities/Softmax"


BRANCHES = """
    flag = Constant <value_int = 1> ()
    f = Cast <to = 9> (flag)
    k = Transpose <perm = [0, 2, 1]> (z)
    s = MatMul (x, k)
    y = If (f) <
        then_branch = t () => (a) { p = Softmax (s) a = MatMul (p, z) },
        else_branch = e () => (b) { q = Sigmoid (x) m = Mul (x, q) b = MatMul (m, w) }
    >
"""


def test_subgraphs_count() -> None:
    found = find_anchors(model(BRANCHES))
    assert [len(found[kind]) for kind in ("attention", "activation", "linear")] == [1, 1, 1]


def test_a_softmax_that_leaves_a_subgraph() -> None:
    body = BRANCHES.replace("a = MatMul (p, z)", "a = Identity (p)").replace("y = If", "r = If")
    found = find_anchors(model(f"{body} y = MatMul (r, z)"))
    assert len(found["attention"]) == 1


def test_functions_count_once_per_call() -> None:
    whole = parse("""
        <ir_version: 10, opset_import: ["" : 20, "local" : 1]>
        g (float[2] x) => (y) { a = local.Silu (x) y = local.Silu (a) }
        <domain: "local", opset_import: ["" : 20]>
        Silu (v) => (r) { s = Sigmoid (v) r = Mul (v, s) }
    """)
    assert counts(whole, "activation") == (2, 2)
    assert len(whole.functions) == 1, "the model is left as it is"
