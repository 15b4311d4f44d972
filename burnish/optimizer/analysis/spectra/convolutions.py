"""Convolutions by a constant filter that are written as a product of spectra.

    irfft(rfft(u, n) * K, n)[..., :m]

is `y[i] = sum_j k[(i - j) mod n] u[j]` for the filter `k` whose spectrum `K` is. What of the filter
is zero (all negative lags of a causal one) is found from its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import made_by, optional, rank, readers, scalar
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.analysis.spectra.constants import Constants
from burnish.optimizer.analysis.spectra.transforms import Transform, transform_of
from burnish.optimizer.contract import Array

NEGLIGIBLE = 1e-6
"""Parts of the largest element of a filter; a spectrum in float32 has noise of a tenth of that."""

Factor = tuple[ir.Value, int]
"""A value [..., 2], and which part of it."""


@dataclass(frozen=True)
class Convolution:
    """`output[b, c, i] = sum_j kernel[c, i - j - least] signal[b, c, j]`.

    Attributes:
        signal: [batch, channels, present], before zeros are put behind it.
        output: [batch, channels, given].
        kernel: float64 [channels, lags].
        least: the lag of the first element of the kernel.
        present, given: positions.
    """

    signal: ir.Value
    output: ir.Value
    kernel: Array
    least: int
    present: int
    given: int

    @property
    def channels(self) -> int:
        """Signals with filters of their own."""
        return int(self.kernel.shape[0])

    @property
    def largest(self) -> int:
        """The lag of the last element of the kernel."""
        return self.least + int(self.kernel.shape[1]) - 1


@dataclass(frozen=True)
class Finder:
    """Looks for convolutions.

    Attributes:
        sizes: of the model.
        constants: of the model.
        opset: of the model.
    """

    sizes: Sizes
    constants: Constants
    opset: int

    def find(self, inverse: Transform) -> Convolution | str:
        """The convolution that an inverse transform ends, or why it is none."""
        if not inverse.gives_real or inverse.axis != 2 or inverse.rank != 4:
            return "it is no one-sided inverse along the last of three axes"
        found = self._factors(inverse.source)
        if found is None:
            return "what it transforms is no product of a spectrum with a constant"
        source, spectrum = found
        node = source.producer()
        forward = (
            transform_of(node, self.sizes, self.opset)
            if node is not None and node.op_type == "DFT"
            else "the other factor is no spectrum"
        )
        if isinstance(forward, str):
            return forward
        length = inverse.length.number
        if length is None or forward.length.number != length or not forward.onesided:
            return "the lengths of its transforms differ, or are known in a run only"
        if forward.inverse or forward.axis != 2 or not forward.real:
            return "it is along another axis than the transform of the signal"
        signal, present = self._signal(forward)
        output, given = self._output(inverse, length)
        channels = self.sizes.shape(signal)
        if signal is None or output is None or present is None or channels is None:
            return "its signal, or what reads it, is not understood"
        if (count := channels[1].number) is None:
            return "how many channels it has is known in a run only"
        try:
            spectrum = np.broadcast_to(spectrum, (1, count, length // 2 + 1))[0]
        except ValueError:
            return "its filter has other axes than channels and frequencies"
        kernel = np.fft.irfft(spectrum, length)
        return _trimmed(signal, output, kernel, present, given)

    def _factors(self, pairs: ir.Value) -> tuple[ir.Value, Array] | None:
        """The value [..., 2] and the complex constant [..., n] whose product a value is."""
        joined = made_by(pairs, "Concat")
        if joined is None or len(joined.inputs) != 2 or None in joined.inputs:
            return None
        first, second = (self._terms(value) for value in joined.inputs)
        if first is None or second is None or len(first) != 2 or len(second) != 2:
            return None
        # real = a0 s[0] + a1 s[1], imaginary = b0 s[0] + b1 s[1] of the spectrum s
        values = {value for value, _ in (*first, *second)}
        if len(values) != 1:
            return None
        source = values.pop()
        a0, a1, b0, b1 = (terms.get((source, part)) for terms in (first, second) for part in (0, 1))
        if a0 is None or a1 is None or b0 is None or b1 is None:
            return None
        if not (np.array_equal(a0, b1) and np.array_equal(a1, -b0)):
            return None
        return source, (a0 + 1j * b0)[..., 0]

    def _terms(self, value: ir.Value | None) -> dict[Factor, Array] | None:
        """The constant factors of a sum or difference of two products."""
        node = made_by(value, "Add", "Sub")
        found: dict[Factor, Array] = {}
        for index, operand in enumerate(node.inputs if node is not None else ()):
            product = made_by(operand, "Mul")
            for part, factor in zip(*self._orders(product), strict=True):
                taken, constant = self._part(part), self.constants.of(factor)
                if taken is not None and constant is not None and constant.shape[-1:] == (1,):
                    sign = -1.0 if index and node is not None and node.op_type == "Sub" else 1.0
                    found[taken] = sign * constant.astype(np.float64)
        return found or None

    def _orders(self, node: ir.Node | None) -> tuple[list[ir.Value | None], list[ir.Value | None]]:
        operands = list(node.inputs) if node is not None else []
        return operands, operands[::-1]

    def _part(self, value: ir.Value | None) -> Factor | None:
        """The value [..., 2] of which a value [..., 1] is a part."""
        node, shape = made_by(value, "Slice", "Gather"), self.sizes.shape(value)
        if node is None or node.inputs[0] is None or not shape or shape[-1].number != 1:
            return None
        source, last = node.inputs[0], (-1, 3)
        if node.op_type == "Gather":
            part = scalar(node.inputs[1]) if rank(node.inputs[1]) == 1 else None
            axis: float | None = node.attributes.get_int("axis", 0)
        else:
            part, axis = scalar(node.inputs[1]), scalar(optional(node, 3))
        return (source, int(part)) if axis in last and part in (0.0, 1.0) else None

    def _signal(self, forward: Transform) -> tuple[ir.Value | None, int | None]:
        """What is transformed, without the zeros behind it."""
        lifted = made_by(forward.source, "Unsqueeze")
        value = lifted.inputs[0] if lifted is not None else None
        if lifted is None or value is None or scalar(lifted.inputs[1]) not in (-1.0, 3.0):
            return None, None
        pad = made_by(value, "Pad")
        if pad is not None and pad.attributes.get_string("mode", "constant") == "constant":
            widths, filling = self.constants.of(pad.inputs[1]), optional(pad, 2)
            plain = widths is not None and widths.size == 6 and not widths[:5].any()
            zeros = filling is None or scalar(filling) == 0.0
            if plain and zeros and widths is not None and widths[5] >= 0 and len(pad.inputs) < 4:
                value = pad.inputs[0]
        shape = self.sizes.shape(value)
        present = shape[2].number if shape is not None and len(shape) == 3 else None
        length = forward.length.number
        known = present is not None and length is not None and present <= length
        return (value, present) if known else (None, None)

    def _output(self, inverse: Transform, length: int) -> tuple[ir.Value | None, int]:
        """The result without its last axis, or its first positions where only they are read.

        Exporters slice the last axis, of one element, before they drop it.
        """
        value = inverse.output
        if (cut := _only(value, "Slice")) is not None and scalar(optional(cut, 3)) in (-1.0, 3.0):
            value = cut.outputs[0]
        bare = _only(value, "Squeeze")
        if bare is None or scalar(optional(bare, 1)) not in (-1.0, 3.0):
            return None, length
        value = bare.outputs[0]
        cropped = _only(value, "Slice")
        if cropped is None or scalar(optional(cropped, 3)) not in (-1.0, 2.0):
            return value, length
        first, end = scalar(cropped.inputs[1]), scalar(cropped.inputs[2])
        step = scalar(cropped.inputs[4]) if len(cropped.inputs) > 4 else 1.0
        if first != 0.0 or step != 1.0 or end is None or end < 1:
            return value, length
        return cropped.outputs[0], min(int(end), length)


def _only(value: ir.Value, operator: str) -> ir.Node | None:
    """The one reader of a value, where it is such a node and nothing else needs the value."""
    found = readers(value)
    alone = len(found) == 1 and not value.is_graph_output() and found[0].inputs[0] is value
    return found[0] if alone and found[0].op_type == operator else None


def _trimmed(
    signal: ir.Value, output: ir.Value, kernel: Array, present: int, given: int
) -> Convolution:
    """The convolution by the lags that occur and count."""
    lags = np.arange(1 - present, given)
    whole = kernel[:, lags % kernel.shape[1]]
    counts = np.abs(whole).max(axis=0) > NEGLIGIBLE * np.abs(kernel).max()
    used = np.flatnonzero(counts | (lags == 0))
    part = slice(used[0], used[-1] + 1)
    return Convolution(signal, output, whole[:, part], int(lags[used[0]]), present, given)
