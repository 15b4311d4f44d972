"""Work and memory of a run as functions of batch and length.

Every size in a Transformer is a polynomial of these two: linear in the batch (or free of it), and
at most quadratic in the length. Three lengths and one other batch settle each of them; a fourth
pair holds it to account. What does not agree there is told as not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from burnish.optimizer.analysis.costs.products import matrix_flops

Shapes = Mapping[str, tuple[int, ...]]
At = Callable[[int, int], Shapes]
"""Shapes of a model's values by name, at a batch and a length."""

LONGEST = 128
"""The longest length at which sizes are looked at."""

TOLD = (128, 512, 4096, 32768)
"""Lengths that are told; the first two also in batches of `BATCH`."""

BATCH = 8

VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
"""Operators whose result lies where their input does."""


@dataclass(frozen=True)
class Growth:
    """`batch * (constant + linear * length + square * length ** 2)`.

    Attributes:
        batched: whether it grows with the batch; else the batch does not count.
    """

    constant: float
    linear: float
    square: float
    batched: bool = True

    def at(self, batch: int, length: int) -> float:
        """The value there."""
        once = self.constant + self.linear * length + self.square * length * length
        return once * batch if self.batched else once

    @property
    def grows(self) -> bool:
        """Whether the length counts."""
        return bool(self.linear or self.square)

    def as_json(self) -> dict[str, Any]:
        """The growth as the report shows it."""
        return {
            "constant": self.constant,
            "linear": self.linear,
            "square": self.square,
            "batched": self.batched,
        }


@dataclass(frozen=True)
class _Points:
    """Where sizes are looked at.

    Attributes:
        lengths: three of them, at batch 1.
        batch, length: the pair at which what was found has to hold.
    """

    lengths: tuple[int, int, int]
    batch: int
    length: int

    @classmethod
    def upto(cls, longest: int) -> _Points:
        """Points at lengths up to that, which is 4 at least."""
        return cls((longest // 4, longest // 2, longest), 2, 3 * longest // 4)

    def fitted(self, values: Sequence[float]) -> Growth | None:
        """The growth with the first three values at the lengths, if it has the fourth there."""
        (x, y, z), (a, b, c, probe) = self.lengths, values
        first, second = (b - a) / (y - x), (c - b) / (z - y)
        square = (second - first) / (z - x)
        linear = first - square * (x + y)
        constant = a - linear * x - square * x * x
        for batched in (True, False):
            found = Growth(round(constant, 6), round(linear, 6), round(square, 6), batched)
            if abs(found.at(self.batch, self.length) - probe) <= 1e-6 * max(abs(probe), 1.0):
                return found
        return None


@dataclass(frozen=True)
class Scaling:
    """How a run grows.

    Attributes:
        flops: work of the matrix products; None where it follows no such law.
        sizes: elements by name of value.
        unknown: values whose size follows no such law, or is not known.
    """

    flops: Growth | None
    sizes: dict[str, Growth]
    unknown: int


def scaling(model: ir.Model, at: At, limit: int = 0) -> Scaling:
    """How a model's work and values grow.

    Args:
        model: the graph.
        at: tells shapes; called four times.
        limit: the longest length that the model takes; 0 for any.
    """
    points = _Points.upto(min(LONGEST, limit) if limit >= 4 else LONGEST)
    shapes = [at(1, length) for length in points.lengths]
    shapes.append(at(points.batch, points.length))
    sizes: dict[str, Growth] = {}
    unknown = 0
    for node in model.graph:
        for value in node.outputs:
            counts = [_elements(known.get(value.name or "")) for known in shapes]
            told = [count for count in counts if count is not None]
            growth = points.fitted(told) if len(told) == len(shapes) else None
            if growth is None:
                unknown += 1
            else:
                sizes[value.name or ""] = growth
    totals = [sum(matrix_flops(model, known).values()) for known in shapes]
    return Scaling(points.fitted(totals), sizes, unknown)


def told_at(limit: int, grows: bool) -> list[tuple[int, int | None]]:
    """Batches and lengths to tell of: up to a limit (0: none), or one where no length matters."""
    if not grows:
        return [(1, None), (BATCH, None)]
    lengths = [length for length in TOLD if not limit or length < limit]
    lengths += [limit] if limit else []
    pairs: list[tuple[int, int | None]] = []
    for place, length in enumerate(lengths):
        pairs += [(1, length), (BATCH, length)] if place < 2 else [(1, length)]
    return pairs


def _elements(shape: tuple[int, ...] | None) -> float | None:
    if shape is None:
        return None
    count = 1.0
    for size in shape:
        count *= size
    return count


def peak(
    model: ir.Model, found: Scaling, types: Mapping[str, ir.DataType], batch: int, length: int
) -> float:
    """Bytes of the values that a run needs at the same time, at most, beside the weights.

    Nodes run in the order of the graph, and a value goes once its last reader has run. A runtime
    may reuse memory sooner, or keep more in its arena.
    """
    home: dict[str, str] = {}
    last: dict[str, int] = {}
    for index, node in enumerate(model.graph):
        for value in node.inputs:
            if value is not None and value.name:
                last[home.get(value.name, value.name)] = index
        if node.op_type in VIEWS and not node.domain and node.inputs[0] is not None:
            source = node.inputs[0].name or ""
            home[node.outputs[0].name or ""] = home.get(source, source)
    end = len(model.graph)
    for value in model.graph.outputs:
        last[home.get(value.name or "", value.name or "")] = end
    going: dict[int, list[float]] = {}
    live = most = 0.0
    for index, node in enumerate(model.graph):
        for value in node.outputs:
            name = value.name or ""
            if name in home or name not in found.sizes:
                continue
            size = found.sizes[name].at(batch, length) * _width(types.get(name))
            live += size
            going.setdefault(last.get(name, index), []).append(size)
        most = max(most, live)
        live -= sum(going.pop(index, ()))
    return most


def _width(kind: ir.DataType | None) -> float:
    """Bytes of an element; four where the type is not known."""
    return kind.itemsize if kind is not None and kind is not ir.DataType.STRING else 4.0
