"""Dynamic int8: what is measured faster in int8 is computed in int8."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.products import (
    Product,
    find_products,
    groups,
    is_finite,
    label,
)
from burnish.optimizer.contract import (
    LOSSY,
    Choice,
    Context,
    Observation,
    Outcome,
    Phase,
    Refusal,
    Sparing,
)
from burnish.passes.compress import lookups
from burnish.passes.compress.int8 import smoothing
from burnish.passes.compress.int8.rewrite import Rewriter
from burnish.passes.compress.int8.sample import Sample, is_by_token
from burnish.passes.compress.int8.smoothing import FloatArray
from burnish.passes.compress.lookups import PRODUCTS, SMALLEST_TABLE
from burnish.passes.compress.splice import drop_unused
from burnish.passes.compress.times import at_full_size, times

LARGEST_SAMPLE = 1 << 22
"""Elements of the largest weight that a sample for timing gets; wider ones are cut to it."""

LARGEST_WORK = 1 << 30
"""Multiplications of a sample; longer activations are cut to it, as rows cost alike."""

SMALLEST_BY_RULE = 1 << 14
"""Elements of the smallest weight that goes to int8 where nothing is measured."""

GAIN, GAIN_BY_TOKEN = 3.0, 2.5
"""Speed-ups over float32 that stand for those of forms that were not measured."""

NOTHING_FOUND = "it has no product with a constant weight and no lookup table"

TAKEN = ("Gather", *PRODUCTS, "Identity")
"""Operators whose weights int8 takes, or that hand them on."""

WIDE_ACCUMULATION = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"}
"""Instruction sets that add products of uint8 and int8 in 32 bits, without saturation."""


Plan = list[tuple[list[Product], Choice]]
"""Groups of products that share an activation, with the form chosen for each."""


@dataclass(frozen=True)
class DynamicInt8(Sparing):
    """Products with constant weights, and lookup tables, in int8.

    Before:
        `y = MatMul(x, w) + b`; `MatMul(x, wq)`, `MatMul(x, wk)`, `MatMul(x, wv)`; `Gather(t, i)`.
    After:
        `DynamicQuantizeLinear(x)` once, `MatMulInteger`, the scales, the bias; one product and a
        `Split` for Q, K and V where that is measured faster; int8 rows and a scale each for `t`.
        Where single channels of a normalized `x` stand out, they are divided by a factor that goes
        into the rows of `w` (SmoothQuant): in the scale of the normalization, else by a `Mul`.
        For the products in `finer`, `QuantizeLinear(x * (127 / m), 1, 128)` with `m` the largest
        magnitude of each token, and the product times `m`.
    Refuses when:
        The product is slower in int8 (measured; not with `force`), the weight is not a float32
        matrix or holds NaN, or the product is in `keep`: what by itself loses a quarter of its
        norm, or what the whole model's budget cannot afford.
    Numerics:
        Lossy. Weights: symmetric, 8 bits per output channel (7 where the processor saturates); with
        the user's data rounded by error feedback (GPTQ), else to the nearest.
        Activations: uint8, from their own range in each run: asymmetric per tensor; by token
        symmetric, and above the least value where an activation function has one.
    """

    embeddings: bool = True
    force: bool = False
    keep: tuple[str, ...] = ()
    finer: tuple[str, ...] = ()

    name = "int8"
    phase = Phase.COMPRESS
    promise = LOSSY
    asked = True

    @property
    def finer_is(self) -> str:
        return "a range for each token"

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        bits = 8 if context.processor_flags & WIDE_ACCUMULATION else 7
        products, refusals = find_products(model)
        tables, others = lookups.find(model, self.keep)
        refusals += others
        if not self.embeddings:
            refusals += [Refusal(label(node), "embeddings are kept as asked") for node in tables]
            tables = []
        plan: Plan = []
        for group in groups(products):
            usable = [item for item in group if self._usable(item, refusals)]
            if usable:
                plan.append((usable, self._choose(usable, context, bits)))
        refusals += _not_taken(model)
        rewriter = Rewriter(model, bits, context.memo)
        in_float = {
            item.weight for group, choice in plan if choice.winner == "fp32" for item in group
        }
        looked_up, others = lookups.rewrite(tables, in_float, rewriter.lookup)
        refusals += others
        counts = self._rewrite_products(plan, rewriter, model, context, refusals)
        done = looked_up + counts["products alone"] + counts["products merged"]
        drop_unused(model)
        said = [f"{looked_up} lookup{'s' * (looked_up > 1)}"] if looked_up else []
        said += [f"{count} {what}" for what, count in counts.items() if count]
        gains = [choice.speedup for _, choice in plan if choice.measured]
        speedup = float(np.exp(np.mean(np.log(gains)))) if gains else None
        detail = ", ".join(said) if done else NOTHING_FOUND
        spent = {name: pair for item in plan for name, pair in times(*item).items()}
        return Outcome(done, tuple(refusals), speedup, detail, times=spent)

    def _rewrite_products(
        self,
        plan: Plan,
        rewriter: Rewriter,
        model: ir.Model,
        context: Context,
        refusals: list[Refusal],
    ) -> dict[str, int]:
        """Rewrite the groups that int8 makes faster; how many products, by manner."""
        kinds = "products alone", "products merged", "by token", "smoothed", "by error feedback"
        counts = dict.fromkeys(kinds, 0)
        taken = [(members, choice) for members, choice in plan if choice.winner != "fp32"]
        for members, choice in plan:
            if choice.winner == "fp32":
                reason = _why_in_float(members, choice)
                refusals += [Refusal(label(member.nodes[0]), reason) for member in members]
        seen = _observed([members for members, _ in taken], model, context)
        for members, choice in taken:
            name = members[0].activation.name or ""
            merged, by_token = choice.winner.endswith("merged"), is_by_token(choice.winner)
            rows = divisor = None
            if name in seen:
                key = ("divisor", name, rewriter.bits, by_token, len(members))
                if key not in context.memo:
                    found = _divisor(members, seen[name], model, rewriter.bits, by_token=by_token)
                    context.memo[key] = found
                divisor = context.memo[key]
                rows = seen[name].rows
            if divisor is not None:
                smoothing.divide(members, divisor)
                rows = None if rows is None else rows / divisor
                counts["smoothed"] += len(members)
            counts["products merged" if merged else "products alone"] += len(members)
            counts["by token"] += len(members) * by_token
            counts["by error feedback"] += len(members) * (rows is not None)
            for part in [members] if merged else [[member] for member in members]:
                rewriter.product(part, divisor, rows, by_token=by_token)
        return counts

    def _usable(self, product: Product, refusals: list[Refusal]) -> bool:
        reason = ""
        if product.output.name in self.keep:
            reason = "kept in fp32 to stay within the budget"
        elif product.activation.dtype not in (None, ir.DataType.FLOAT):
            reason = "its input is not float32"
        elif not is_finite(product.weight):
            reason = "its weight holds NaN or infinity"
        if reason:
            refusals.append(Refusal(label(product.nodes[0]), reason))
        return not reason

    def _choose(self, members: list[Product], context: Context, bits: int) -> Choice:
        """The fastest form for a group; groups of the same sizes share one measurement."""
        tokens = context.sizes.get("batch", 8) * context.sizes.get("sequence", 128)
        shape = context.shapes.get(members[0].activation.name or "")
        rows = tokens = math.prod(shape[:-1]) if shape else tokens
        widths = [member.n for member in members]
        biased = [member.bias is not None for member in members]
        k = members[0].k
        cut = max(1, min(sum(widths), LARGEST_SAMPLE // max(k, 1)))
        rows = max(1, min(rows, LARGEST_WORK // (k * cut)))
        sample = Sample(rows, k, tuple(widths), tuple(biased), cut / sum(widths), bits)
        by_token = any(member.output.name in self.finer for member in members)
        alone = "int8-token" if by_token else "int8"
        names = [*([] if self.force else ["fp32"]), alone]
        apart = {id(member.weight) for member in members}
        if len(members) > 1 and len(apart) == len(members):
            names.append(f"{alone}-merged")
        forms: dict[str, Callable[[], onnx.ModelProto]] = {
            name: functools.partial(sample.build, name) for name in names
        }
        large = self.force or k * sum(widths) >= SMALLEST_BY_RULE
        rule = list(forms)[-1] if large else "fp32"
        suffix = f"{' by token' if by_token else ''}{' forced' if self.force else ''}"
        choice = Choice(rule, 1.0, measured=False)
        if len(forms) > 1:
            choice = context.choose(f"{sample.key}{suffix}", forms, rule)
        gain = GAIN_BY_TOKEN if by_token else GAIN
        return at_full_size(choice, tokens * k * sum(widths), rows * k * cut, gain)


def _observed(
    taken: list[list[Product]], model: ir.Model, context: Context
) -> dict[str, Observation]:
    """What is known of the groups' activations: on made-up inputs, of those that smoothing asks."""
    if context.observe is None:
        return {}
    real = context.observe.real
    wanted = [members for members in taken if real or smoothing.smoothable(members, model)]
    names = [members[0].activation.name or "" for members in wanted]
    return context.observe(model, names) if names else {}


def _divisor(
    members: list[Product], seen: Observation, model: ir.Model, bits: int, *, by_token: bool
) -> FloatArray | None:
    """What the activation is divided by; None where that cannot be, or does not pay."""
    if not smoothing.smoothable(members, model):
        return None
    return smoothing.divisor(seen, members, bits, by_token=by_token)


def _not_taken(model: ir.Model) -> list[Refusal]:
    """Float weights of operators that int8 has no form for, by operator."""
    weights: dict[str, set[ir.Value]] = {}
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type in TAKEN:
            continue
        for value in node.inputs:
            if value is None or (tensor := value.const_value) is None:
                continue
            elsewhere = any(use.node.op_type in TAKEN for use in value.uses())
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


def _why_in_float(members: list[Product], choice: Choice) -> str:
    size = f"{members[0].k} x {members[0].n}"
    if not choice.measured:
        return f"too small to gain from int8 by rule ({size}, not measured)"
    return f"int8 is not measurably faster ({size}, {choice.speedup:.2f} times)"
