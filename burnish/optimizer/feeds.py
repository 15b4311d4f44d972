"""Sample inputs made to find faults: for any encoder, decoder or vision model.

Ids are spread over the whole of the table that they index, masks are full, padded and with holes,
and a symbolic dimension has one size over all inputs. What each input is for, `roles` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.shapes import resolve, symbols
from burnish.optimizer.contract import Array, Feeds
from burnish.optimizer.roles import Role, Slot
from burnish.optimizer.signature import Port


class Masking(Enum):
    """How a batch is padded."""

    FULL = "full"
    RIGHT = "right-padded"
    LEFT = "left-padded"
    HOLES = "with holes"


@dataclass(frozen=True)
class Sizes:
    """Sizes for the symbolic dimensions of one feed."""

    batch: int
    sequence: int
    past: int = 0
    image: int = 224

    def assign(self, ports: tuple[Port, ...]) -> dict[str, int]:
        """A size for every symbol of the ports, the same symbol always the same size."""
        found: dict[str, int] = {}
        for symbol in symbols(ports):
            found[symbol] = self._size(symbol, ports)
        return found

    def _size(self, symbol: str, ports: tuple[Port, ...]) -> int:
        name = symbol.lower()
        if "batch" in name:
            return self.batch
        if "encoder" in name and "decoder" not in name:
            return self.sequence
        if name.startswith("past") and not any(sign in name for sign in ("+", "plus", "and")):
            return self.past
        if "total" in name or ("past" in name and "seq" in name.replace("past_seq", "")):
            return self.past + self.sequence
        if "past" in name or "cache" in name or "kv_len" in name:
            return self.past
        if "height" in name or "width" in name:
            return self.image
        if "channel" in name:
            return 3
        places = [
            (len(port.shape), axis, port.name.lower())
            for port in ports
            for axis, size in enumerate(port.shape or ())
            if port.shape is not None and size == symbol
        ]
        if all(axis == 0 and rank > 1 for rank, axis, _ in places):
            return self.batch
        if all(rank == 4 and axis >= 2 and "past" not in port for rank, axis, port in places):
            return self.image
        if all("past" in port or "cache" in port for _, _, port in places):
            return self.past
        cached = any("past" in port.name.lower() for port in ports)
        if cached and all("mask" in port and axis > 0 for _, axis, port in places):
            return self.past + self.sequence
        return self.sequence


def _unnamed(axis: int, rank: int, slot: Slot, sizes: Sizes) -> int:
    """A size for a dimension that has neither a value nor a name."""
    if axis == 0 and rank > 1:
        return sizes.batch
    if axis == 1 and slot.channels:
        return slot.channels
    if rank == 4 and slot.role is Role.NUMBERS:
        return 3 if axis == 1 else sizes.image
    return sizes.past if slot.role is Role.PAST else sizes.sequence


def make(
    inputs: list[Slot], sizes: Sizes, masking: Masking, seed: int, symbol_sizes: Mapping[str, int]
) -> dict[str, Array]:
    """One feed: every input filled according to its role, the same for the same seed."""
    generator = np.random.default_rng(seed)
    named = sizes.assign(tuple(slot.port for slot in inputs))
    for slot in inputs:
        symbol = slot.port.shape[1] if slot.channels and slot.port.shape else None
        if isinstance(symbol, str):
            named[symbol] = slot.channels
    named |= symbol_sizes
    feed = {}
    for slot in inputs:
        shape = []
        for axis, size in enumerate(slot.port.shape or ()):
            if isinstance(size, str):
                size = resolve(size, named)
            if size is None:
                size = _unnamed(axis, len(slot.port.shape or ()), slot, sizes)
            shape.append(size)
        feed[slot.port.name] = _fill(slot, tuple(shape), sizes, masking, generator)
    return feed


def _fill(
    slot: Slot,
    shape: tuple[int, ...],
    sizes: Sizes,
    masking: Masking,
    generator: np.random.Generator,
) -> Array:
    dtype = ir.DataType[slot.port.dtype].numpy()
    if slot.role is Role.IDS and slot.allowed:
        return generator.choice(np.array(slot.allowed), shape).astype(dtype)
    if slot.role is Role.IDS:
        return generator.integers(0, slot.bound, shape).astype(dtype)
    if slot.role is Role.MASK:
        return _mask(slot, shape, masking, generator).astype(dtype)
    if slot.role is Role.POSITIONS:
        length = shape[-1] if shape else 1
        start = min(sizes.past, max(slot.bound - length, 0))
        return np.broadcast_to(np.arange(start, start + length), shape).astype(dtype)
    if slot.role is Role.PLACES:
        return np.arange(-shape[0], 0, dtype=dtype)
    if slot.role is Role.SCALAR:
        # A flag is off in some feeds, so that both branches of a condition are seen.
        off = slot.port.dtype == "BOOL" and masking in (Masking.RIGHT, Masking.HOLES)
        return np.full(shape, not off, dtype)
    scale = 0.5 if slot.role is Role.PAST else 1.0
    if dtype.kind in "iu":  # a cache of integers
        scale *= 64
    return (generator.standard_normal(shape) * scale).astype(dtype)


def _mask(
    slot: Slot, shape: tuple[int, ...], masking: Masking, generator: np.random.Generator
) -> Array:
    """Ones where a position counts; no row is ever wholly masked."""
    if len(shape) != 2:
        # Four-dimensional masks are additive where they are numbers: zero hides nothing.
        return np.ones(shape) if slot.port.dtype in ("BOOL", "INT64", "INT32") else np.zeros(shape)
    rows, length = shape
    mask = np.ones(shape)
    for row in range(rows if masking is not Masking.FULL else 0):
        hidden = int(length * row / (rows + 1)) if rows > 1 else length // 3
        if masking is Masking.RIGHT and hidden:
            mask[row, length - hidden :] = 0
        elif masking is Masking.LEFT and hidden:
            mask[row, :hidden] = 0
        elif masking is Masking.HOLES:
            mask[row, 1 : length - 1] = generator.random(max(length - 2, 0)) > 0.3
    return mask


MUCH_PADDING = 0.75
"""Share of padding that leaves about half of a batch of two or three rows."""


def padding(feeds: Sequence[Feeds], inputs: list[Slot]) -> float:
    """The share of tokens that masks [batch, sequence] call padding, 0 to 1."""
    masks = [feed[slot.port.name] for feed in feeds for slot in inputs if is_padding_mask(slot)]
    tokens = sum(mask.size for mask in masks)
    return sum(int((mask == 0).sum()) for mask in masks) / tokens if tokens else 0.0


def pad(feed: Feeds, inputs: list[Slot], share: float) -> dict[str, Array]:
    """The feed with its rows padded on the right, to lengths whose mean leaves about that share.

    Lengths spread from short ones to the whole, as in a batch that is padded to its longest.
    """
    padded = dict(feed)
    for slot in inputs:
        if is_padding_mask(slot) and 0.0 < share < 1.0:
            mask = np.ones_like(feed[slot.port.name])
            rows, length = mask.shape
            parts = (np.arange(rows) + 1) / rows
            for row, part in enumerate(parts ** (share / (1.0 - share))):
                mask[row, max(1, round(float(part) * length)) :] = 0
            padded[slot.port.name] = mask
    return padded


def is_padding_mask(slot: Slot) -> bool:
    """Whether an input [batch, sequence] says which tokens are real."""
    return slot.role is Role.MASK and len(slot.port.shape or ()) == 2


def default_sizes(inputs: list[Slot]) -> Sizes:
    """The sizes that timing uses where the user gives none: printed with every report."""
    cached = any(slot.role is Role.PAST for slot in inputs)
    causal_like = cached or any(slot.role is Role.POSITIONS for slot in inputs)
    return Sizes(batch=1 if causal_like else 8, sequence=128, past=0)


TRIALS = (
    (Sizes(2, 16, past=5), Masking.FULL),
    (Sizes(3, 11, past=4), Masking.RIGHT),
    (Sizes(1, 1, past=9), Masking.FULL),
    (Sizes(2, 13, past=3), Masking.LEFT),
    (Sizes(2, 24, past=0), Masking.HOLES),
)

IMAGES = (32, 64, 96, 128, 256, 336, 384, 448, 512)
LENGTHS = (48, 77, 197, 400, 2000, 3000)
"""Sizes to look for one that a model takes whose weights fix it, or ask for many samples."""


def trials(inputs: list[Slot], seed: int, given: Mapping[str, int]) -> Iterator[tuple[str, Feeds]]:
    """Feeds that find faults, each with a label; a model may refuse some of them.

    Args:
        inputs: see `slots`.
        seed: of the values.
        given: sizes by symbol, or by the generic names of `Sizes`, that are to be kept.
    """
    generic = {key: given[key] for key in ("batch", "sequence", "past", "image") if key in given}
    for index, (sizes, masking) in enumerate(TRIALS):
        sizes = replace(sizes, **generic)
        label = f"batch {sizes.batch}, sequence {sizes.sequence}, {masking.value}"
        yield label, make(inputs, sizes, masking, seed + index, given)


def ladder(inputs: list[Slot]) -> Iterator[dict[str, int]]:
    """Sizes to give to `trials` where the model refuses all that it makes by itself."""
    pictures = any(slot.role is Role.NUMBERS and len(slot.port.shape or ()) == 4 for slot in inputs)
    name, sizes = ("image", IMAGES) if pictures else ("sequence", LENGTHS)
    for size in sizes:
        yield {name: size}
