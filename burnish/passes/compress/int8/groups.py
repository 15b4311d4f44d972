"""Products that share an activation: which may go to int8, their sizes, what is seen of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.products import Product, label
from burnish.optimizer.contract import Choice, Context, Observation, Refusal
from burnish.optimizer.samples import rows_of
from burnish.passes.compress.error_feedback import Feedback
from burnish.passes.compress.int8.divisors import divisor
from burnish.passes.compress.int8.sample import Sample, is_by_token
from burnish.passes.compress.lookups import PRODUCTS, SMALLEST_TABLE
from burnish.passes.compress.products import observed, why_not
from burnish.passes.compress.smoothing.dividing import Divided, divide_all
from burnish.passes.compress.smoothing.places import site_of
from burnish.passes.compress.smoothing.search import FloatArray, tell_apart
from burnish.passes.compress.times import FLOAT, at_full_size

LARGEST_SAMPLE = 1 << 22
"""Elements of the largest weight that a sample for timing gets; wider ones are cut to it."""

LARGEST_WORK = 1 << 30
"""Multiplications of a sample; longer activations are cut to it, as rows cost alike."""

SMALLEST_BY_RULE = 1 << 14
"""Elements of the smallest weight that goes to int8 where nothing is measured."""

GAIN, GAIN_BY_TOKEN = 3.0, 2.5
"""Speed-ups over float32 that stand for those of forms that were not measured."""

HANDED_ON = (*PRODUCTS, "Identity")
"""Operators whose weights int8 takes, or that hand them on."""

Plan = list[tuple[list[Product], Choice]]
"""Groups of products that share an activation, with the form chosen for each."""


def usable(
    members: Sequence[Product], keep: Collection[str], refusals: list[Refusal]
) -> list[Product]:
    """The products that int8 can take; why others stay is added to the refusals."""
    reasons = [why_not(member, keep) for member in members]
    refusals += [
        Refusal(label(member.nodes[0]), reason)
        for member, reason in zip(members, reasons, strict=True)
        if reason
    ]
    return [member for member, reason in zip(members, reasons, strict=True) if not reason]


def sample_of(members: Sequence[Product], context: Context) -> Sample:
    """A model of the group's sizes for timing; groups of the same sizes share one measurement."""
    widths = [member.n for member in members]
    biased = [member.bias is not None for member in members]
    k = members[0].k
    cut = max(1, min(sum(widths), LARGEST_SAMPLE // max(k, 1)))
    rows = max(1, min(rows_of(members[0].activation, context), LARGEST_WORK // (k * cut)))
    return Sample(rows, k, tuple(widths), tuple(biased), cut / sum(widths))


def timed(choice: Choice, members: Sequence[Product], sample: Sample, context: Context) -> Choice:
    """A choice among forms of the sample, with the time of the group itself."""
    whole = members[0].k * sum(sample.widths)
    work = rows_of(members[0].activation, context) * whole
    sampled = sample.rows * whole * sample.share
    by_rule = GAIN_BY_TOKEN if is_by_token(choice.winner) else GAIN
    return at_full_size(choice, work, sampled, by_rule)


def in_float(plan: Plan) -> list[Refusal]:
    """Why the products stay that are in the form `FLOAT`."""
    return [
        Refusal(label(member.nodes[0]), _why_in_float(members, choice))
        for members, choice in plan
        if choice.winner == FLOAT
        for member in members
    ]


def _why_in_float(members: Sequence[Product], choice: Choice) -> str:
    size = f"{members[0].k} x {members[0].n}"
    if not choice.measured:
        return f"too small to gain from int8 by rule ({size}, not measured)"
    return f"int8 is not measurably faster ({size}, {choice.speedup:.2f} times)"


def gain(plan: Plan) -> float | None:
    """The mean gain of the forms that were measured."""
    gains = [choice.speedup for _, choice in plan if choice.measured]
    return float(np.exp(np.mean(np.log(gains)))) if gains else None


@dataclass(frozen=True)
class Ready:
    """A group about to be rewritten.

    Attributes:
        members: the products, once their activation is divided.
        choice: the form.
        by: what the activation is divided by; None for 1.
        seen: what the activation was before; None where nothing is known.
    """

    members: list[Product]
    choice: Choice
    by: FloatArray | None
    seen: Observation | None

    @property
    def feedback(self) -> Feedback | None:
        """By what weights are rounded, where rows of the activation are known."""
        rows = self.seen.rows if self.seen is not None else None
        return Feedback(rows, self.by) if rows is not None else None


def prepared(
    plan: Plan, model: ir.Model, context: Context
) -> tuple[list[Ready], Mapping[str, tuple[str, ...]]]:
    """The groups that leave float, their activations divided by what makes int8 lose least.

    On made-up inputs that is asked only of what smoothing takes. Also what
    `contract.Outcome` calls `hidden`.
    """
    taken = [(members, choice) for members, choice in plan if choice.winner != FLOAT]
    real = context.observe is not None and context.observe.real
    wanted = [item for item, _ in taken if real or site_of(item, model, {}) is not None]
    seen = observed((members[0].activation for members in wanted), model, context)
    divided = _divided(taken, seen, model, context)
    ready = [
        Ready(members, choice, by, seen.get(before[0].activation))
        for (before, choice), (members, by) in zip(taken, divided.groups, strict=True)
    ]
    return ready, divided.hidden


def _divided(
    taken: Plan, seen: Mapping[ir.Value, Observation], model: ir.Model, context: Context
) -> Divided:
    by_token = {members[0].nodes: is_by_token(choice.winner) for members, choice in taken}

    def divisor_of(members: Sequence[Product]) -> FloatArray | None:
        known = seen.get(members[0].activation)
        if known is None:
            return None
        apart = by_token[members[0].nodes]
        tensors = [member.weight.const_value for member in members]
        key = ("int8 divisor", id(known), *map(id, tensors), apart)
        if key not in context.memo:
            by = divisor(known, members, saturating=context.saturating, by_token=apart)
            # What has those ids stays alive with what was found for it.
            context.memo[key] = known, tensors, by
        found: FloatArray | None = context.memo[key][2]
        return found

    real = tell_apart(known.rows for known in seen.values())
    return divide_all(model, [item for item, _ in taken], divisor_of, context.memo, real=real)


def not_taken(model: ir.Model, operators: Collection[str]) -> list[Refusal]:
    """Float weights that no place of the operators reads, by operator."""
    weights: dict[str, set[ir.Value]] = {}
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type in operators:
            continue
        for value in node.inputs:
            if value is None or (tensor := value.const_value) is None:
                continue
            elsewhere = any(use.node.op_type in operators for use in value.uses())
            large = tensor.dtype is ir.DataType.FLOAT and tensor.size >= SMALLEST_TABLE
            if large and not elsewhere:
                weights.setdefault(node.op_type, set()).add(value)
    return [
        Refusal(
            f"weights of {operator} ({len(values)})",
            f"int8 has no form for them ({sum(map(_size, values)) / 1e6:.1f} MB)",
        )
        for operator, values in sorted(weights.items())
    ]


def _size(value: ir.Value) -> int:
    return value.const_value.nbytes if value.const_value is not None else 0
