"""A share of the weights of products becomes zero, the others making up for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.activations import Course
from burnish.optimizer.analysis.products import Product, find_products, label
from burnish.optimizer.contract import (
    Array,
    Context,
    Kind,
    Outcome,
    Phase,
    Promise,
    Refusal,
    Sparing,
)
from burnish.passes.compress.masks import convolutions
from burnish.passes.compress.masks.methods import MAGNITUDE, SPARSEGPT, masked
from burnish.passes.compress.masks.pattern import Pattern
from burnish.passes.compress.products import why_not

HELD = "it has as many zeros already"
NO_DATA = "its input was not observed"

MASKED = Promise(Kind.LOSSY, 1.0)
"""A product whose weights are half zeros may be off by a third; the whole's budget decides."""


@dataclass(frozen=True)
class WeightMasks(Sparing):
    """A share of the weights of products and convolutions becomes zero.

    It runs where the user asks for it (`--sparsity`), and stays though nothing is faster by it:
    kernels on processors multiply with zeros as with other numbers. It makes files smaller
    (`--sparse-storage`), and devices with kernels for it faster: of 2:4 TensorRT makes use where it
    is built with sparse weights (`trtexec --sparsity=enable`, `trt_sparsity_enable` in ONNX
    Runtime).

    Before:
        `y = MatMul(x, w) + b`, with `w` [k, n].
    After:
        The same, with so many elements of `w` zero: a share of all (`0.5`), or all but N of each M
        (`2:4`) that follow each other along k, over which a product adds up. In `w` [n, k] of a
        `Gemm` that transposes it they follow each other along k too, and in `w` [n, k, ...] of a
        convolution along k at each place of its window: as TensorRT wants them.
    Refuses when:
        The weight is not a float32 matrix, holds NaN, is read by others than products, or gives an
        output (a classifier, a head); its rows are no groups of M; it has as many zeros already;
        the product is in `keep`, or what it multiplies was not observed. A convolution, but with
        `magnitude`.
    Numerics:
        Lossy. `magnitude` leaves the largest elements as they are. `wanda` weighs them by the norms
        of what they are multiplied with. `sparsegpt` lets the other rows make up for the zeros, as
        the correlations of the activation say. The last two need the user's data, all of it, and
        see the activations of a model whose earlier weights have their zeros already. Zeros stay
        zeros in int8, and in blocks.
    """

    sparsity: str = "0.5"
    method: str = SPARSEGPT
    keep: tuple[str, ...] = ()

    name = "weight-masks"
    phase = Phase.COMPRESS
    promise = MASKED
    asked = True
    lasting = True

    kept_is = "all weights"

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        pattern = Pattern.of(self.sparsity)
        products, refusals = find_products(model)
        taken: list[Product] = []
        for member in products:
            reason = why_not(member, self.keep) or _why_whole(member, pattern)
            if reason:
                refusals.append(Refusal(label(member.nodes[0]), reason))
            else:
                taken.append(member)
        arrays: list[Array] = []
        for member, gram in self._seen(taken, model, context):
            if isinstance(gram, str):
                refusals.append(Refusal(label(member.nodes[0]), gram))
                continue
            arrays.append(_write(member, gram, self.method, pattern))
        for node in convolutions.find_convolutions(model):
            if reason := convolutions.why_not(node, self.method, pattern, self.keep):
                refusals.append(Refusal(label(node), reason))
            else:
                arrays.append(convolutions.write(node, pattern))
        if not arrays:
            return Outcome(0, tuple(refusals), detail="it has no product with a constant weight")
        zeros = sum(int((array == 0).sum()) for array in arrays)
        elements = sum(array.size for array in arrays)
        return Outcome(
            len(arrays), tuple(refusals),
            detail=f"{zeros / elements:.0%} of {elements / 1e6:.1f} million weights are zero "
            f"({self.method}, {self.sparsity}); no kernel of ONNX Runtime on processors is faster "
            "by that",
        )  # fmt: skip

    def _seen(
        self, taken: Sequence[Product], model: ir.Model, context: Context
    ) -> Iterator[tuple[Product, Array | str | None]]:
        """Products in order, with x^T x of what each multiplies, or why that is not known.

        The next one is asked for once the weights before it have their zeros.
        """
        if self.method == MAGNITUDE:
            yield from ((member, None) for member in taken)
            return
        activations = context.activations
        course = activations.course(model) if activations is not None else None
        try:
            for _, part in itertools.groupby(taken, key=lambda member: id(member.activation)):
                members = list(part)
                gram: Array | str = NO_DATA
                if course is not None:
                    gram = _gram(course, model, members[0])
                yield from ((member, gram) for member in members)
        finally:
            if course is not None:
                course.end()


def _gram(course: Course, model: ir.Model, member: Product) -> Array | str:
    """x^T x [k, k] over all of the data, of the model as it is by now; or why there is none."""
    if member.graph is not model.graph:
        return "it is inside of a loop or a branch, which is not looked into"
    course.stop_before(member.nodes[0])
    gram = np.zeros((member.k, member.k))
    for rows in course.rows(member.activation.name or ""):
        gram += rows.T @ rows
    return gram if gram.any() and np.isfinite(gram).all() else "the data gives no numbers to it"


def _write(member: Product, gram: Array | None, method: str, pattern: Pattern) -> Array:
    """Give a weight its zeros; what it is then."""
    tensor = member.weight.const_value
    assert tensor is not None
    matrix = tensor.numpy().T if member.transposed else tensor.numpy()
    array = masked(matrix, gram, method, pattern)
    stored = np.ascontiguousarray(array.T if member.transposed else array)
    member.weight.const_value = ir.Tensor(stored, name=member.weight.name)
    return stored


def _why_whole(member: Product, pattern: Pattern) -> str:
    """Why a weight stays as it is; empty where it may get zeros."""
    if member.output.is_graph_output():
        return "it gives an output"
    if len(member.weight.uses()) > 1 or member.weight.is_graph_output():
        return "its weight has other readers"
    if reason := pattern.why_not(member.k):
        return reason
    assert member.weight.const_value is not None
    array = member.weight.const_value.numpy()
    return HELD if pattern.holds(array.T if member.transposed else array) else ""
