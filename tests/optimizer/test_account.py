"""What was expected, what was found, and the word on what was missed."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir
import pytest
from samples import encoder

from burnish.optimizer import pipeline
from burnish.optimizer.analysis.account import GONE, UNSEEN, account, recovered_model
from burnish.optimizer.analysis.products import label
from burnish.optimizer.contract import (
    EXACT,
    Context,
    Outcome,
    Pass,
    Phase,
    Refusal,
)
from burnish.optimizer.pipeline import Compiled
from burnish.passes.recover.clean import Clean


@dataclass(frozen=True)
class Recover(Pass):
    """Turns gates of a gelu into `Gelu`, as far as it is told to."""

    upto: int = 0
    refusals: tuple[Refusal, ...] = ()
    fails: bool = False
    kind: str = "gelu"

    phase = Phase.RECOVER
    promise = EXACT
    name: str = field(default="", init=False)  # type: ignore[misc]

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.kind)

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        if self.fails:
            raise ValueError("something broke")
        gates = [node for node in model.graph if node.op_type == "Erf"][: self.upto]
        for gate in gates:
            adder = gate.outputs[0].uses()[0].node
            twice = adder.outputs[0].uses()[0].node
            half = twice.outputs[0].uses()[0].node
            gelu = ir.node("Gelu", [twice.inputs[0]])
            model.graph.insert_before(half, gelu)
            ir.convenience.replace_all_uses_with(half.outputs[0], gelu.outputs[0])
        return Outcome(len(gates), self.refusals)


def compiled(context: Context, *passes: Pass) -> Compiled:
    return pipeline.run(ir.from_proto(encoder()), passes, context, check=None)


def activation(context: Context, *passes: Pass) -> dict:
    return account(compiled(context, *passes))["activation"].as_json()


def test_nothing_run(context: Context) -> None:
    counts = account(compiled(context))
    assert (counts["attention"].expected, counts["attention"].found) == (2, 0)
    assert (counts["normalization"].expected, counts["normalization"].found) == (5, 5)
    assert {miss.reason for miss in counts["attention"].missed} == {UNSEEN}
    assert [miss.node for miss in counts["attention"].missed] == [
        "layer0.probabilities/Softmax",
        "layer1.probabilities/Softmax",
    ]


@pytest.mark.parametrize("upto", [0, 1, 2])
def test_expected_is_the_same_whatever_is_found(context: Context, upto: int) -> None:
    found = activation(context, Clean(), Recover(upto), Clean())
    assert (found["expected"], found["found"]) == (2, upto)
    assert [miss["node"] for miss in found["missed"]] == [
        f"layer{index}.gelu.erf/Erf" for index in range(upto, 2)
    ]


def test_found_is_what_recovery_left_and_not_what_came_later(context: Context) -> None:
    class Later(Recover):
        phase = Phase.LOWER

    found = activation(context, Clean(), Recover(1), Later(1))
    assert (found["expected"], found["found"]) == (2, 1)
    operators = [node.op_type for node in recovered_model(compiled(context, Recover(2))).graph]
    assert operators.count("Gelu") == 2


def test_the_reason_is_the_word_of_the_pass_that_knows_best(context: Context) -> None:
    node = "layer1.gelu.erf/Erf"
    said = (
        Recover(1, (Refusal(node, "it is of no use"),), kind="other"),
        Recover(0, (Refusal(node, "the factor at layer1.gelu.twice/Mul is 3"),)),
    )
    (miss,) = activation(context, Clean(), *said)["missed"]
    assert miss == {
        "node": node,
        "nearest": "Gelu",
        "reason": "the factor at layer1.gelu.twice/Mul is 3",
        "differs": "layer1.gelu.twice/Mul",
    }


def test_a_value_in_a_reason_names_its_node_and_plain_words_name_none(context: Context) -> None:
    for reason, differs in (
        ("layer0.gelu.scaled is read elsewhere", "layer0.gelu.scaled/Div"),
        ("the rows are of another size", ""),
    ):
        refusal = Refusal("layer0.gelu.erf/Erf", reason)
        first, _ = activation(context, Clean(), Recover(0, (refusal,)))["missed"]
        assert (first["reason"], first["differs"]) == (reason, differs)


def test_a_pass_that_was_taken_back_is_the_reason(context: Context) -> None:
    missed = activation(context, Clean(), Recover(fails=True))["missed"]
    assert [miss["reason"] for miss in missed] == [
        "gelu was taken back: it failed: ValueError: something broke"
    ] * 2


def test_what_has_gone_is_said_to_have_gone(context: Context) -> None:
    class Drop(Recover):
        def apply(self, model: ir.Model, context: Context) -> Outcome:
            outputs = {value.name: value for value in model.graph.outputs}
            model.graph.outputs.remove(outputs["logits"])
            return Outcome(1)

    count = account(compiled(context, Clean(), Drop(), Clean()))["linear"]
    assert (count.expected, count.found) == (13, 12)
    assert [miss.reason for miss in count.missed] == [GONE]


def test_labels_of_nodes_without_a_name(context: Context) -> None:
    model = ir.from_proto(encoder())
    for node in model.graph:
        node.name = None
    softmax = next(node for node in model.graph if node.op_type == "Softmax")
    refusal = Refusal(label(softmax), "its mask is opaque")
    run = pipeline.run(model, [Recover(0, (refusal,), kind="attention")], context, check=None)
    first, second = account(run)["attention"].missed
    assert (first.node, first.reason) == (label(softmax), "its mask is opaque")
    assert second.reason == f"{UNSEEN}, and the keys that its queries see are no window"
