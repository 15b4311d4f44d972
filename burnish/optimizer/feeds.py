"""Sample inputs made from the graph, to find faults: for any encoder, decoder or vision model.

What an input means is read from what the graph does with it. Integers that index a constant table
are ids, spread over the whole table; the rest is a mask, a position, a length. Names are only the
last resort, between roles that the graph cannot tell apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.shapes import resolve, symbols
from burnish.optimizer.contract import Array, Feeds
from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.signature import Port, Signature

TRANSPARENT = {
    "Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand", "Slice",
    "Transpose", "Concat", "Where", "Clip", "Max", "Min", "Mul", "Add", "Sub",
}  # fmt: skip
"""Operators that hand an index on, whole or in part."""

TABLES = {
    ("", "Gather"): ((1, 0),),
    ("com.microsoft", "EmbedLayerNormalization"): ((0, 2), (1, 4)),
    ("com.microsoft", "GatherBlockQuantized"): ((1, 0),),
}
"""By operator: pairs of an index input and the table input that it looks up."""


class Role(Enum):
    """What an input is for."""

    IDS = "ids"
    POSITIONS = "positions"
    MASK = "mask"
    PAST = "past"
    NUMBERS = "numbers"
    SCALAR = "scalar"


@dataclass(frozen=True)
class Slot:
    """An input with its role.

    Attributes:
        port: name, type and shape.
        role: see `Role`.
        bound: ids and positions lie below this.
    """

    port: Port
    role: Role
    bound: int


class Masking(Enum):
    """How a batch is padded."""

    FULL = "full"
    RIGHT = "right-padded"
    LEFT = "left-padded"
    HOLES = "with holes"


def slots(model: ir.Model) -> list[Slot]:
    """The model's inputs with their roles.

    Raises:
        UnsupportedModel: where an input is a sequence, map, optional, string or of open rank.
    """
    values = {value.name: value for value in model.graph.inputs}
    return [_slot(port, values[port.name]) for port in Signature.of(model).inputs]


def _slot(port: Port, value: ir.Value) -> Slot:
    if not port.is_tensor or port.dtype == "STRING" or port.shape is None:
        raise UnsupportedModel(
            f"no values can be made up for input {port.name} of type {port.dtype}",
            hint="--data FILE or --no-check --no-measure",
        )
    bound = _table_bound(value)
    name = port.name.lower()
    if port.dtype.startswith(("INT", "UINT")):
        if "position" in name:
            return Slot(port, Role.POSITIONS, bound or 1 << 30)
        if bound:
            return Slot(port, Role.IDS, bound)
        if len(port.shape) < 2 and "mask" not in name:
            return Slot(port, Role.POSITIONS if port.shape else Role.SCALAR, 1 << 30)
        return Slot(port, Role.MASK, 2)
    if port.dtype == "BOOL":
        return Slot(port, Role.MASK if len(port.shape) > 1 else Role.SCALAR, 2)
    if "mask" in name:
        return Slot(port, Role.MASK, 2)
    past = len(port.shape) >= 3 and any(key in name for key in ("past", "cache", "key_values"))
    return Slot(port, Role.PAST if past else Role.NUMBERS, 0)


def _table_bound(value: ir.Value) -> int:
    """Rows of the smallest constant table that the value indexes; 0 where it indexes none."""
    bounds, seen, stack = [], {value}, [value]
    while stack:
        current = stack.pop()
        for node, index in current.uses():
            for indices, table in TABLES.get((node.domain, node.op_type), ()):
                if index == indices and (rows := _rows(node, table)):
                    bounds.append(rows)
            if node.op_type in TRANSPARENT and not (node.op_type == "Where" and index == 0):
                for output in node.outputs:
                    if output not in seen:
                        seen.add(output)
                        stack.append(output)
    return min(bounds, default=0)


def _rows(node: ir.Node, table: int) -> int:
    source = node.inputs[table]
    if source is None:
        return 0
    axis = node.attributes.get_int("axis", 0) if node.op_type == "Gather" else 0
    while source.const_value is None and (maker := source.producer()) is not None:
        # A table that is stored in another type or quantized keeps its rows.
        if maker.op_type not in ("Cast", "DequantizeLinear", "Identity") or not maker.inputs[0]:
            return 0
        source = maker.inputs[0]
    shape = source.const_value.shape.numpy() if source.const_value is not None else ()
    return shape[axis] if len(shape) >= 2 else 0


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


def _unnamed(axis: int, rank: int, role: Role, sizes: Sizes) -> int:
    """A size for a dimension that has neither a value nor a name."""
    if axis == 0 and rank > 1:
        return sizes.batch
    if rank == 4 and role is Role.NUMBERS:
        return 3 if axis == 1 else sizes.image
    return sizes.past if role is Role.PAST else sizes.sequence


def make(
    inputs: list[Slot], sizes: Sizes, masking: Masking, seed: int, symbol_sizes: Mapping[str, int]
) -> dict[str, Array]:
    """One feed: every input filled according to its role, the same for the same seed."""
    generator = np.random.default_rng(seed)
    named = sizes.assign(tuple(slot.port for slot in inputs)) | dict(symbol_sizes)
    feed = {}
    for slot in inputs:
        shape = []
        for axis, size in enumerate(slot.port.shape or ()):
            if isinstance(size, str):
                found = resolve(size, named)
                size = found if found is not None else None
            if size is None:
                size = _unnamed(axis, len(slot.port.shape or ()), slot.role, sizes)
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
    if slot.role is Role.IDS:
        return generator.integers(0, slot.bound, shape).astype(dtype)
    if slot.role is Role.MASK:
        return _mask(slot, shape, masking, generator).astype(dtype)
    if slot.role is Role.POSITIONS:
        length = shape[-1] if shape else 1
        start = min(sizes.past, max(slot.bound - length, 0))
        return np.broadcast_to(np.arange(start, start + length), shape).astype(dtype)
    if slot.role is Role.SCALAR:
        # A flag is off in some feeds, so that both branches of a condition are seen.
        off = slot.port.dtype == "BOOL" and masking in (Masking.RIGHT, Masking.HOLES)
        return np.full(shape, not off, dtype)
    scale = 0.5 if slot.role is Role.PAST else 1.0
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


def default_sizes(inputs: list[Slot]) -> Sizes:
    """The sizes that timing uses where the user gives none: printed with every report."""
    cached = any(slot.role is Role.PAST for slot in inputs)
    causal_like = cached or any(slot.role is Role.POSITIONS for slot in inputs)
    return Sizes(batch=1 if causal_like else 8, sequence=128, past=0)


def trials(inputs: list[Slot], seed: int) -> Iterator[tuple[str, Feeds]]:
    """Feeds that find faults, each with a label; a model may refuse some of them."""
    for index, (sizes, masking) in enumerate(
        (
            (Sizes(2, 16, past=5), Masking.FULL),
            (Sizes(3, 11, past=4), Masking.RIGHT),
            (Sizes(1, 1, past=9), Masking.FULL),
            (Sizes(2, 13, past=3), Masking.LEFT),
            (Sizes(2, 24, past=0), Masking.HOLES),
        )
    ):
        label = f"batch {sizes.batch}, sequence {sizes.sequence}, {masking.value}"
        yield label, make(inputs, sizes, masking, seed + index, {})
