"""Fourier transforms as products with constant matrices, in the form measured fastest."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.shapes.concrete import Concrete
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.analysis.spectra import (
    Constants,
    Convolution,
    Finder,
    Transform,
    transform_of,
)
from burnish.optimizer.contract import Choice, Context, Kind, Outcome, Pass, Phase, Promise
from burnish.optimizer.forms import AS_IT_IS, Tally
from burnish.optimizer.pruning import take_over
from burnish.passes.restructure.spectral import frames
from burnish.passes.restructure.spectral.choice import Chooser
from burnish.passes.restructure.spectral.filtering import Filtering
from burnish.passes.restructure.spectral.places import place_of, why_not, write
from burnish.passes.restructure.spectral.products import PRODUCTS
from burnish.passes.restructure.spectral.writer import Store, Writer


@dataclass(frozen=True)
class Spectral(Pass):
    """Compute `DFT` and `STFT` as products with matrices of cosines and sines.

    It is in `restructure` since what comes of it are products with constants, which later passes
    merge and compress like others.

    Before:
        `DFT(DFT(Unsqueeze(x), axis = 2), axis = 1)` of which only the real part is read;
        `DFT<onesided = 1>(x)`; `DFT<inverse = 1>(x)`; `STFT(signal, step, window)`;
        `irfft(rfft(u) K)[..., :m]` with a constant K, in the operators that exporters write for it.
    After:
        `C_s (x C_h) - S_s (x S_h)` with half of the rows and columns, the others being their
        mirror; products with a cosine and a sine matrix for the parts that are read, of a real
        operand half as many; for long transforms two smaller products with factors between them;
        frames by `Gather`, times the matrix with the window in it, or `Conv`. Where a length is
        known in a run only, the graph makes the matrix, once for all transforms of that length.
        The convolution becomes a `Conv` of each channel, one of blocks of positions, or a product
        of spectra in two steps. The spectrum of a constant becomes a constant.
    Refuses when:
        The operator is measured as fast. The axis is not constant, the result is one-sided and
        its length not known, or the operand is longer or shorter than the transform by an unknown
        number. It computes in another type than float32. A matrix would exceed 64 MB. A window, or
        the step of frames, is not constant.
    Numerics:
        Rounding, at most 1e-4 of what the operator gives in float64. That is where one frequency is
        thousands of times larger than those beside it; elsewhere it is 4e-7. In float32 ONNX
        Runtime's kernel is itself off by 1.1e-7 times the length where that is no power of 2 (8e-5
        at 768), since it takes long angles in float32.
    """

    name = "spectral"
    phase = Phase.RESTRUCTURE
    promise = Promise(Kind.ROUNDING, 1e-4)

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        walk = ir.traversal.RecursiveGraphIterator(model.graph)
        found = [node for node in walk if node.domain == "" and node.op_type in ("DFT", "STFT")]
        if not found:
            return Outcome()
        shapes.annotate(model)
        work = _Work(model, context)
        for node in found:
            work.convolve(node)
        for node in found:
            work.transform(node)
        outcome = work.tally.outcome(model)
        if outcome.rewrites:
            model.graph.sort()  # what several places share stands before the first in the walk
        return outcome


class _Work:
    """The places of one model, and what is known of it."""

    def __init__(self, model: ir.Model, context: Context) -> None:
        self.tally = Tally("transforms")
        self._opset = model.opset_imports.get("", 0)
        self._sizes, self._store = Sizes.of(model), Store()
        self._constants = Constants(model)
        self._finder = Finder(self._sizes, self._constants, self._opset)
        self._chooser = Chooser(Concrete(model, context), context, self._opset)

    def convolve(self, node: ir.Node) -> None:
        """Write the convolution that a transform ends, where it ends one; else nothing."""
        if node.op_type != "DFT" or _kind(node) is not ir.DataType.FLOAT:
            return
        transform = transform_of(node, self._sizes, self._opset)
        found = self._finder.find(transform) if isinstance(transform, Transform) else ""
        if not isinstance(transform, Transform) or not isinstance(found, Convolution):
            return
        length = transform.length.number
        assert length is not None
        filtering = Filtering(found, length, self._opset)
        choice = filtering.choose(self._chooser)
        if choice.winner not in (AS_IT_IS, PRODUCTS) and self.tally.takes(node, choice):
            filtering.write(choice.winner, self._sizes, self._store)

    def transform(self, node: ir.Node) -> None:
        """Write one transform, unless it went with others."""
        if node.graph is None:
            return
        if (kind := _kind(node)) is not ir.DataType.FLOAT:
            self.tally.refuse(node, f"it computes in {kind.name if kind else 'an unknown type'}")
            return
        if (array := self._constants.of(node.outputs[0])) is not None:
            self.tally.takes(node, Choice("constants", 1.0, measured=False))
            writer, output = Writer(node, self._store), node.outputs[0]
            take_over(output, writer.array(output, "spectrum", array))
        elif node.op_type == "STFT":
            frames.lower(node, self._sizes, self._chooser, self.tally, self._store)
        else:
            self._lower(node)

    def _lower(self, node: ir.Node) -> None:
        transform = transform_of(node, self._sizes, self._opset)
        reason = transform if isinstance(transform, str) else why_not(transform)
        if reason or isinstance(transform, str):
            self.tally.refuse(node, reason)
            return
        place = place_of(transform, self._sizes, self._opset)
        choice = self._chooser.choose(place)
        if self.tally.takes(node, choice):
            write(place, choice.winner, self._sizes, self._store)


def _kind(node: ir.Node) -> ir.DataType | None:
    """The type that a transform takes and gives; that of its operand may not be known."""
    source = node.inputs[0]
    return (source.dtype if source is not None else None) or node.outputs[0].dtype
