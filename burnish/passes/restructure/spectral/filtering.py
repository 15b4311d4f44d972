"""Long convolutions by a constant filter: which form they take, by timing samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.shapes.concrete import Axes, text
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.analysis.spectra import Convolution, Transform, transform_of
from burnish.optimizer.analysis.spectra.transforms import AXIS_IS_INPUT
from burnish.optimizer.contract import Choice
from burnish.optimizer.forms import AS_IT_IS
from burnish.optimizer.pruning import take_over
from burnish.optimizer.samples import Sample
from burnish.passes.restructure.spectral import filters
from burnish.passes.restructure.spectral.choice import Chooser, cut_axes, steps_of
from burnish.passes.restructure.spectral.places import place_of, write
from burnish.passes.restructure.spectral.products import PRODUCTS
from burnish.passes.restructure.spectral.writer import Store, Writer

SLOW_WORK = 1 << 25
"""Steps of the operator's kernel in a sample, about 0.1 s; the rest of the signals is left out."""


@dataclass(frozen=True)
class Filtering:
    """A convolution in a model.

    Attributes:
        convolution: what it computes.
        length: of its transforms.
        opset: of the model.
    """

    convolution: Convolution
    length: int
    opset: int

    def choose(self, chooser: Chooser) -> Choice:
        """The form; the operator and the transforms as products are two of them."""
        forms, rule = filters.forms_of(self.convolution), filters.rule_of(self.convolution)
        axes = chooser.sizes.axes(self.convolution.signal)
        if axes is None:
            return Choice(rule, 1.0, measured=False)
        most = max(1, SLOW_WORK // (2 * steps_of(self.length))) * int(axes[-1])
        few = cut_axes(axes, (2,), most)
        item = self.convolution
        key = f"convolution {text(few)} lags {item.least} to {item.largest} by {self.length}"
        key += "" if item.given == item.present else f" to {item.given}"
        sample = replace(self, convolution=replace(item, kernel=item.kernel[: int(few[1])]))
        samples: Mapping[str, Callable[[], onnx.ModelProto]] = {
            form: functools.partial(sample.sample, few, form)
            for form in (AS_IT_IS, PRODUCTS, *forms)
        }
        return chooser.context.choose(key, samples, rule)

    def write(self, form: str, sizes: Sizes, store: Store) -> None:
        """Write the convolution in a form."""
        item, anchor = self.convolution, self.convolution.output.producer()
        assert anchor is not None
        result = filters.write(item, form, filters.forms_of(item)[form], Writer(anchor, store))
        result.shape = item.output.shape
        sizes.copy(item.output, result)
        take_over(item.output, result)

    def sample(self, axes: Axes, form: str) -> onnx.ModelProto:
        """The place as a small model in one of its forms."""
        sample, item = Sample(self.opset), self.convolution
        signal = sample.port("signal", axes)
        output = self._operators(sample, signal)
        model = sample.model(output)
        here = replace(self, convolution=replace(item, signal=signal, output=output))
        sizes, store = Sizes.of(model), Store()
        if form == PRODUCTS:
            for node in [node for node in model.graph if node.op_type == "DFT"]:
                found = transform_of(node, sizes, self.opset)
                assert isinstance(found, Transform)
                write(place_of(found, sizes, self.opset), PRODUCTS, sizes, store)
        elif form != AS_IT_IS:
            here.write(form, sizes, store)
        return ir.to_proto(model)

    def _operators(self, sample: Sample, signal: ir.Value) -> ir.Value:
        """What exporters write for it."""
        item, frequencies = self.convolution, self.length // 2 + 1
        whole = functools.partial(_numbers, sample)
        last, zero, one, two = whole([-1]), whole([0]), whole([1]), whole([2])
        pads = whole([0, 0, 0, 0, 0, self.length - item.present])
        padded = sample.node("Unsqueeze", sample.node("Pad", signal, pads), last)
        padded.shape = ir.Shape([*(signal.shape or ())[:2], self.length, 1])
        spectrum = self._transformed(sample, padded, inverse=0)
        real, imaginary = (
            sample.node("Slice", spectrum, first, end, last)
            for first, end in ((zero, one), (one, two))
        )
        cosine, sine = (
            sample.constant("spectrum", part[..., None])
            for part in filters.spectrum_of(item, self.length, np.arange(frequencies))
        )
        mul = functools.partial(sample.node, "Mul")
        parts = (
            sample.node("Sub", mul(real, cosine), mul(imaginary, sine)),
            sample.node("Add", mul(real, sine), mul(imaginary, cosine)),
        )
        for part in parts:
            part.shape = ir.Shape([*(signal.shape or ())[:2], frequencies, 1])
        product = sample.node("Concat", *parts, axis=-1)
        product.shape = ir.Shape([*(signal.shape or ())[:2], frequencies, 2])
        inverse = self._transformed(sample, product, inverse=1)
        bare = sample.node("Squeeze", sample.node("Slice", inverse, zero, one, last), last)
        return sample.node("Slice", bare, zero, whole([item.given]), last)

    def _transformed(self, sample: Sample, value: ir.Value, inverse: int) -> ir.Value:
        inputs, axis = [value, _numbers(sample, self.length)], 2
        if self.opset < AXIS_IS_INPUT:
            return sample.node("DFT", *inputs, inverse=inverse, onesided=1, axis=axis)
        inputs.append(_numbers(sample, axis))
        return sample.node("DFT", *inputs, inverse=inverse, onesided=1)


def _numbers(sample: Sample, numbers: int | list[int]) -> ir.Value:
    return sample.constant("numbers", np.array(numbers, np.int64))
