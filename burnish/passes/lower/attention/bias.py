"""The mask of an attention as what is added to its scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import scalar, written_size
from burnish.passes.lower.attention.site import Site
from burnish.passes.lower.attention.writer import Writer

FLOOR = -1e38
"""Hides a score, and leaves a row without keys defined."""

LARGEST = 1 << 20
"""Elements of the largest constant mask that is searched for -inf."""

MOVES = ("GatherElements", "Transpose", "Unsqueeze", "Squeeze", "Reshape", "Gather", "Slice",
         "Expand")  # fmt: skip
"""Operators whose results hold only what their first operand holds."""


@dataclass(frozen=True)
class Bias:
    """A mask made ready for a softmax: what is added, and which rows have keys.

    Attributes:
        added: finite; None where nothing is.
        alive: [..., queries, 1], 1 where a query has a key and else 0; None where all have.
    """

    added: ir.Value | None
    alive: ir.Value | None


class Masks(Protocol):
    """Makes an attention's mask in the ways that forms ask for it."""

    def bias(self, site: Site) -> Bias:
        """What is added, with axes that broadcast to the scores."""
        ...

    def whole(self, site: Site) -> Bias:
        """What is added, as [batch or 1, heads or 1, queries, keys]."""
        ...

    def alive(self, site: Site) -> ir.Value | None:
        """Which queries have keys; see `Bias`."""
        ...

    def keys(self, site: Site) -> ir.Value | None:
        """Which keys exist, as 32-bit whole numbers [batch, keys]; None where all do."""
        ...


