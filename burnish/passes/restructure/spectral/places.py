"""Where transforms are, what of them is read, and the forms that they can have."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.optimizer.analysis.matching import only_reader
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.analysis.spectra import Transform, transform_of
from burnish.optimizer.pruning import take_over
from burnish.passes.restructure.spectral.planes import Parts, Taker, give, parts_of, takers_of
from burnish.passes.restructure.spectral.products import LARGEST, PRODUCTS, matrix_of, products
from burnish.passes.restructure.spectral.steps import STEPS, in_steps, why_not_steps
from burnish.passes.restructure.spectral.surface import (
    HALVES,
    QUARTERS,
    forms_of_surface,
    halves,
    quarters,
)
from burnish.passes.restructure.spectral.writer import Store, Writer

LONG = 1024
"""The length from which two steps are taken unmeasured: at 512 and 768 they took as long."""


@dataclass(frozen=True)
class Place:
    """A transform, or two along the last axes whose real part alone is read.

    Attributes:
        transform: the (first) one.
        second: the one of its result, where the two have forms together, or None.
        takers: readers of the parts of the result; None where something needs both in one.
    """

    transform: Transform
    second: Transform | None
    takers: tuple[Taker, ...] | None

    @property
    def last(self) -> Transform:
        """The transform that gives the result."""
        return self.second or self.transform

    @property
    def wanted(self) -> tuple[int, ...]:
        """The parts that are read."""
        if self.last.gives_real:
            return (0,)
        if not self.takers:
            return (0, 1)
        return tuple(sorted({taker.part for taker in self.takers}))

    @property
    def forms(self) -> tuple[str, ...]:
        """Those besides the operator."""
        if self.second is not None:
            return (PRODUCTS, *forms_of_surface(self.transform, self.second))
        steps = () if why_not_steps(self.transform) else (STEPS,)
        return steps if too_large(self.transform) else (PRODUCTS, *steps)

    @property
    def rule(self) -> str:
        """The form that is taken unmeasured."""
        short = (self.transform.length.number or 0) < LONG
        return self.forms[0] if self.forms[-1] == STEPS and short else self.forms[-1]


def place_of(transform: Transform, sizes: Sizes, opset: int) -> Place:
    """The transform with what can be written together with it."""
    second = _second(transform, sizes, opset)
    last = second or transform
    takers = takers_of(last.output, sizes)
    return Place(transform, second, tuple(takers) if takers is not None else None)


def _second(transform: Transform, sizes: Sizes, opset: int) -> Transform | None:
    """The transform of the other one of the last two axes, of a real surface."""
    node = only_reader(transform.output)
    if node is None or node.op_type != "DFT" or node.inputs[0] is not transform.output:
        return None
    second = transform_of(node, sizes, opset)
    if isinstance(second, str) or why_not(second) or too_large(transform) or too_large(second):
        return None
    if not transform.real or second.real or node.graph is not transform.node.graph:
        return None
    plain = all(
        item.length == item.present and not item.inverse and not item.onesided
        for item in (transform, second)
    )
    rank = transform.rank
    axes = {transform.axis, second.axis} == {rank - 2, rank - 3}
    takers = takers_of(second.output, sizes)
    read = takers is not None and {taker.part for taker in takers} == {0}
    return second if plain and axes and read else None


def why_not(transform: Transform) -> str:
    """Why a transform has no other form than the operator; empty where it has one."""
    if matrix_of(transform) is None:
        if transform.length != transform.present:
            return "its length and that of its operand are known in a run only"
        if transform.gives_real:
            return "the length of what it gives is known in a run only"
    if too_large(transform) and (reason := why_not_steps(transform)):
        return f"its matrix would exceed {LARGEST >> 18} MB; in two steps: {reason}"
    return ""


def too_large(transform: Transform) -> bool:
    """Whether the matrices of a transform are no choice."""
    known = matrix_of(transform)
    return known is not None and known.given * known.present > LARGEST


def write(place: Place, form: str, sizes: Sizes, store: Store) -> None:
    """Write a place in a form; who read the result reads that."""
    writer, wanted = Writer(place.last.node, store), place.wanted
    transform = place.transform
    parts = parts_of(transform.source, transform.real, writer)
    results: Parts
    if place.second is not None and form in (HALVES, QUARTERS):
        assert parts[0] is not None
        surface = halves if form == HALVES else quarters
        results = surface(transform, place.second, parts[0], writer), None
    elif place.second is not None:
        between = products(transform, parts, (0, 1), writer)
        results = products(place.second, between, (0,), writer)
    else:
        make = in_steps if form == STEPS else products
        results = make(transform, parts, wanted, writer)
    output = place.last.output
    if place.takers:
        give(place.takers, results, writer)
        return
    made = [writer.unsqueezed(part) for part in results if part is not None]
    whole = made[0] if len(made) == 1 else writer.node("Concat", *made, axis=-1)
    whole.shape = output.shape
    sizes.copy(output, whole)
    take_over(output, whole)
