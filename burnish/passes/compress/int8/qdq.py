"""Static int8: pairs of QuantizeLinear and DequantizeLinear, for runtimes that fuse them."""

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
from burnish.passes.compress.int8.sample import PAIRS
from burnish.passes.compress.splice import drop_unused
from burnish.passes.compress.times import FLOAT, spent

NO_DATA = (
    "ranges of activations are fixed beforehand, and only real data (--data) says what they are"
)

FACTOR = "its factor is not positive, as scales have to be"

UNSEEN = "no finite range of its input is known"

TABLE = "int8 is between QuantizeLinear and DequantizeLinear only: a row has no scale of its own"

NOTHING_FOUND = "it has no product with a constant weight"


@dataclass(frozen=True)
class StaticInt8(Sparing):
    """Products with constant weights in int8, as explicit quantization of TensorRT wants it.

    Before:
        `y = MatMul(x, w) + b`.
    After:
        `MatMul(DequantizeLinear(QuantizeLinear(x)), DequantizeLinear(w8)) + b`, the pair on `x`
        once for all its products. The scales are constants; the zeros are 0. Single channels of a
        normalized `x` that stand out go into the rows of `w` (SmoothQuant).
    Refuses when:
        There is no real data to say what ranges activations have, or the activation is one of a
        subgraph, which is not observed; the product is slower in int8 (measured; not with
        `force`), the weight is not a float32 matrix or holds NaN, or the product is in `keep`.
        Lookup tables stay in float: TensorRT has no int8 outside of the pairs, whose scales are
        constants, so that rows would have to share one scale.
    Numerics:
        Lossy. Weights: symmetric, 8 bits per output channel, rounded by error feedback (GPTQ).
        Activations: symmetric, 8 bits per tensor, in a range that the data gives (`ranges` names
        the method); what is beyond it is cut off.
    """

    force: bool = False
    keep: tuple[str, ...] = ()
    ranges: str = BEST

    name = "static-int8"
    phase = Phase.COMPRESS
    promise = LOSSY
    asked = True

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        products, refusals = find_products(model)
        if products and (context.observe is None or not context.observe.real):
            return Outcome(detail=NO_DATA)
        tables, others = lookups.find(model, self.keep)
        refusals += [*others, *(Refusal(label(node), TABLE) for node in tables)]
        plan: Plan = []
        for group in groups(products):
            members = [item for item in usable(group, self.keep, refusals) if item.alpha > 0]
            refusals += [Refusal(label(item.nodes[0]), FACTOR) for item in group if item.alpha <= 0]
            if members:
                plan.append((members, self._choose(members, context)))
        refusals += [*in_float(plan), *not_taken(model, ("Gather", *HANDED_ON))]
        ready, hidden = prepared(plan, model, context)
        done = self._rewrite(ready, Rewriter(model, memo=context.memo), refusals)
        if done:
            drop_unused(model)
        detail = f"{done} products" if done else NOTHING_FOUND
        return Outcome(done, tuple(refusals), gain(plan), detail, times=spent(plan), hidden=hidden)

    def _choose(self, members: list[Product], context: Context) -> Choice:
        """Whether a group is faster in int8; groups of the same sizes share one measurement."""
        sample = sample_of(members, context)
        forms: dict[str, Callable[[], onnx.ModelProto]] = {
            name: functools.partial(sample.build, name) for name in (FLOAT, PAIRS)
        }
        large = members[0].k * sum(sample.widths) >= SMALLEST_BY_RULE
        choice = Choice(PAIRS, 1.0, measured=False)
        if not self.force:
            choice = context.choose(f"{sample.key} in pairs", forms, PAIRS if large else FLOAT)
        return timed(choice, members, sample, context)

    def _rewrite(self, ready: list[Ready], rewriter: Rewriter, refusals: list[Refusal]) -> int:
        """Rewrite the groups whose activation has a known range; how many products."""
        done = 0
        for group in ready:
            members, by, feedback, fixed = group.members, group.by, group.feedback, None
            if group.seen is not None and members[0].graph is rewriter.model.graph:
                fixed = range_of(group.seen, members, by, self.ranges, symmetric=True)
            if fixed is None:
                refusals += [Refusal(label(member.nodes[0]), UNSEEN) for member in members]
                continue
            for member in members:
                rewriter.pair(member, fixed, by, feedback)
            done += len(members)
        return done
