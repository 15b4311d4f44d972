"""What a selection moves past, what it stops at, and how much work it saves."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import make_context, run_model
from onnx import TensorProto
from samples import Builder, parse

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.costs.products import matrix_flops
from burnish.optimizer.contract import relative_l2
from burnish.passes.restructure.sink_selection import SinkSelection

HEAD = """
<ir_version: 10, opset_import: ["" : 23]>
head (float[b, s, 4] x, float[n, 4] other, int64[b, s] ids) => (float[p, q] y)
<float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1},
 int64 first = {0}, int64 zero = {0}, int64 one = {1}, int64[1] last = {-1}, int64[1] axis = {1},
 int64[1] begin = {1}, int64[1] end = {9223372036854775807}, int64[2] pair = {-1, 4}>
{
  a = MatMul (x, w)
  c = Tanh (a)
  t = Gather <axis = 1> (c, first)
  y = MatMul (t, w)
}
"""


def applied(text: str, **options: float) -> tuple[ir.Model, ir.Model, str]:
    """The model, the model after the pass, and the pass's reasons."""
    model = parse(text)
    before = model.clone()
    outcome = SinkSelection(**options).apply(model, make_context(sizes={"b": 2, "s": 7, "n": 7}))
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    reasons = "; ".join(item.reason for item in outcome.refusals)
    return before, model, reasons if outcome.rewrites == 0 else f"moved; {reasons}"


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("c = Tanh (a)", "c = Softmax <axis = 1> (a)", "Softmax is along the tokens"),
        ("c = Tanh (a)", "c = CumSum (a, one)", "CumSum may mix tokens"),
        ("c = Tanh (a)", "c = Add (a, other)", "an operand of Add differs by token is not known"),
        ("c = Tanh (a)", "z = ReduceSum (a, axis) c = Expand (z, end)", "Expand"),
        (
            "c = Tanh (a)",
            "c = Transpose <perm = [0, 1, 2]> (a) d = Concat <axis = 1> (c, c)",
            "moved",
        ),
        ("c = Tanh (a)", "p = Tanh (a) c = Concat <axis = 1> (p, p)", "Concat is along the tokens"),
        ("c = Tanh (a)", "z = Shape (a) c = Reshape (a, z)", "moved"),
    ],
)
def test_stops_with_a_reason(old: str, new: str, reason: str) -> None:
    if "Expand" in new:
        new = "z = ReduceSum (a, axis) v = Shape (a) c = Expand (z, v)"
    _, _, found = applied(HEAD.replace(old, new))
    assert reason in found


def test_an_output_stays_whole() -> None:
    text = HEAD.replace("=> (float[p, q] y)", "=> (float[p, q] y, float[b, s, 4] c)")
    before, after, found = applied(text)
    assert found == "c is needed whole: it is an output"
    assert operators(before) == operators(after)


def test_what_another_node_reads_stays_whole() -> None:
    text = HEAD.replace("=> (float[p, q] y)", "=> (float[p, q] y, float[b, 4] m)")
    text = text.replace(
        "y = MatMul (t, w)", "y = MatMul (t, w) m = ReduceMax <keepdims = 0> (c, axis)"
    )
    _, _, found = applied(text)
    assert not found.startswith("moved")


def test_other_tokens_of_the_same_value_stay() -> None:
    text = HEAD.replace("y = MatMul (t, w)", "u = Gather <axis = 1> (c, one) y = MatMul (t, u)")
    _, _, found = applied(text)
    assert not found.startswith("moved")


def test_two_readers_of_the_same_token_share_it() -> None:
    text = HEAD.replace("y = MatMul (t, w)", "u = Gather <axis = 1> (c, zero) y = Add (t, u)")
    before, after, found = applied(text)
    assert found.startswith("moved")
    agree(before, after)


def test_keeping_most_tokens_is_not_worth_it() -> None:
    text = HEAD.replace("t = Gather <axis = 1> (c, first)", "r = Slice (c, begin, end, axis)")
    text = text.replace("y = MatMul (t, w)", "y = ReduceSum <keepdims = 0> (r, axis)")
    _, _, found = applied(text, most=0.8)
    assert found == "it keeps 6 of 7 tokens"
    before, after, found = applied(text)
    assert found.startswith("moved")
    agree(before, after)


