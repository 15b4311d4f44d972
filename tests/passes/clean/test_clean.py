"""What must survive cleaning."""

from __future__ import annotations

import onnx
from harness import make_checker, make_context
from onnx import TensorProto
from samples import Builder, parse

from burnish.optimizer.contract import EXACT
from burnish.optimizer.executor import Executor
from burnish.optimizer.regions import identical
from burnish.optimizer.signature import Signature
from burnish.passes.recover.clean import Clean


def test_random_numbers_are_not_computed_once() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        noise (float[b, 2] x) => (float[b, 2] y) {
            first = RandomNormalLike (x)
            second = RandomNormalLike (x)
            y = Sub (first, second)
        }
    """)
    assert Clean().apply(model, make_context()).rewrites == 0
    assert len(list(model.graph)) == 3


def test_inputs_that_nobody_reads_stay() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        unread (float[b, 2] x, int64[b] nobody) => (float[b, 2] y) {
            same = Identity (x)
            y = Relu (same)
        }
    """)
    before = Signature.of(model)
    assert Clean().apply(model, make_context()).rewrites == 1
    assert Signature.of(model) == before


def test_an_input_that_is_an_output_keeps_its_identity() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        through (float[b, 2] x) => (float[b, 2] y) { y = Identity (x) }
    """)
    assert Clean().apply(model, make_context()).rewrites == 0
    assert [node.op_type for node in model.graph] == ["Identity"]


def test_outputs_that_are_one_value_keep_their_names(executor: Executor) -> None:
    """As where the last hidden state is also the last of all hidden states."""
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        twice (float[a] x) => (float[a] last, float[a] same, float[a] given)
        {
          dead = Exp (x)
          last = Relu (x)
          same = Identity (last)
          given = Identity (x)
        }
    """)
    before = model.clone()
    assert Clean().apply(model, make_context()).rewrites == 1
    assert not Signature.of(before).difference(Signature.of(model))
    assert not make_checker(executor, before).check(before, model, EXACT).problem


def test_trailing_outputs_that_are_left_out_are_no_change() -> None:
    """A library cuts them off, and says that it did nothing."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, [2, 3, 4])
    for name, shape in (("w", (1, 16, 4)), ("r", (1, 16, 4))):
        b.normal(name, *shape)
    node = onnx.helper.make_node("LSTM", ["x", "w", "r"], ["y", "", ""], hidden_size=4)
    b.nodes.append(node)
    b.output("y", TensorProto.FLOAT, [2, 1, 3, 4])
    model = b.model()
    before = model.clone()
    outcome = Clean().apply(model, make_context())
    assert (outcome.rewrites == 0) == identical(before, model)
