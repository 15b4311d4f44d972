"""`STFT` as one product: frames of the signal times a matrix with the window in it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.matching import optional, scalar
from burnish.optimizer.analysis.shapes.concrete import Axes, text
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.analysis.spectra import Matrix
from burnish.optimizer.contract import Array, Choice
from burnish.optimizer.forms import AS_IT_IS, Tally
from burnish.optimizer.pruning import take_over
from burnish.optimizer.samples import Sample
from burnish.passes.restructure.spectral.choice import Chooser
from burnish.passes.restructure.spectral.products import LARGEST
from burnish.passes.restructure.spectral.writer import Store, Writer

GATHERED = "frames"
CONVOLVED = "convolution"


@dataclass(frozen=True)
class Frames:
    """A short-time transform of a real signal [batch, samples] or [batch, samples, 1].

    Attributes:
        node: the operator.
        step: samples from one frame to the next.
        window: float32 [n], of ones where there is none.
        onesided: whether the first n // 2 + 1 frequencies are given.
        samples: where that is known.
        deep: whether the signal has an axis of one element behind its samples.
    """

    node: ir.Node
    step: int
    window: Array
    onesided: bool
    samples: int | None
    deep: bool

    @property
    def matrix(self) -> Array:
        """[n, 2 * frequencies]: cosines and sines in turn, times the window."""
        length = len(self.window)
        given = length // 2 + 1 if self.onesided else length
        whole = Matrix(length, length, given)
        pairs = np.stack([whole.cosine, whole.sine], axis=1).reshape(2 * given, length)
        return np.ascontiguousarray((pairs * self.window).T)

    @property
    def forms(self) -> tuple[str, ...]:
        """Those besides the operator; frames need their places to be constant."""
        if self.samples is None or self.samples < len(self.window):
            return (CONVOLVED,)
        return (GATHERED, CONVOLVED)


def frames_of(node: ir.Node, sizes: Sizes) -> Frames | str:
    """What an `STFT` computes, or why that is not known."""
    shape = sizes.shape(node.inputs[0])
    if shape is None or len(shape) not in (2, 3):
        return "the rank of its signal is not known"
    deep = len(shape) == 3
    if deep and shape[-1].number != 1:
        return "its signal is complex, or not known to be real"
    step, length = scalar(node.inputs[1]), optional(node, 3)
    window = optional(node, 2)
    if step is None:
        return "the step of its frames is not constant"
    if window is not None:
        tensor = ir.convenience.get_const_tensor(window)
        if tensor is None:
            return "its window is not constant"
        array = tensor.numpy().astype(np.float32)
    elif (size := scalar(length)) is not None:
        array = np.ones(int(size), np.float32)
    else:
        return "the length of its frames is not constant"
    onesided = bool(node.attributes.get_int("onesided", 1))
    if 2 * len(array) ** 2 > LARGEST:
        return f"its matrix would exceed {LARGEST >> 18} MB"
    return Frames(node, int(step), array, onesided, shape[1].number, deep)


def lower(node: ir.Node, sizes: Sizes, chooser: Chooser, tally: Tally, store: Store) -> None:
    """Write a place in the form that is chosen for it."""
    frames = frames_of(node, sizes)
    if isinstance(frames, str):
        tally.refuse(node, frames)
        return
    choice = _choose(frames, chooser)
    if tally.takes(node, choice):
        _write(frames, choice.winner, store)


def _write(frames: Frames, form: str, store: Store) -> None:
    writer, signal = Writer(frames.node, store), frames.node.inputs[0]
    assert signal is not None
    matrix, output = frames.matrix, frames.node.outputs[0]
    length, width = matrix.shape
    key = (form, frames.step, length, matrix.tobytes())
    if frames.deep:
        signal = writer.squeezed(signal)
    if form == GATHERED:
        assert frames.samples is not None
        first = np.arange(0, frames.samples - length + 1, frames.step)
        places = writer.array(("places", *key), "frame_places", first[:, None] + np.arange(length))
        framed = writer.node("Gather", signal, places, axis=1)
        product = writer.node("MatMul", framed, writer.array(key, "window_transform", matrix))
    else:
        weight = np.ascontiguousarray(matrix.T)[:, None]
        signal = writer.node("Unsqueeze", signal, writer.numbers(1))
        filters = writer.array(key, "window_filters", weight)
        product = writer.node("Conv", signal, filters, strides=[frames.step])
        product = writer.node("Transpose", product, perm=[0, 2, 1])
    result = writer.reshaped(product, 2, width // 2, 2)
    result.shape = output.shape
    take_over(output, result)


def _choose(frames: Frames, chooser: Chooser) -> Choice:
    rule = frames.forms[0]
    axes = chooser.sizes.axes(frames.node.inputs[0])
    if axes is None:
        return Choice(rule, 1.0, measured=False)
    side = "one-sided " * frames.onesided
    key = f"frames {side}{text(axes)} of {len(frames.window)} every {frames.step}"
    samples: Mapping[str, Callable[[], onnx.ModelProto]] = {
        form: functools.partial(_sample, frames, axes, chooser.opset, form)
        for form in (AS_IT_IS, *frames.forms)
    }
    return chooser.context.choose(key, samples, rule)


def _sample(frames: Frames, axes: Axes, opset: int, form: str) -> onnx.ModelProto:
    """The place as a small model in one of its forms."""
    sample = Sample(opset)
    window = sample.constant("window", frames.window)
    inputs = [sample.port("signal", axes), sample.constant("step", np.int64(frames.step)), window]
    value = sample.node("STFT", *inputs, onesided=int(frames.onesided))
    node, model = value.producer(), sample.model(value)
    assert node is not None
    if form != AS_IT_IS:
        _write(replace(frames, node=node), form, Store())
    return ir.to_proto(model)
