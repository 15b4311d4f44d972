"""Additions that stay additions."""

from __future__ import annotations

import dataclasses
from typing import Any

import onnx_ir as ir
from harness import make_context

from burnish.optimizer.contract import Choice
from burnish.passes.lower.residual_sum import ResidualSum


def _add_wins(key: str, forms: Any, rule: str) -> Choice:
    return Choice("Add", 0.9, True)


def test_refuses_where_add_is_faster(bert: ir.Model) -> None:
    outcome = ResidualSum().apply(bert, make_context(_add_wins))
    assert outcome.rewrites == 0
    assert {item.reason for item in outcome.refusals} == {"Add is as fast (0.90 times)"}


def test_leaves_other_providers_alone(bert: ir.Model) -> None:
    context = dataclasses.replace(make_context(), provider="cuda")
    assert ResidualSum().apply(bert, context).rewrites == 0


def test_leaves_the_addition_of_a_constant(bert: ir.Model) -> None:
    ResidualSum().apply(bert, make_context())
    made = {node.outputs[0].name: node.op_type for node in bert.graph}
    assert made["layer0.attended"] == made["layer1.fed"] == made["rows"] == "Sum"
    assert made["layer0.q"] == "Add"
