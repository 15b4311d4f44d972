"""A place where an attention stands, with all that a form may ask of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.heads import merged_heads, split_heads
from burnish.optimizer.analysis.matching import made_by, optional, rank, scalar, written_size
from burnish.optimizer.analysis.products import Product
from burnish.optimizer.contract import Array
from burnish.optimizer.pruning import idle, take_over
from burnish.passes.lower.attention.facts import Facts
from burnish.passes.lower.attention.projection import Projection, projection_of
from burnish.passes.lower.attention.writer import Writer


@dataclass(frozen=True)
class Past:
    """Keys and values of earlier runs, and the new ones that are put behind them.

    Attributes:
        key, value: [batch, groups, past, size].
        new_key, new_value: as the attention's operands are laid out.
        outside: whether a `Concat` in front of the attention puts them together.
        integers: of 8 bits, each of which stands for itself, that are converted behind that
            `Concat`; new ones are rounded before it. Empty where the past is in floats.
    """

    key: ir.Value
    value: ir.Value
    new_key: ir.Value
    new_value: ir.Value
    outside: bool
    integers: tuple[ir.Value, ...] = ()


@dataclass(frozen=True)
class Meaning:
    """What is proven of an attention's mask, its causal limit included.

    Attributes:
        causal: no query sees a key after itself; queries are the last of the keys.
        padding: value [batch, keys], other than 0 where a key exists.
        rest: what there is besides these two, or why it is not known; empty where nothing is.
        level: what is added to scores that are hidden.
        zero: whether a query without keys gives zero.
        sees_itself: whether each query certainly sees a key.
    """

    causal: bool = False
    padding: ir.Value | None = None
    rest: str = ""
    level: float = 0.0
    zero: bool = True
    sees_itself: bool = True


@dataclass(frozen=True)
class Results:
    """What a form makes.

    Attributes:
        result: laid out as the attention's, or [batch, queries, heads * size] where `flat`.
        present: all keys and values [batch, groups, keys, size]; None where nobody asked.
    """

    result: ir.Value
    flat: bool
    present: tuple[ir.Value, ir.Value] | None = None


@dataclass(frozen=True)
class Site:
    """An `Attention`, read once; forms decide by it and build from it.

    Attributes:
        past: None where all keys are new.
        meaning: of its mask.
        projection: the three products of one input that its operands are, or why there are none.
        inner: the same with a past of integers, for what reads those; None where there are none.
        windows: the mask where it is a constant [windows, heads or 1, queries, keys] that is
            repeated for each image of the batch; None where it is not.
    """

    node: ir.Node
    facts: Facts
    past: Past | None
    meaning: Meaning
    projection: Projection | str
    inner: Site | None = None
    windows: Array | None = None

    def again(self) -> Site:
        """The site with operands read anew: those may be results of attentions replaced by now."""
        inner, node, facts = self.inner, self.node, self.facts
        if inner is not None:
            inner = dataclasses.replace(inner, past=integers_of(node, facts))
        return dataclasses.replace(self, past=past_of(node, facts), inner=inner)

    @property
    def mask(self) -> ir.Value | None:
        return optional(self.node, 3)

    @property
    def query(self) -> ir.Value:
        query = self.node.inputs[0]
        assert query is not None
        return query

    @property
    def rows(self) -> int:
        """The axis of operands that runs over positions."""
        return 1 if self.facts.flat else 2

    @property
    def presents(self) -> tuple[ir.Value, ...]:
        """The values that hold all keys and all values for others."""
        if self.past is not None and self.past.integers:
            return self.past.integers
        if self.past is not None and self.past.outside:
            return tuple(item for item in self.node.inputs[1:3] if item is not None)
        return tuple(self.node.outputs[1:3])

    @property
    def new(self) -> tuple[ir.Value, ir.Value]:
        """Keys and values that are not of the past."""
        if self.past is not None:
            return self.past.new_key, self.past.new_value
        key, value = self.node.inputs[1], self.node.inputs[2]
        assert key is not None and value is not None
        return key, value

    @property
    def places(self) -> tuple[tuple[ir.Value, int], tuple[ir.Value, int]]:
        """Values, and their axes, that are as long as the queries and as the new keys.

        The earliest ones, so that asking for their sizes keeps nothing alive.
        """
        if isinstance(self.projection, Projection):
            return ((self.projection.activation, 1),) * 2
        first, second = (_earliest(item, self.rows) for item in (self.query, self.new[0]))
        return first, second

    def lengths(self, writer: Writer) -> tuple[ir.Value, ir.Value]:
        """How many queries and how many keys there are, as vectors of one element."""
        rows, keys = (writer.length(self.node, *place) for place in self.places)
        if self.past is None:
            return rows, keys
        past = writer.length(self.node, self.past.key, 2)
        return rows, writer.total(self.node, past, keys)

    def flattened(self, writer: Writer) -> list[ir.Value | None]:
        """Queries, new keys and new values as [batch, sequence, heads * size]."""
        facts = self.facts
        widths = (
            (facts.heads, facts.size),
            (facts.groups, facts.size),
            (facts.groups, facts.value_size),
        )
        found: list[ir.Value | None] = []
        for value, (heads, size) in zip((self.query, *self.new), widths, strict=True):
            split = None if facts.flat else split_heads(value)
            if facts.flat:
                found.append(value)
            elif split is not None and (split.heads, split.size) == (heads, size):
                found.append(split.source)
            else:
                found.append(writer.together(self.node, value, heads * size))
        return found


def _earliest(value: ir.Value, rows: int) -> tuple[ir.Value, int]:
    split = split_heads(value) if rows == 2 else None
    return (split.source, 1) if split is not None else (value, rows)


def past_of(node: ir.Node, facts: Facts) -> Past | None:
    """The keys and values of earlier runs, given to the attention or put in front of its own."""
    key, value = node.inputs[1], node.inputs[2]
    assert key is not None and value is not None
    past_key, past_value = optional(node, 4), optional(node, 5)
    if past_key is not None and past_value is not None:
        return Past(past_key, past_value, key, value, outside=False)
    if facts.flat or facts.kept:
        return None
    parts = [_joined(item, node) for item in (key, value)]
    if parts[0] is None or parts[1] is None:
        return None
    (past_key, new_key), (past_value, new_value) = parts[0], parts[1]
    together = all(
        written_size(first, 2) == written_size(second, 2)
        for first, second in ((past_key, past_value), (new_key, new_value))
    )
    return Past(past_key, past_value, new_key, new_value, outside=True) if together else None


def _joined(value: ir.Value, reader: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """The two values that a `Concat` along the positions, which no other node reads, joins."""
    node = made_by(value, "Concat")
    if node is None or len(node.inputs) != 2 or any(use.node is not reader for use in value.uses()):
        return None
    first, second = node.inputs
    if first is None or second is None or rank(first) != 4 or rank(second) != 4:
        return None
    return (first, second) if node.attributes.get_int("axis", 0) in (2, -2) else None


def integers_of(node: ir.Node, facts: Facts) -> Past | None:
    """The keys and values of earlier runs as integers, converted after new ones are behind them."""
    if facts.flat or facts.kept or optional(node, 4) is not None:
        return None
    parts = [_converted(item, node) for item in node.inputs[1:3]]
    if parts[0] is None or parts[1] is None:
        return None
    (past_key, new_key, keys), (past_value, new_value, values) = parts[0], parts[1]
    return Past(past_key, past_value, new_key, new_value, True, (keys, values))


def _converted(value: ir.Value | None, reader: ir.Node) -> tuple[ir.Value, ...] | None:
    """The past, what is new and the integers that a value is made from; see `Past`."""
    node = made_by(value, "DequantizeLinear")
    if value is None or node is None or not _by_ones(node):
        return None
    whole = node.inputs[0]
    if any(use.node.op_type == reader.op_type and use.node is not reader for use in value.uses()):
        return None
    joined = made_by(whole, "Concat")
    if whole is None or joined is None or len(joined.inputs) != 2 or rank(whole) != 4:
        return None
    past, rounded = joined.inputs[0], made_by(joined.inputs[1], "QuantizeLinear")
    new = rounded.inputs[0] if rounded is not None and _by_ones(rounded) else None
    last = joined.attributes.get_int("axis", 0) in (2, -2)
    if past is None or new is None or not last or past.dtype is not ir.DataType.INT8:
        return None
    return past, new, whole


def _by_ones(node: ir.Node) -> bool:
    """Whether a node rounds to whole numbers, or gives those, as they are."""
    zero = optional(node, 2)
    return scalar(node.inputs[1]) == 1.0 and (zero is None or scalar(zero) == 0.0)


def site_of(
    node: ir.Node, facts: Facts, meaning: Meaning, products: Mapping[ir.Value, Product]
) -> Site:
    """The site of a node whose mask is understood already."""
    past = past_of(node, facts)
    return Site(node, facts, past, meaning, projection_of(node, facts, products))


def replace(writer: Writer, site: Site, results: Results) -> None:
    """Let the results stand for what the attention gives; what only that needed goes."""
    node, result = site.node, results.result
    old = node.outputs[0]
    if results.flat and not site.facts.flat:
        merged = merged_heads(old)
        if merged is None:
            result = writer.apart(node, result, site.facts.heads)
        old = merged or old
    whole = site.inner or site
    pairs = [*zip(whole.presents, results.present or (), strict=False), (old, result)]
    for before, after in pairs:
        if not before.is_graph_output() and not before.uses():
            continue
        after.type, after.shape = before.type, before.shape
        take_over(before, after)
    assert all(map(idle, node.outputs))
