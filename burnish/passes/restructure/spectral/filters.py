"""The forms of a long convolution: taps, blocks of taps, and two steps of a transform."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.spectra import Convolution, Matrix
from burnish.optimizer.contract import Array
from burnish.passes.restructure.spectral.products import PRODUCTS
from burnish.passes.restructure.spectral.steps import from_left, from_right, twiddles, twisted
from burnish.passes.restructure.spectral.writer import Writer

TAPS = "taps"
BLOCKS = "blocks"
STEPS = "spectrum in two steps"

BLOCK_SIZES = (16, 32)
STEP_SIZES = (16, 32, 64)
"""Sizes that are tried, as far as they divide the positions."""

FEW_LAGS = 64
"""Lags with which blocks took half of the time of two steps; with 256, 1.6 times as long."""

MOST_TAPS = 256
"""The longest filter that is tried as taps: it took 10 times as long as two steps."""

LARGEST_FILTER = 1 << 24
"""Elements of the filters in blocks (64 MB): each block holds its taps as often as it is long."""


def forms_of(convolution: Convolution) -> dict[str, int]:
    """The forms that can say a convolution, with the sizes of their blocks."""
    positions = math.gcd(convolution.present, convolution.given)
    forms = {TAPS: 1} if convolution.kernel.shape[1] <= MOST_TAPS else {}
    for size in BLOCK_SIZES:
        elements = convolution.channels * size * (convolution.kernel.shape[1] + 2 * size)
        if positions % size == 0 and positions > size and elements <= LARGEST_FILTER:
            forms[f"{BLOCKS} of {size}"] = size
    for size in STEP_SIZES:
        if positions % size == 0 and positions >= 4 * size:
            forms[f"{STEPS} by {size}"] = size
    return forms


def rule_of(convolution: Convolution) -> str:
    """The form that is taken unmeasured: two steps of like size, or blocks for few lags."""
    forms = forms_of(convolution)
    steps = [form for form in forms if form.startswith(STEPS)]
    blocks = next((form for form in forms if form.startswith(BLOCKS)), "")
    if blocks and (not steps or convolution.kernel.shape[1] <= FEW_LAGS):
        return blocks
    if not steps:
        return next(reversed(forms), PRODUCTS)
    return max(steps, key=lambda form: -abs(32 * forms[form] - convolution.present))


def write(convolution: Convolution, form: str, size: int, writer: Writer) -> ir.Value:
    """The result of a convolution in a form."""
    if form == TAPS:
        return _taps(convolution, writer)
    if form.startswith(BLOCKS):
        return _blocks(convolution, size, writer)
    return _steps(convolution, size, writer)


def _taps(convolution: Convolution, writer: Writer) -> ir.Value:
    """A convolution of each channel with its filter, as it is defined."""
    # Lags that read zeros behind the signal, so that as many positions come out as are asked for.
    least = min(convolution.least, 0, convolution.given - convolution.present)
    largest = max(convolution.largest, 0)
    taps = _kernel(convolution, np.arange(largest, least - 1, -1))
    behind = convolution.given - convolution.present - least
    weight = _constant(taps[:, None], "filter", writer)
    return writer.node(
        "Conv", convolution.signal, weight, group=convolution.channels, pads=[largest, behind]
    )


def _kernel(convolution: Convolution, lags: Array) -> Array:
    """The filters [channels, ...] at lags; zero outside."""
    inside = (lags >= convolution.least) & (lags <= convolution.largest)
    places = np.clip(lags - convolution.least, 0, convolution.kernel.shape[1] - 1)
    return convolution.kernel[:, places] * inside


def _constant(array: Array, name: str, writer: Writer) -> ir.Value:
    return writer.array((array.shape, array.tobytes()), name, array.astype(np.float32))


def _blocks(convolution: Convolution, size: int, writer: Writer) -> ir.Value:
    """Blocks of positions as channels, each a product with the filter's Toeplitz blocks."""
    channels, given = convolution.channels, convolution.given // size
    present = convolution.present // size
    least = max(1 - present, -((size - 1 - convolution.least) // size))
    least = min(least, 0, given - present)
    largest = max(0, min(given - 1, (convolution.largest + size - 1) // size))
    rows, columns = np.arange(size)[:, None, None], np.arange(size)[:, None]
    lags = np.arange(largest, least - 1, -1) * size + rows - columns
    weight = _kernel(convolution, lags).reshape(channels * size, size, -1)
    blocks = writer.node("Reshape", convolution.signal, writer.numbers(0, 0, present, size))
    turned = writer.node("Transpose", blocks, perm=[0, 1, 3, 2])
    flat = writer.node("Reshape", turned, writer.numbers(0, channels * size, present))
    filters = _constant(weight, "filter_blocks", writer)
    behind = given - present - least
    mixed = writer.node("Conv", flat, filters, group=channels, pads=[largest, behind])
    parted = writer.node("Reshape", mixed, writer.numbers(0, channels, size, given))
    turned = writer.node("Transpose", parted, perm=[0, 1, 3, 2])
    return writer.node("Reshape", turned, writer.numbers(0, channels, given * size))


def _steps(convolution: Convolution, size: int, writer: Writer) -> ir.Value:
    """A product of spectra whose elements stay in the order of the two steps.

    Of the first step, along n1, half of the frequencies mirror the others, and the zeros behind the
    signal are no rows of the matrix; so there are no positions to put in order, and none to drop.
    """
    longest = max(
        convolution.present + convolution.largest, convolution.given - convolution.least, 2 * size
    )
    first = -(-longest // size)
    length, kept = first * size, first // 2 + 1
    present, given = convolution.present // size, convolution.given // size
    rows = writer.reshaped(convolution.signal, 2, present, size)
    planes = from_left((rows, None), Matrix(first, present, kept), writer)
    planes = twisted(planes, twiddles(kept, size, length, False), writer)
    planes = from_right(planes, Matrix(size, size, size), (0, 1), writer)
    places = np.arange(kept)[:, None] + first * np.arange(size)
    planes = twisted(planes, spectrum_of(convolution, length, places), writer)
    # The inverse divides by n2 where it ends.
    planes = from_right(planes, Matrix(size, size, size, True), (0, 1), writer)
    planes = twisted(planes, twiddles(kept, size, length, True), writer)
    back = Matrix(first, kept, given, inverse=True, onesided=True)
    result, _ = from_left(planes, back, writer, 0)
    assert result is not None
    return writer.reshaped(result, 2, given * size)


def spectrum_of(convolution: Convolution, length: int, places: Array) -> tuple[Array, Array]:
    """Parts of the filters' spectra of a length, float32 [channels, ...], at some frequencies."""
    lags = np.arange(convolution.least, convolution.largest + 1)
    around = np.zeros((convolution.channels, length))
    around[:, lags % length] = convolution.kernel
    spectrum = np.fft.fft(around)[:, places]
    return spectrum.real.astype(np.float32), spectrum.imag.astype(np.float32)