def test_a_position_that_nothing_bounds_is_not_taken_from_flat_rows() -> None:
    text = HEAD.replace("t = Gather <axis = 1> (c, first)", "PLACE")
    flat = """
  shape = Shape (c)
  n = Gather (shape, zero)
  length = Gather (shape, axis)
  numbers = Range (zero, n, one)
  starts = Mul (numbers, length)
  position = FOUND
  index = Add (position, starts)
  flat = Reshape (c, pair)
  t = Gather <axis = 0> (flat, index)"""
    searched = "ArgMax <axis = 1, keepdims = 0> (ids)"
    before, after, found = applied(text.replace("PLACE", flat.replace("FOUND", searched)))
    assert found.startswith("moved")
    agree(before, after)
    summed = "ReduceSum <keepdims = 0> (ids, axis)"
    _, _, found = applied(text.replace("PLACE", flat.replace("FOUND", summed)))
    assert not found.startswith("moved")


def agree(before: ir.Model, after: ir.Model) -> None:
    """Assert that the models give the same."""
    random = np.random.default_rng(0)
    feed = {
        "x": random.standard_normal((2, 7, 4), np.float32),
        "other": random.standard_normal((7, 4), np.float32),
        "ids": random.integers(0, 9, (2, 7)),
    }
    (mine,), (theirs,) = run_model(before, [feed]), run_model(after, [feed])
    for name, array in mine.items():
        assert relative_l2(array, theirs[name]) < 1e-6


ATTENTION = """
<ir_version: 10, opset_import: ["" : 23]>
attention (float[b, s, 4] x, float[b, s, 4] keys, MASK, int64[b, 1] at) => (float[b, 4] y)
<int64 last = {-1}, int64 third = {2}>
{
  a = Attention <q_num_heads = 2, kv_num_heads = 2, is_causal = CAUSAL> (x, keys, keys, mask)
  y = CHOICE
}
"""


@pytest.mark.parametrize("causal", ["0", "1"])
@pytest.mark.parametrize(
    "choice",
    [
        "Gather <axis = 1> (a, last)",
        "Gather <axis = 1> (a, third)",
        "GatherND <batch_dims = 1> (a, at)",
    ],
)
@pytest.mark.parametrize(
    ("mask", "shape"),
    [
        ("float[s, s] mask", (5, 5)),
        ("float[b, 1, s, s] mask", (2, 1, 5, 5)),
        ("float[1, 2, s, s] mask", (1, 2, 5, 5)),
        ("bool[b, 1, s, s] mask", (2, 1, 5, 5)),
        ("bool[b, 2, s, s] mask", (2, 2, 5, 5)),
    ],
)
def test_only_the_chosen_queries_attend(
    mask: str, shape: tuple[int, ...], choice: str, causal: str
) -> None:
    text = ATTENTION.replace("MASK", mask).replace("CHOICE", choice).replace("CAUSAL", causal)
    before, after, found = applied(text)
    assert found.startswith("moved")
    query = next(node for node in after.graph if node.op_type == "Attention").inputs[0]
    assert query is not None
    assert query.name != "x"
    random = np.random.default_rng(0)
    seen = random.standard_normal(shape, np.float32)
    seen[..., 0] = 1
    feed = {
        "x": random.standard_normal((2, 5, 4), np.float32),
        "keys": random.standard_normal((2, 5, 4), np.float32),
        "mask": seen > 0 if "bool" in mask else seen,
        "at": np.array([[3], [-2]]),
    }
    (mine,), (theirs,) = run_model(before, [feed]), run_model(after, [feed])
    assert relative_l2(mine["y"], theirs["y"]) < 1e-6


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("float[b, s, 4] keys", "float[b, t, 4] keys", "causal over keys that are not its own"),
        ("float[b, 1, s, s] mask", "float[b, 1, r, s] mask", "whether the mask differs by query"),
    ],
)
def test_attention_that_stops_it(old: str, new: str, reason: str) -> None:
    text = ATTENTION.replace("MASK", "float[b, 1, s, s] mask").replace("CAUSAL", "1")
    text = text.replace("CHOICE", "Gather <axis = 1> (a, third)")
    text = text.replace("(x, keys", "(q, keys").replace("  a =", "  q = Tanh (x)\n  a =")
    _, _, found = applied(text.replace(old, new))
    assert reason in found


