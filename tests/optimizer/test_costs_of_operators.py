"""The work of every operator that multiplies matrices, and shapes after one runtime's own."""

from __future__ import annotations

import pytest
from samples import parse

from burnish.optimizer.analysis.costs.attentions import describe
from burnish.optimizer.analysis.costs.products import matrix_flops
from burnish.optimizer.analysis.masks import Masks
from burnish.optimizer.analysis.shapes import infer

B, S, P, H, K, D = 2, 5, 3, 4, 2, 8
"""Batch, sequence, past, heads, heads of keys and values, size of a head."""

MIXED = 4.0 * B * H * S * D
"""Work of both products of an attention for each key."""

APART = f"float[{B}, {S}, {H * D}] q, float[{B}, {S}, {K * D}] k, float[{B}, {S}, {K * D}] v"
PAST = f"float[{B}, {K}, {P}, {D}] a, float[{B}, {K}, {P}, {D}] b"
MS = "com.microsoft."
HEADS = f"num_heads = {H}, kv_num_heads = {K}"

ATTENTIONS = [
    (APART, f"y = Attention <q_num_heads = {H}, kv_num_heads = {K}> (q, k, v)", MIXED * S),
    (
        f"{APART}, {PAST}",
        f"y, c, d = Attention <q_num_heads = {H}, kv_num_heads = {K}> (q, k, v, , a, b)",
        MIXED * (S + P),
    ),
    (
        f"float[{B}, {H}, {S}, {D}] q, float[{B}, {K}, 7, {D}] k, float[{B}, {K}, 7, 6] v",
        "y = Attention (q, k, v)",
        2.0 * B * H * S * 7 * (D + 6),
    ),
    (
        f"float[{B}, {S}, {H * D}] q, float[{B}, 9, {H * D}] k, float[{B}, 9, {H * D}] v",
        f"y = {MS}MultiHeadAttention <num_heads = {H}> (q, k, v)",
        MIXED * 9,
    ),
    (
        f"float[{B}, {S}, {H}, 3, {D}] q",
        f"y = {MS}MultiHeadAttention <num_heads = {H}> (q)",
        MIXED * S,
    ),
    (
        f"float[{B}, {S}, {H * D}] q, float[{B}, {H}, 9, {D}] k, float[{B}, {H}, 9, {D}] v",
        f"y = {MS}MultiHeadAttention <num_heads = {H}> (q, k, v)",
        MIXED * 9,
    ),
    (
        f"{APART}, {PAST}, int32[{B}] n, int32 t",
        f"y, c, d = {MS}GroupQueryAttention <{HEADS}> (q, k, v, a, b, n, t)",
        MIXED * (S + P),
    ),
    (
        f"float[{B}, {S}, {(H + 2 * K) * D}] q, {PAST}, int32[{B}] n, int32 t",
        f"y, c, d = {MS}GroupQueryAttention <{HEADS}> (q, , , a, b, n, t)",
        MIXED * (S + P),
    ),
    (
        f"float[{B}, {S}, 16] x, float[16, {3 * H * D}] u, float[{3 * H * D}] z",
        f"y = {MS}Attention <num_heads = {H}> (x, u, z)",
        MIXED * S + 2.0 * B * S * 16 * 3 * H * D,
    ),
]


@pytest.mark.parametrize(("inputs", "node", "flops"), ATTENTIONS)
def test_attentions(inputs: str, node: str, flops: float) -> None:
    """The product after it has a shape, which stands for that of the attention's result."""
    heads_apart = inputs.startswith(f"float[{B}, {H}, {S}")
    rows, width = (B * H, S * 6) if heads_apart else (B * S, H * D)
    model = parse(f"""
        <ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
        g ({inputs}, float[{width}, 3] w) => (r) <int64[3] shape = {{0, 0, -1}}>
        {{ {node} s = Reshape (y, shape) r = MatMul (s, w) }}
    """)
    found = matrix_flops(model, infer(model, {}))
    assert found.pop("MatMul") == 2.0 * rows * width * 3
    assert list(found.values()) == [flops]


LINEAR = [
    ("float[2, 3, 4] x, float[4, 5] u", f"y = {MS}FusedMatMul (x, u)", 2.0 * 6 * 4 * 5),
    (
        "float[2, 4, 3] x, float[2, 5, 4] u",
        f"y = {MS}FusedMatMul <transA = 1, transB = 1> (x, u)",
        2.0 * 6 * 4 * 5,
    ),
    (
        "float[4, 3] x, float[5, 4] u",
        f"y = {MS}FusedGemm <transA = 1, transB = 1> (x, u)",
        2.0 * 3 * 4 * 5,
    ),
    (
        "float[2, 3, 64] x, uint8[5, 2, 16] u, float[10] s",
        f"y = {MS}MatMulNBits <K = 64, N = 5, bits = 4, block_size = 32> (x, u, s)",
        2.0 * 6 * 64 * 5,
    ),
    (
        "float[2, 3, 4] x, int8[4, 5] u, float[5] s",
        f"y = {MS}DynamicQuantizeMatMul (x, u, s)",
        2.0 * 6 * 4 * 5,
    ),
    (
        "uint8[2, 3, 4] x, int8[4, 5] u, float s",
        f"y = {MS}MatMulIntegerToFloat (x, u, s, s)",
        2.0 * 6 * 4 * 5,
    ),
    ("uint8[2, 3, 4] x, int8[4, 5] u", "y = MatMulInteger (x, u)", 2.0 * 6 * 4 * 5),
    (
        "float[2, 3, 4] x, float[4, 5] u",
        'y = Einsum <equation = "bsk, kn -> bsn"> (x, u)',
        2.0 * 6 * 4 * 5,
    ),
    (
        "float[2, 3, 7, 4] x, float[2, 3, 9, 4] u",
        'y = Einsum <equation = "...qd,...kd->...qk"> (x, u)',
        2.0 * 6 * 7 * 9 * 4,
    ),
    ("float[2, 3, 4] x", 'y = Einsum <equation = "bsk->bks"> (x)', None),
    ("float[2, 3, 4] x, float[4] u", "y = MatMul (x, u)", 2.0 * 6 * 4),
    ("float[7, 2, 3, 4] x, float[2, 4, 5] u", "y = MatMul (x, u)", 2.0 * 7 * 2 * 3 * 4 * 5),
    ("float[1, 3, 8, 8] x, float[3, 2, 3, 3] u", "y = ConvTranspose (x, u)", 2.0 * 192 * 18),
    ("float[1, 3, 8, 8] x, float[2, 3, 3, 3] u", f"y = {MS}FusedConv (x, u)", 2.0 * 72 * 27),
]


