"""Weights of products and lookup tables in 4 or 8 bits, in blocks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.products import (
    Product,
    find_products,
    groups,
    label,
    shape_of,
)
from burnish.optimizer.contract import (
    LOSSY,
    Array,
    Choice,
    Context,
    Outcome,
    Phase,
    Refusal,
    Sparing,
)
from burnish.optimizer.samples import rows_of
from burnish.passes.compress import lookups
from burnish.passes.compress.blockwise.blocks import Layout
from burnish.passes.compress.blockwise.divisors import divisor
from burnish.passes.compress.blockwise.rewrite import Rewriter
from burnish.passes.compress.blockwise.sample import Sample
from burnish.passes.compress.error_feedback import Feedback
from burnish.passes.compress.products import observed, why_not
from burnish.passes.compress.smoothing.dividing import Divided, divide_all
from burnish.passes.compress.smoothing.search import FloatArray, tell_apart
from burnish.passes.compress.splice import drop_unused
from burnish.passes.compress.times import FLOAT, at_full_size, times

NOTHING_FOUND = "it has no product with a constant weight and no lookup table"

FINER_BITS = 8
"""Bits of the weights of places that 4 bits are too few for."""

GAINS = {4: 2.5, 8: 2.0}
"""Speed-ups over float32, by bits, that stand for those of forms that were not measured."""

LARGEST_SAMPLE = 1 << 24
"""Elements of the largest weight that a sample for timing gets; wider ones are cut to it."""

LARGEST_WORK = 1 << 31
"""Multiplications of a sample; longer activations are cut to it, as rows cost alike."""


@dataclass(frozen=True)
class WeightOnly(Sparing):
    """Products with constant weights, and lookup tables, with weights of few bits.

    Before:
        `y = MatMul(x, w) + b`; `Gather(t, i)`.
    After:
        ONNX Runtime's `MatMulNBits(x, codes, scales, zeros)` and the bias;
        `GatherBlockQuantized(codes, i, scales, zeros)`. A table that is also a product's weight
        is stored once. The weights of the places in `finer` get 8 bits. With the user's data `x` is
        divided where that lowers the error of 4 bits, and the rows of `w` multiplied (AWQ): in the
        scale of a normalization, in the product before a ReLU or beside a gate, else behind a
        normalization by a `Mul`.
    Refuses when:
        The product is slower so (measured; not with `force`), the weight is not a float32 matrix,
        has columns shorter than a block, or holds NaN, or the product is in `keep`.
    Numerics:
        Lossy. A scale, and unless `symmetric` a zero, for each `block` of a column, from its range
        or, with `search` and where the model is run, from the part of it that loses least, with the
        scale by least squares. With the user's data weights are rounded by error feedback (GPTQ),
        else to the nearest. Activations stay in float; the kernel rounds them to int8, each block
        by itself (`accuracy_level` 4).
    """

    bits: int = 4
    block: int = 32
    symmetric: bool = False
    search: bool = True
    embeddings: bool = True
    force: bool = False
    keep: tuple[str, ...] = ()
    finer: tuple[str, ...] = ()

    name = "weight-only"
    phase = Phase.COMPRESS
    promise = LOSSY
    asked = True
    finer_lookups = True

    @property
    def finer_is(self) -> str:
        return f"{FINER_BITS} bits" if self.bits < FINER_BITS else ""

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        products, refusals = find_products(model)
        tables, others = lookups.find(model, self.keep)
        refusals += others
        for node in list(tables):
            reason = self._why_no_table(node)
            if reason:
                refusals.append(Refusal(label(node), reason))
                tables.remove(node)
        taken: list[Product] = []
        spent: dict[str, tuple[float, float]] = {}
        for member in products:
            reason = self._why_not(member)
            if not reason:
                choice = self._choose(member, context)
                reason = _why_slower(choice, member)
                spent |= times([member], choice)
            if reason:
                refusals.append(Refusal(label(member.nodes[0]), reason))
            else:
                taken.append(member)
        # Where the model is not run, time and memory are scarce.
        search = self.search and context.observe is not None
        places = [member.output for member in taken] + [node.outputs[0] for node in tables]
        layouts = {place: self._layout(place, search=search) for place in places}
        rewriter = Rewriter(model, layouts.__getitem__, context.memo)
        divided = _rewrite_products(taken, layouts, rewriter, context)
        served = {member.weight for member in taken}
        in_float = {member.weight for member in products if member.weight not in served}
        looked_up, others = lookups.rewrite(tables, in_float, rewriter.lookup)
        refusals += others
        if taken or looked_up:
            drop_unused(model)
        finer = sum(layouts[member.output].bits > self.bits for member in taken)
        said = [f"{looked_up} lookup{'s' * (looked_up > 1)}"] if looked_up else []
        said += [f"{len(taken)} products"] if taken else []
        said += [f"{finer} with {FINER_BITS} bits"] if finer else []
        said += [f"{divided.count} scaled"] if divided.count else []
        said += [f"{rewriter.fed_back} by error feedback"] if rewriter.fed_back else []
        done = looked_up + len(taken)
        detail = ", ".join(said) if done else NOTHING_FOUND
        hidden = divided.hidden
        return Outcome(done, tuple(refusals), None, detail, times=spent, hidden=hidden)

    def _layout(self, place: ir.Value, *, search: bool = False) -> Layout:
        """How the weight of the place that gives a value is stored."""
        bits = FINER_BITS if place.name in self.finer else self.bits
        return Layout(bits, self.block, self.symmetric, search)

    def _why_not(self, product: Product) -> str:
        if product.k < self.block and product.output.name not in self.keep:
            return f"too small for blocks of {self.block} ({product.k} x {product.n})"
        return why_not(product, self.keep)

    def _why_no_table(self, node: ir.Node) -> str:
        if not self.embeddings:
            return "embeddings are kept as asked"
        assert node.inputs[0] is not None
        width = shape_of(node.inputs[0])[1]
        return f"its rows of {width} are no blocks of {self.block}" if width % self.block else ""

    def _choose(self, product: Product, context: Context) -> Choice:
        """Whether the product is no slower so; those of the same sizes share one measurement."""
        rows = tokens = rows_of(product.activation, context)
        columns = max(1, min(product.n, LARGEST_SAMPLE // product.k))
        rows = max(1, min(rows, LARGEST_WORK // (product.k * columns)))
        layout = self._layout(product.output)
        sample = Sample(rows, product.k, columns, layout)
        form = f"int{layout.bits} in blocks"
        forms: dict[str, Callable[[], onnx.ModelProto]] = {
            name: functools.partial(sample.build, quantized=name == form) for name in (FLOAT, form)
        }
        choice = Choice(form, 1.0, measured=False)
        if not self.force:
            choice = context.choose(sample.key, forms, form)
        sampled = rows * product.k * columns
        return at_full_size(choice, tokens * product.k * product.n, sampled, GAINS[layout.bits])


def _why_slower(choice: Choice, product: Product) -> str:
    if choice.winner != FLOAT:
        return ""
    return (
        f"weights in blocks are not measurably faster ({product.k} x {product.n}, "
        f"{choice.speedup:.2f} times); --force takes them for their size"
    )


def _rewrite_products(
    taken: list[Product],
    layouts: dict[ir.Value, Layout],
    rewriter: Rewriter,
    context: Context,
) -> Divided:
    """Rewrite products, by error feedback of divided activations where rows of them are known."""
    rows = _rows(taken, rewriter.model, context)

    def divisor_of(members: Sequence[Product]) -> FloatArray | None:
        known = rows.get(members[0].activation)
        if known is None:
            return None
        return divisor(known, members, [layouts[item.output] for item in members], context.memo)

    shared = groups(taken)
    divided = divide_all(
        rewriter.model, shared, divisor_of, context.memo, real=tell_apart(rows.values())
    )
    for before, (members, by) in zip(shared, divided.groups, strict=True):
        known = rows.get(before[0].activation)
        feedback = None if known is None else Feedback(known, by)
        for member in members:
            rewriter.product(member, feedback)
    return divided


def _rows(taken: list[Product], model: ir.Model, context: Context) -> dict[ir.Value, Array]:
    """Rows of the activations of products; nothing where the feeds are made up."""
    if context.observe is None or not context.observe.real:
        return {}
    found = observed((member.activation for member in taken), model, context)
    return {value: seen.rows for value, seen in found.items() if seen.rows is not None}