def classifier(layers: int) -> ir.Model:
    """An encoder of plain operators, and a head on its first token."""
    b = Builder()
    x = b.input("x", TensorProto.FLOAT, ["batch", "sequence", 16])
    b.constant("heads", [0, 0, 4, 4], np.int64)
    b.constant("merged", [0, 0, 16], np.int64)
    for index in range(layers):
        name = f"layer{index}"
        parts = {}
        for part, order in (("q", (0, 2, 1, 3)), ("k", (0, 2, 3, 1)), ("v", (0, 2, 1, 3))):
            wide = b.linear(x, f"{name}.{part}", 16, 16)
            split = b.op("Reshape", [wide, "heads"], f"{name}.{part}.split")
            parts[part] = b.op("Transpose", [split], f"{name}.{part}.heads", perm=order)
        scores = b.op("MatMul", [parts["q"], parts["k"]], f"{name}.scores")
        chances = b.op("Softmax", [scores], f"{name}.p", axis=-1)
        mixed = b.op("MatMul", [chances, parts["v"]], f"{name}.mixed")
        back = b.op("Transpose", [mixed], f"{name}.back", perm=(0, 2, 1, 3))
        flat = b.op("Reshape", [back, "merged"], f"{name}.flat")
        out = b.linear(flat, f"{name}.out", 16, 16)
        middle = b.norm(b.op("Add", [x, out], f"{name}.sum"), f"{name}.norm", 16)
        up = b.op("Tanh", [b.linear(middle, f"{name}.up", 16, 64)], f"{name}.active")
        down = b.linear(up, f"{name}.down", 64, 16)
        x = b.norm(b.op("Add", [middle, down], f"{name}.sum2"), f"{name}.norm2", 16)
    b.constant("first", 0, np.int64)
    token = b.op("Gather", [x, "first"], "token", axis=1)
    b.op("Identity", [b.linear(token, "head", 16, 3)], "y")
    b.output("y", TensorProto.FLOAT, ["batch", 3])
    return ir.from_proto(b.message())


def test_work_of_the_last_layer_on_other_tokens_is_gone() -> None:
    model, sizes = classifier(6), {"batch": 8, "sequence": 128}
    before = model.clone()
    assert SinkSelection().apply(model, make_context()).rewrites == 1
    work = [sum(matrix_flops(item, shapes.infer(item, sizes)).values()) for item in (before, model)]
    rows = 8 * 128
    dense, attended = 2 * 16 * 16 * rows, 2 * 16 * 128 * rows
    layer = 4 * dense + 8 * dense + 2 * attended
    head = 2 * 8 * 16 * 3
    assert work[0] == 6 * layer + head
    # What is left of the last layer: keys and values of all tokens, and the rest of one token.
    assert work[1] == 5 * layer + 2 * dense + (layer - 2 * dense) / 128 + head
    feeds = [{"x": np.random.default_rng(0).standard_normal((3, 9, 16), np.float32)}]
    (mine,), (theirs,) = run_model(before, feeds), run_model(model, feeds)
    assert relative_l2(mine["y"], theirs["y"]) < 1e-6


def test_time_grows_with_the_layers_only() -> None:
    outcome = SinkSelection().apply(model := classifier(48), make_context())
    assert outcome.detail == "1 selections moved up, past 6 products"
    assert operators(model).count("Slice") == 1


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_half_types_keep_theirs(dtype: int) -> None:
    text = HEAD.replace("float[", "float16[" if dtype == TensorProto.FLOAT16 else "bfloat16[")
    _, after, found = applied(text)
    assert found.startswith("moved")
    assert {int(node.outputs[0].dtype or 0) for node in after.graph} <= {0, dtype}


def test_a_subgraph_reads_the_whole() -> None:
    text = HEAD.replace("=> (float[p, q] y)", "=> (float[p, q] y, float[b, s, 4] m)").replace(
        "y = MatMul (t, w)",
        """y = MatMul (t, w)
  on = Cast <to = 9> (zero)
  m = If (on) <
    then_branch = yes () => (float[b, s, 4] n) { n = Identity (c) },
    else_branch = no () => (float[b, s, 4] k) { k = Neg (c) }
  >""",
    )
    _, _, found = applied(text)
    assert not found.startswith("moved")


def test_tokens_in_reverse_are_other_tokens() -> None:
    text = HEAD.replace("c = Tanh (a)", "c = Slice (a, last, lowest, axis, last)")
    text = text.replace("int64[1] axis = {1}", "int64[1] axis = {1}, int64[1] lowest = {-999999}")
    model = parse(text)
    reversed_ = next(node for node in model.graph if node.op_type == "Slice")
    reversed_.outputs[0].shape = ir.Shape(["b", "s", 4])
    assert SinkSelection().apply(model, make_context()).rewrites == 0


def test_a_shape_is_told_by_an_input() -> None:
    text = HEAD.replace("=> (float[p, q] y)", "=> (float[p, q] y, int64[r] d)")
    text = text.replace("y = MatMul (t, w)", "y = MatMul (t, w) h = Shape (c) d = Mul (h, one)")
    before, after, found = applied(text)
    assert found.startswith("moved")
    agree(before, after)
