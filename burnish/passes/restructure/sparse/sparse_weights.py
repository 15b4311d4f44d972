"""Products with weights that have zeros in blocks, or another structure, do only what counts."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.products import Product, find_products, groups, label, shape_of
from burnish.optimizer.computed import Part
from burnish.optimizer.contract import (
    ROUNDING,
    Array,
    Choice,
    Context,
    Outcome,
    Pass,
    Phase,
    Refusal,
)
from burnish.optimizer.model import add_initializer
from burnish.optimizer.pruning import take_over
from burnish.optimizer.samples import rows_of
from burnish.passes.restructure.sparse import cutting
from burnish.passes.restructure.sparse.channels import hidden_before
from burnish.passes.restructure.sparse.forms import (
    SCATTERED,
    Apart,
    Batched,
    Form,
    Place,
    TwoProducts,
)
from burnish.passes.restructure.sparse.sample import Sample
from burnish.passes.restructure.sparse.structure import (
    Block,
    Kronecker,
    by_support,
    components,
    fewer,
    kronecker,
    without_zeros,
)

WORTH = 0.9
"""Share of its multiplications that another form of a product has at most."""

BY_RULE = 0.25
"""Share of its multiplications up to which a form is taken by rule, unless it gathers channels one
by one, which took longer than all the products of 384 x 384."""

COUNTS = (2, 4, 8)
"""Numbers of blocks that are tried where there are more."""

LEAST = 16
"""Rows and columns of the smallest weight that is looked at."""

WHOLE = "whole"
OPSET = 13
"""The operator set from which `Slice` and `Concat` are as they are written here."""


@dataclass(frozen=True)
class SparseWeights(Pass):
    """Leave out of products what is multiplied with zeros, and use the structure of weights.

    Before:
        `MatMul(f(MatMul(x, up) + b), down)` with columns of `up`, or rows of `down`, that are zero;
        `MatMul(x, w)` with zeros in rows, columns or blocks, or with `w` a Kronecker product.
    After:
        The same with fewer channels between the two; what channels that are constant add goes into
        the bias behind. Else `Concat(MatMul(x[rows], w[rows, columns]), ...)`, or one product of
        all blocks where they share no rows and have the same sizes, whatever the order of rows and
        columns (`Gather`). For a Kronecker product one product with each factor.
    Refuses when:
        The other form is measured no faster; or, not measured, its multiplications are more than a
        quarter, or its channels lie scattered. Zeros are in no blocks. The weight is not float32,
        or has other readers.
    Numerics:
        Rounding: sums without their zeros, in another order; factors whose product is the weight to
        within 1e-6. An infinite or NaN activation no longer meets a zero.
    """

    name = "sparse-weights"
    phase = Phase.RESTRUCTURE
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        if model.opset_imports.get("", OPSET) < OPSET:
            return Outcome()
        tally = _Tally()
        tally.repeat(lambda: _cut_channels(model, context, tally))
        tally.repeat(lambda: _restructure_all(model, context, tally))
        return tally.outcome()


@dataclass
class _Tally:
    """What was done."""

    channels: int = 0
    forms: Counter[str] = field(default_factory=Counter)
    gains: list[float] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def takes(self, member: Product, choice: Choice) -> bool:
        """Whether a product gets another form."""
        if choice.winner != WHOLE:
            self.gains += [choice.speedup] if choice.measured else []
            return True
        measured = f"without its zeros it is not measurably faster ({choice.speedup:.2f} times)"
        self.refuse(member, measured if choice.measured else "it stays by rule (not measured)")
        return False

    def refuse(self, member: Product, reason: str) -> None:
        """Leave a product as it is."""
        self.refusals.append(Refusal(label(member.nodes[0]), reason))

    def repeat(self, step: Callable[[], None]) -> None:
        """Do a step until it changes nothing: what it made may have a better form again."""
        before, refused = None, list(self.refusals)
        while before != self.forms:
            before, self.refusals = self.forms.copy(), list(refused)
            step()

    def outcome(self) -> Outcome:
        """All of it."""
        logs = [math.log(gain) for gain in self.gains]
        said = [f"{count} as {name}" for name, count in self.forms.items()]
        said += [f"{self.channels} channels cut"] if self.channels else []
        done = sum(self.forms.values())
        speedup = math.exp(sum(logs) / len(logs)) if logs else None
        return Outcome(done, tuple(self.refusals), speedup, ", ".join(said))


def _cut_channels(model: ir.Model, context: Context, tally: _Tally) -> None:
    """Cut hidden channels between layers."""
    found = find_products(model)[0]
    by_output = {member.output: member for member in found}
    for downs in groups(found):
        if downs[0].nodes[0].graph is None:  # rewritten meanwhile, with the layers before another
            continue
        hidden = hidden_before(downs, by_output, model.opset_imports[""])
        cut = cutting.cut_of(hidden) if hidden is not None else None
        if cut is None:
            continue
        if tally.takes(downs[0], cutting.choose(cut, context)):
            cutting.apply(cut)
            tally.channels += cut.width - len(cut.kept)
            tally.forms[f"{len(cut.hidden.ups)} + {len(downs)} narrower layers"] += 1


def _restructure_all(model: ir.Model, context: Context, tally: _Tally) -> None:
    """Write each product in the form that is fastest."""
    for member in find_products(model)[0]:
        if min(member.k, member.n) >= LEAST:
            _restructure(member, context, tally)


def _restructure(member: Product, context: Context, tally: _Tally) -> None:
    """Write one product in the form that is fastest."""
    assert member.weight.const_value is not None
    matrix = member.weight.const_value.numpy()
    matrix = matrix.T if member.transposed else matrix
    axes = _axes(member, context)
    forms = [*_forms_of(matrix, tally, member), *_factored(matrix, member.alpha)]
    forms = [
        form
        for form in forms
        if form.work <= WORTH * matrix.size and (len(axes) > 1 or isinstance(form, Apart))
    ]
    if not forms:
        return
    if len(member.weight.uses()) > 1:
        tally.refuse(member, "its weight has other readers, and would be stored twice")
        return
    choice = _choose(member, axes, forms, context)
    if not tally.takes(member, choice):
        return
    form = next(form for form in forms if form.name == choice.winner)
    write(member, form, len(axes) if len(axes) > 1 else 0)
    tally.forms[form.name] += 1


def _axes(member: Product, context: Context) -> tuple[int, ...]:
    """Sizes of the left operand; one for rows where they are not known, and that of channels."""
    shape = context.shapes.get(member.activation.name or "")
    if shape is None and member.activation.shape is not None:
        rows = rows_of(member.activation, context)
        shape = (*[1] * (len(member.activation.shape) - 2), rows, member.k)
    return tuple(shape) if shape is not None else (0,)


def _forms_of(matrix: Array, tally: _Tally, member: Product) -> list[Form]:
    """The ways to leave zeros out that a weight has."""
    if without_zeros(matrix):
        return []
    count = int(np.count_nonzero(matrix))
    if count > WORTH * matrix.size or not count:
        return []
    mask = matrix != 0
    width = matrix.shape[1]
    blocks = components(mask)
    forms: list[Form] = []
    if len(blocks) > 1 and len({(len(item.rows), len(item.columns)) for item in blocks}) == 1:
        forms.append(Batched(tuple(blocks), width))
    if len(blocks) == 1 and blocks[0].work > WORTH * count:
        blocks = _better(blocks, by_support(mask))
    if sum(block.work for block in blocks) > WORTH * matrix.size:
        share = 1 - count / matrix.size
        tally.refuse(member, f"its zeros are in no blocks ({share:.0%} of it)")
        return []
    tried = [most for most in COUNTS if most < len(blocks)]
    plans = [fewer(blocks, most) for most in tried] + [blocks] * (len(blocks) <= 2 * COUNTS[-1])
    return [*(Apart(tuple(plan), width) for plan in plans), *forms]


def _better(first: list[Block], second: list[Block]) -> list[Block]:
    """The blocks with the less work."""
    return min((first, second), key=lambda blocks: sum(block.work for block in blocks))


def _factored(matrix: Array, alpha: float) -> list[Form]:
    """The ways to multiply with the factors of a weight."""
    found = kronecker(matrix)
    if found is None:
        return []
    found = Kronecker(found.left, found.right * np.float32(alpha))
    return [TwoProducts(found, way) for way in ((False,) if found.repeated else (False, True))]


def _choose(member: Product, axes: tuple[int, ...], forms: list[Form], context: Context) -> Choice:
    """The fastest form; products of the same sizes and structure share one measurement."""
    known = axes[:-1] or (rows_of(member.activation, context),)
    sample = Sample(known, member.k, member.n)
    builders: dict[str, Callable[[], onnx.ModelProto]] = {
        WHOLE: functools.partial(sample.build, None)
    }
    builders |= {form.name: functools.partial(sample.build, form) for form in forms}
    plain = [form for form in forms if SCATTERED not in form.key]
    least = min(plain, key=lambda form: form.work, default=None)
    by_rule = least is not None and least.work <= BY_RULE * member.k * member.n
    rule = least.name if least is not None and by_rule else WHOLE
    key = " or ".join(form.key for form in forms)
    return context.choose(f"{sample.key} {key}", builders, rule)


def write(member: Product, form: Form, axes: int) -> None:
    """Put a form, and the bias, in the place of a product."""
    anchor, name = member.nodes[-1], member.weight.name or "weight"
    part = Part(member.weight.const_value, shape_of(member.weight), member.transposed, member.alpha)
    place = Place(anchor, member.activation, axes, part, name)
    result = form.write(place)
    if member.bias is not None and member.beta != 0.0:
        bias: ir.Value = member.bias
        if member.beta != 1.0:
            assert bias.const_value is not None
            array = bias.const_value.numpy() * np.float32(member.beta)
            bias = add_initializer(member.graph, f"{bias.name}_scaled", ir.Tensor(array))
        result = place.node("Add", result, bias)
    result.type, result.shape = member.output.type, member.output.shape
    take_over(member.output, result)