@pytest.mark.parametrize(("inputs", "node", "flops"), LINEAR)
def test_products(inputs: str, node: str, flops: float | None) -> None:
    model = parse(f"""
        <ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>
        g ({inputs}) => (z) {{ {node} z = Identity (y) }}
    """)
    assert list(matrix_flops(model, infer(model, {})).values()) == ([flops] if flops else [])


AFTER = [
    ("x = " + MS + "SkipLayerNormalization (a, a, g)"),
    ("x = SimplifiedLayerNormalization (a, g)"),
    ("x = " + MS + "BiasGelu (a, g)"),
    ("x = " + MS + "QuickGelu (a)"),
    ("w, m, i, x = " + MS + "SkipSimplifiedLayerNormalization (a, a, g)"),
    ("x = " + MS + "EmbedLayerNormalization (ids, , table, table, , g, g)"),
]


@pytest.mark.parametrize("node", AFTER)
def test_products_after_operators_that_inference_does_not_know(node: str) -> None:
    model = parse(f"""
        <ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>
        g (float[2, 3, 4] a, float[4] g, int32[2, 3] ids, float[9, 4] table, float[4, 5] u) => (y)
        {{ {node} y = MatMul (x, u) }}
    """)
    assert matrix_flops(model, infer(model, {})) == {"MatMul": 2.0 * 6 * 4 * 5}


SELECTED = [
    ("s = Gather <axis = 1> (x, zero)", 2),
    ("s = Gather <axis = 1> (x, pair)", 4),
    ("s = Slice (x, one, six, one)", 2 * (6 - 1)),
    # as long as a count that the graph computes from a shape
    (
        "h = Shape (x) n = Gather (h, one) m = Squeeze (n) d = Div (m, two) "
        "r = Range (zero, d, step) s = Gather <axis = 1> (x, r)",
        2 * 3,
    ),
    (
        "h = Shape (x) n = Gather (h, one) m = Mod (n, four) p = Sub (four, m) "
        "o = Concat <axis = 0> (none, p, none, none, p, none) s = Pad (x, o)",
        2 * (2 + 6 + 2),
    ),
]


@pytest.mark.parametrize(("nodes", "rows"), SELECTED)
def test_parts_of_a_sequence(nodes: str, rows: int) -> None:
    model = parse(f"""
        <ir_version: 10, opset_import: ["" : 20]>
        g (float[2, n, 4] x, float[4, 5] u) => (y)
        <int64 zero = {{0}}, int64[2] pair = {{1, 2}}, int64[1] one = {{1}}, int64 two = {{2}},
         int64 step = {{1}}, int64[1] six = {{6}}, int64[1] four = {{4}}, int64[1] none = {{0}}>
        {{ {nodes} y = MatMul (s, u) }}
    """)
    assert matrix_flops(model, infer(model, {"n": 6})) == {"MatMul": 2.0 * rows * 4 * 5}


@pytest.mark.parametrize(
    ("inputs", "node", "facts"),
    [
        (
            f"{APART}, bool[{B}, 1, {S}, {S}] m",
            f"y = Attention <q_num_heads = {H}, kv_num_heads = {K}, softcap = 30.0> (q, k, v, m)",
            {"heads": H, "kv_heads": K, "head_size": D, "scale": 0.353553, "softcap": 30.0,
             "mask": "given(m)"},
        ),
        (
            f"float[{B}, {H}, {S}, {D}] q",
            "y = Attention <is_causal = 1, scale = 0.5> (q, q, q)",
            {"heads": H, "kv_heads": H, "scale": 0.5, "softcap": None, "mask": "causal"},
        ),
        (
            f"{APART}, int32[{B}] n, int32 t",
            f"y = {MS}GroupQueryAttention <{HEADS}, local_window_size = 128> (q, k, v, , , n, t)",
            {"heads": H, "kv_heads": K, "head_size": D, "mask": "causal & window of 128 keys"},
        ),
        (
            "float[b, s, h] q",
            f"y = {MS}MultiHeadAttention <num_heads = 4> (q, q, q)",
            {"heads": 4, "head_size": None, "scale": None, "mask": "none"},
        ),
    ],
)  # fmt: skip
def test_what_is_told_of_an_attention(inputs: str, node: str, facts: dict) -> None:
    model = parse(f"""
        <ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
        g ({inputs}) => (y) {{ {node} }}
    """)
    told = describe(next(iter(model.graph)), infer(model, {}), Masks())
    assert {key: told[key] for key in facts} == facts