class WrittenMasks:
    """The masks of a model's graph, each written before the first attention that needs it."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._biases: dict[tuple[object, ...], Bias] = {}

    def bias(self, site: Site) -> Bias:
        causal = site.facts.causal
        lengths = site.lengths(self._writer) if causal else ()
        known = (site.mask, causal, *lengths)
        if known not in self._biases:
            added = self._added(site) if site.mask is not None else None
            alive = None if causal else self.alive(site)
            self._biases[known] = self._limited(site, added) if causal else Bias(added, alive)
        return self._biases[known]

    def alive(self, site: Site) -> ir.Value | None:
        if site.facts.causal:
            return self.bias(site).alive
        mask, writer, node = site.mask, self._writer, site.node
        if mask is None or not kills_rows(mask):
            return None
        condition = condition_of(mask)
        if condition is None:
            return self._above(node, narrowed(mask))
        kind, axis = ir.DataType.FLOAT, writer.integers(-1)
        seen = writer.once(("seen", condition), node, "Cast", [condition], kind, to=kind.value)
        alive = writer.once(("alive", seen), node, "ReduceMax", [seen, axis], kind, keepdims=1)
        alive.shape = _of_rows(condition)
        return alive

    def whole(self, site: Site) -> Bias:
        bias, writer, node = self.bias(site), self._writer, site.node
        if bias.added is None:
            return bias
        rows, keys = site.lengths(self._writer)
        one = writer.integers(1, 1)
        target = writer.once(("target", rows, keys), node, "Concat", [one, rows, keys], axis=0)
        key = ("whole", bias.added, target)
        kind = ir.DataType.FLOAT
        return Bias(writer.once(key, node, "Expand", [bias.added, target], kind), bias.alive)

    def keys(self, site: Site) -> ir.Value | None:
        padding, writer, node = site.meaning.padding, self._writer, site.node
        if padding is None:
            return None
        exists = padding
        if padding.dtype is not ir.DataType.BOOL:
            key, kind = ("exists", padding), ir.DataType.BOOL
            exists = writer.once(key, node, "Cast", [padding], kind, to=kind.value)
        kind = ir.DataType.INT32
        keys = writer.once(("keys", exists), node, "Cast", [exists], kind, to=kind.value)
        if site.past is None and written_size(padding, 1) == written_size(*site.places[1]):
            return keys
        one, (_, total) = writer.integers(1), site.lengths(self._writer)
        whole = writer.once(("row", total), node, "Concat", [one, total], axis=0)
        return writer.once(("repeated", keys, whole), node, "Expand", [keys, whole], kind)

    def _added(self, site: Site) -> ir.Value:
        mask, writer, node = site.mask, self._writer, site.node
        assert mask is not None
        condition, mask = condition_of(mask), narrowed(mask)
        if condition is not None:
            pair = [writer.number(0.0), writer.number(FLOOR)]
            return writer.node(node, "Where", [condition, *pair])
        if finite(mask):
            return mask
        return writer.node(node, "Max", [mask, writer.number(FLOOR)])

    def _limited(self, site: Site, added: ir.Value | None) -> Bias:
        """A bias with scores of keys after their query ruled out; each query sees itself."""
        node, writer, number = site.node, self._writer, ir.DataType.INT64
        flat = [
            writer.node(node, "Squeeze", [item], kind=number) for item in site.lengths(self._writer)
        ]
        zero, one = (writer.constant("number", np.array(item, np.int64)) for item in (0, 1))
        rows, keys = (writer.node(node, "Range", [zero, item, one], kind=number) for item in flat)
        if site.past is not None and not site.past.outside:
            past = writer.length(node, site.past.key, 2)
            rows = writer.node(node, "Add", [rows, past], kind=number)
        rows = writer.node(node, "Unsqueeze", [rows, writer.integers(1)], kind=number)
        seen = writer.node(node, "LessOrEqual", [keys, rows], kind=ir.DataType.BOOL)
        limit = writer.node(node, "Where", [seen, writer.number(0.0), writer.number(FLOOR)])
        limit.shape = ir.Shape([None, None])
        if added is None:
            return Bias(limit, None)
        added = writer.node(node, "Add", [added, limit])
        added = writer.node(node, "Max", [added, writer.number(FLOOR)])
        # The keys that a mask leaves may all be after the query.
        return Bias(added, self._above(node, added) if kills_rows(site.mask) else None)

    def _above(self, before: ir.Node, added: ir.Value) -> ir.Value:
        """1 where a row holds more than what hides, else 0."""
        writer = self._writer
        kind, axis = ir.DataType.FLOAT, writer.integers(-1)
        top = writer.once(("top", added), before, "ReduceMax", [added, axis], kind, keepdims=1)
        least = writer.number(FLOOR / 2)
        some = writer.once(("some", top), before, "Greater", [top, least], ir.DataType.BOOL)
        alive = writer.once(("alive", some), before, "Cast", [some], kind, to=kind.value)
        alive.shape = _of_rows(added)
        return alive


def _of_rows(mask: ir.Value) -> ir.Shape | None:
    return ir.Shape([*mask.shape[:-1], 1]) if mask.shape is not None else None


def narrowed(mask: ir.Value) -> ir.Value:
    """The mask before it was given a row for each query: additions repeat it by themselves."""
    node = mask.producer()
    while node is not None and node.op_type == "Expand" and node.inputs[0] is not None:
        if node.inputs[0].shape is None:
            break
        mask = node.inputs[0]
        node = mask.producer()
    return mask


def condition_of(mask: ir.Value) -> ir.Value | None:
    """The truth value that a mask is, or chooses 0 or -inf by: rows without keys are zero."""
    mask = narrowed(mask)
    if mask.dtype is ir.DataType.BOOL:
        return mask
    where = mask.producer()
    if where is None or where.op_type != "Where" or where.inputs[0] is None:
        return None
    if where.inputs[0].shape is None:
        return None
    zero, low = (scalar(item) for item in where.inputs[1:])
    infinite = zero == 0.0 and low is not None and low == -np.inf
    return narrowed(where.inputs[0]) if infinite else None


def kills_rows(mask: ir.Value | None) -> bool:
    """Whether a query may be left without a key, and gives zero then."""
    return mask is not None and (condition_of(mask) is not None or not finite(narrowed(mask)))


def finite(mask: ir.Value) -> bool:
    """Whether a mask is known to hold no -inf: it was bounded, or is a sum of such."""
    node = mask.producer()
    tensor = ir.convenience.get_const_tensor(mask)
    if tensor is not None:
        return tensor.size <= LARGEST and bool(np.isfinite(tensor.numpy()).all())
    if node is None:
        return False
    if node.op_type == "Max":
        return any(scalar(item) is not None for item in node.inputs)
    if node.op_type == "Where":
        numbers = [scalar(item) for item in node.inputs[1:]]
        return all(item is not None and np.isfinite(item) for item in numbers)
    if node.op_type == "MatMul":
        return True
    if node.op_type in ("Add", "Sub", "Mul", "Div"):
        return all(item is not None and finite(item) for item in node.inputs)
    return node.op_type in MOVES and node.inputs[0] is not None and finite(node.inputs[0])
