"""What must survive cleaning."""

from __future__ import annotations

from harness import make_context
from samples import parse

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
