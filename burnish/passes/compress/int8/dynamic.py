"""Dynamic int8: what is measured faster in int8 is computed in int8."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.products import Product, find_products, groups, label
from burnish.optimizer.contract import (
    LOSSY,
    Choice,
    Context,
    Outcome,
    Phase,
    Refusal,
    Sparing,
)
from burnish.passes.compress import lookups
from burnish.passes.compress.int8.groups import (
    HANDED_ON,
    SMALLEST_BY_RULE,
    Plan,
    Ready,
    gain,
    in_float,
    not_taken,
    prepared,
    sample_of,
    timed,
    usable,
)
from burnish.passes.compress.int8.ranges import BEST, range_of
from burnish.passes.compress.int8.rewrite import Rewriter
from burnish.passes.compress.int8.sample import is_by_token, is_static
from burnish.passes.compress.splice import drop_unused
from burnish.passes.compress.times import FLOAT, spent

NOTHING_FOUND = "it has no product with a constant weight and no lookup table"

MANNERS = (
    "products alone", "products merged", "by token", "of fixed range", "smoothed",
    "by error feedback",
)  # fmt: skip
"""What is counted of the products."""


@dataclass(frozen=True)
class DynamicInt8(Sparing):
    """Products with constant weights, and lookup tables, in int8.

    Before:
        `y = MatMul(x, w) + b`; `MatMul(x, wq)`, `MatMul(x, wk)`, `MatMul(x, wv)`; `Gather(t, i)`.
    After:
        `DynamicQuantizeLinear(x)` once, `MatMulInteger`, the scales, the bias; one product and a
        `Split` for Q, K and V where that is measured faster; int8 rows and a scale each for `t`.
        Where single channels of a normalized `x` stand out, they are divided by a factor that goes
        into the rows of `w` (SmoothQuant): in the scale of the normalization, else by a `Mul`; with
        the user's data also in the product before a ReLU or beside a gate.
        With `static`, where that is measured faster, `QuantizeLinear(x, scale, zero)` in place of
        `DynamicQuantizeLinear`, the range fixed by the user's data (`ranges` names the method).
        For the products in `finer`, `QuantizeLinear(x * (127 / m), 1, 128)` with `m` the largest
        magnitude of each token, and the product times `m`.
    Refuses when:
        The product is slower in int8 (measured; not with `force`), the weight is not a float32
        matrix or holds NaN, or the product is in `keep`: what by itself loses a quarter of its
        norm, or what the whole model's budget cannot afford.
    Numerics:
        Lossy. Weights: symmetric, 8 bits per output channel, of a range in which no sum of two
        products saturates where the target adds them in 16 bits; with the user's data rounded by
        error feedback (GPTQ), else to the nearest.
        Activations: uint8, from their own range in each run: asymmetric per tensor; by token
        symmetric, and above the least value where an activation function has one. With `static` the
        range is fixed; what is beyond it is cut off.
    """

    embeddings: bool = True
    force: bool = False
    keep: tuple[str, ...] = ()
    finer: tuple[str, ...] = ()
    static: bool = False
    ranges: str = BEST

    name = "int8"
    phase = Phase.COMPRESS
    promise = LOSSY
    asked = True

    @property
    def finer_is(self) -> str:
        return "a range for each token"

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        products, refusals = find_products(model)
        tables, others = lookups.find(model, self.keep)
        refusals += others
        if not self.embeddings:
            refusals += [Refusal(label(node), "embeddings are kept as asked") for node in tables]
            tables = []
        plan: Plan = []
        for group in groups(products):
            if members := usable(group, self.keep, refusals):
                plan.append((members, self._choose(members, model, context)))
        refusals += not_taken(model, ("Gather", *HANDED_ON))
        refusals += in_float(plan)
        # Before tables are replaced, since a weight that one shares must not be multiplied.
        ready, hidden = prepared(plan, model, context)
        rewriter = Rewriter(model, context.saturating, context.memo)
        stay = {item.weight for group, choice in plan if choice.winner == FLOAT for item in group}
        looked_up, others = lookups.rewrite(tables, stay, rewriter.lookup)
        refusals += others
        counts = self._rewrite_products(ready, rewriter)
        done = looked_up + counts["products alone"] + counts["products merged"]
        drop_unused(model)
        said = [f"{looked_up} lookup{'s' * (looked_up > 1)}"] if looked_up else []
        said += [f"{count} {what}" for what, count in counts.items() if count]
        detail = ", ".join(said) if done else NOTHING_FOUND
        return Outcome(done, tuple(refusals), gain(plan), detail, times=spent(plan), hidden=hidden)

    def _rewrite_products(self, ready: list[Ready], rewriter: Rewriter) -> dict[str, int]:
        """Rewrite groups of products in the forms chosen; how many, by manner."""
        counts = dict.fromkeys(MANNERS, 0)
        for group in ready:
            members, by, feedback = group.members, group.by, group.feedback
            form = group.choice.winner
            merged, by_token, fixed = form.endswith("merged"), is_by_token(form), None
            if group.seen is not None and is_static(form):
                fixed = range_of(group.seen, members, by, self.ranges)
            counts["products merged" if merged else "products alone"] += len(members)
            counts["by token"] += len(members) * by_token
            counts["of fixed range"] += len(members) * (fixed is not None)
            counts["smoothed"] += len(members) * (by is not None)
            counts["by error feedback"] += len(members) * (feedback is not None)
            for part in [members] if merged else [[member] for member in members]:
                rewriter.product(part, by, feedback, by_token=by_token, fixed=fixed)
        return counts

    def _choose(self, members: list[Product], model: ir.Model, context: Context) -> Choice:
        """The fastest form for a group; groups of the same sizes share one measurement."""
        sample = sample_of(members, context)
        by_token = any(member.output.name in self.finer for member in members)
        static = not by_token and self._may_fix(members, model, context)
        ways = ["int8-token"] if by_token else ["int8", *(["int8-static"] if static else [])]
        apart = {id(member.weight) for member in members}
        merge = len(members) > 1 and len(apart) == len(members)
        names = [] if self.force else [FLOAT]
        for way in ways:
            names += [way, f"{way}-merged"] if merge else [way]
        forms: dict[str, Callable[[], onnx.ModelProto]] = {
            name: functools.partial(sample.build, name) for name in names
        }
        large = self.force or members[0].k * sum(sample.widths) >= SMALLEST_BY_RULE
        rule = names[-1] if large else FLOAT
        choice = Choice(rule, 1.0, measured=False)
        marks = {" static": static, " by token": by_token, " forced": self.force}
        suffix = "".join(mark for mark, there in marks.items() if there)
        if len(forms) > 1:
            choice = context.choose(f"{sample.key}{suffix}", forms, rule)
        return timed(choice, members, sample, context)

    def _may_fix(self, members: list[Product], model: ir.Model, context: Context) -> bool:
        """Whether the range of the group's activation can be fixed: real data says what it is.

        On made-up inputs ranges are others than on real ones; what runs in a subgraph is not
        observed.
        """
        real = context.observe is not None and context.observe.real
        return self.static and real and members[0].graph is model.graph
