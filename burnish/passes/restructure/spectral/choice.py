"""Which form a transform takes, by timing samples of its sizes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.shapes.concrete import Axes, Concrete, text
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.analysis.spectra import Transform
from burnish.optimizer.analysis.spectra.transforms import AXIS_IS_INPUT
from burnish.optimizer.contract import Choice, Context
from burnish.optimizer.forms import AS_IT_IS
from burnish.optimizer.samples import LARGEST_WORK, Sample
from burnish.passes.restructure.spectral.places import Place, write
from burnish.passes.restructure.spectral.planes import Taker
from burnish.passes.restructure.spectral.writer import Store

SLOW_WORK = 1 << 23
"""Steps of the operator's kernel in a sample, about 0.02 s; rows are left out, which cost alike."""


@dataclass(frozen=True)
class Chooser:
    """Chooses forms of places.

    Attributes:
        sizes: of the values of the model.
        context: measures, or knows rules.
        opset: the model's operator set.
    """

    sizes: Concrete
    context: Context
    opset: int

    def choose(self, place: Place) -> Choice:
        """The form of a place.

        The operator is timed against the other forms of each transform on few rows, since its
        kernel can take seconds on all of them; its time is that of a row times the rows, and
        products gain by more rows. The other forms are timed against each other on all rows.
        """
        first: Choice | None = None
        for transform in (place.transform, *([place.second] if place.second else [])):
            axes = self._axes(transform)
            if axes is None:
                return Choice(place.rule, 1.0, measured=False)
            alone = Place(transform, None, None if transform.gives_real else place.takers)
            if transform is not place.last:
                alone = replace(alone, takers=None)
            few, forms = self._few(axes, transform), (AS_IT_IS, *alone.forms)
            found = self._ask(alone, few, forms, alone.rule, "few ")
            if found.winner == AS_IT_IS:
                return found
            first = first or found
        assert first is not None
        axes = self._axes(place.transform)
        if len(place.forms) < 2 or axes is None:
            return first
        axes = cut_axes(axes, self._kept(place), LARGEST_WORK // _length(place.transform, axes))
        which = self._ask(place, axes, place.forms, place.rule, "")
        return replace(first, winner=which.winner)

    def _axes(self, transform: Transform) -> Axes | None:
        axes = self.sizes.axes(transform.source)
        return axes[:-1] if axes is not None else None

    def _few(self, axes: Axes, transform: Transform) -> Axes:
        rows = max(1, SLOW_WORK // steps_of(_length(transform, axes)))
        return cut_axes(axes, (transform.axis,), rows * int(axes[transform.axis]))

    def _kept(self, place: Place) -> tuple[int, ...]:
        return (place.transform.axis, *([place.second.axis] if place.second else []))

    def _ask(self, place: Place, axes: Axes, forms: Collection[str], rule: str, few: str) -> Choice:
        transform = place.transform
        kind = "inverse " * transform.inverse + "one-sided " * transform.onesided
        kind += "real" if transform.real else "complex"
        along = ",".join(str(axis) for axis in self._kept(place))
        length = transform.length.number
        parts = "".join("ri"[part] for part in place.wanted)
        key = f"transform {few}{kind} {text(axes)} along {along} of {length or 'all'} to {parts}"
        samples: Mapping[str, Callable[[], onnx.ModelProto]] = {
            form: functools.partial(self._sample, place, axes, form) for form in forms
        }
        return self.context.choose(key, samples, rule)

    def _sample(self, place: Place, axes: Axes, form: str) -> onnx.ModelProto:
        """The place as a small model in one of its forms."""
        sample = Sample(self.opset)
        last = sample.constant("last", np.array([-1]))
        names = ("real",) if place.transform.real else ("real", "imaginary")
        planes = [sample.node("Unsqueeze", sample.port(name, axes), last) for name in names]
        for plane in planes:
            plane.shape = ir.Shape([*axes, 1])
        source = planes[0]
        if len(planes) > 1:
            source = sample.node("Concat", *planes, axis=-1)
            source.shape = ir.Shape([*axes, 2])
        transform = self._operator(sample, place.transform, source)
        second = place.second
        if second is not None:
            second = self._operator(sample, second, transform.output)
        result = (second or transform).output
        takers = []
        for part in place.wanted:
            value = sample.node("Gather", result, sample.constant("part", np.int64(part)), axis=-1)
            node = value.producer()
            assert node is not None
            takers.append(Taker(node, part, bare=value))
        model = sample.model(*(taker.bare for taker in takers if taker.bare is not None))
        if form != AS_IT_IS:
            write(Place(transform, second, tuple(takers)), form, Sizes.of(model), Store())
        return ir.to_proto(model)

    def _operator(self, sample: Sample, transform: Transform, source: ir.Value) -> Transform:
        """The transform in a sample."""
        length, present = transform.length.number, transform.present.number
        given = None
        if length is not None and (length != present or transform.gives_real):
            given = sample.constant("length", np.int64(length))
        attributes: dict[str, int] = {
            "inverse": int(transform.inverse), "onesided": int(transform.onesided)
        }  # fmt: skip
        inputs = [source, given]
        if self.opset < AXIS_IS_INPUT:
            attributes["axis"] = transform.axis
        else:
            inputs.append(sample.constant("axis", np.int64(transform.axis)))
        value = sample.node("DFT", *inputs, domain="", **attributes)
        node = value.producer()
        assert node is not None
        return replace(transform, node=node, source=source)


def steps_of(length: int) -> int:
    """Steps of the operator's kernel for one row, of about 2 ns each.

    A length that is no power of 2 is computed as a convolution of a power of 2.
    """
    return length * math.ceil(math.log2(max(length, 2))) * (1 if length & (length - 1) == 0 else 6)


def _length(transform: Transform, axes: Axes) -> int:
    return transform.length.number or int(axes[transform.axis])


def cut_axes(axes: Axes, kept: Collection[int], most: int) -> Axes:
    """Axes of at most `most` elements, as far as those that are not kept can be shorter."""
    sizes = [int(size) for size in axes]
    for index in range(len(sizes)):
        if index not in kept:
            others = math.prod(sizes) // sizes[index]
            sizes[index] = max(1, min(sizes[index], most // others))
    pairs = zip(sizes, axes, strict=True)
    return tuple(size if isinstance(old, int) else str(size) for size, old in pairs)
