"""A share of the weights of products becomes zero, the others making up for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

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
from burnish.passes.compress.masks.methods import MAGNITUDE, SPARSEGPT, masked
from burnish.passes.compress.masks.pattern import Pattern
from burnish.passes.compress.products import why_not

ROUNDS = 24
"""Times that activations are observed: in between, weights get zeros that later rows see."""

HELD = "it has as many zeros already"

MASKED = Promise(Kind.LOSSY, 1.0)
"""A product whose weights are half zeros may be off by a third; the whole's budget decides."""


@dataclass(frozen=True)
class WeightMasks(Sparing):
    """A share of the weights of products becomes zero.

    It runs where the user asks for it (`--sparsity`), and stays though nothing is faster by it:
    kernels on processors multiply with zeros as with other numbers. It makes files smaller
    (`--sparse-storage`), and devices with kernels for it faster: of 2:4 TensorRT makes use where it
    is built with sparse weights (`trtexec --sparsity=enable`, `trt_sparsity_enable` in ONNX
    Runtime).

    Before:
        `y = MatMul(x, w) + b`, with `w` [k, n].
    After:
        The same, with so many elements of `w` zero: a share of all (`0.5`), or all but N of each M
        (`2:4`) that follow each other along k, over which a product adds up.
    Refuses when:
        The weight is not a float32 matrix, holds NaN, is read by others than products, or gives an
        output (a classifier, a head); its rows are no groups of M; it has as many zeros already;
        the product is in `keep`.
    Numerics:
        Lossy. `magnitude` leaves the largest elements as they are. `wanda` weighs them by the norms
        of what they are multiplied with. `sparsegpt` lets the other rows make up for the zeros, as
        the correlations of the activation say. The last two need the user's data, and see the
        activations of a model whose earlier weights have their zeros already. Zeros stay zeros in
        int8, and in blocks.
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
        zeros = elements = 0
        for members in _rounds(taken):
            rows = self._rows(members, model, context)
            for member in members:
                seen = rows.get(member.activation.name or "")
                if seen is None and self.method != MAGNITUDE:
                    refusals.append(Refusal(label(member.nodes[0]), "its input was not observed"))
                    continue
                array = self._write(member, seen, pattern)
                zeros, elements = zeros + int((array == 0).sum()), elements + array.size
        if not elements:
            return Outcome(0, tuple(refusals), detail="it has no product with a constant weight")
        return Outcome(
            len({id(member.weight) for member in taken}), tuple(refusals),
            detail=f"{zeros / elements:.0%} of {elements / 1e6:.1f} million weights are zero "
            f"({self.method}, {self.sparsity}); no kernel of ONNX Runtime on processors is faster "
            "by that",
        )  # fmt: skip

    def _rows(
        self, members: Sequence[Product], model: ir.Model, context: Context
    ) -> dict[str, Array]:
        """Rows of activations of the model as it is by now, by name."""
        if self.method == MAGNITUDE or context.observe is None or not context.observe.real:
            return {}
        names = list(dict.fromkeys(member.activation.name or "" for member in members))
        found = context.observe(model, names, fresh=True)
        return {name: seen.rows for name, seen in found.items() if seen.rows is not None}

    def _write(self, member: Product, rows: Array | None, pattern: Pattern) -> Array:
        """Give a weight its zeros; what it is then."""
        tensor = member.weight.const_value
        assert tensor is not None
        matrix = tensor.numpy().T if member.transposed else tensor.numpy()
        array = masked(matrix, rows, self.method, pattern)
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


def _rounds(taken: Sequence[Product]) -> Iterator[list[Product]]:
    """The products in order, those of one activation together, in so many parts."""
    groups = [list(part) for _, part in itertools.groupby(taken, key=lambda p: id(p.activation))]
    size = -(-len(groups) // ROUNDS) or 1
    for start in range(0, len(groups), size):
        yield [member for part in groups[start : start + size] for member in part]
