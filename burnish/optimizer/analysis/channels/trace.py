"""All that has to change with a set of channels: a closure over what reads and writes them.

It starts at what a product multiplies, and goes both ways through every node that keeps channels
apart, until products with constant weights end it on all sides: those that write the channels by
their columns, and those that read them by their rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from burnish.optimizer.analysis.channels.axis import Axis, Coupled
from burnish.optimizer.analysis.channels.written import sizes, written
from burnish.optimizer.analysis.matching import rank
from burnish.optimizer.analysis.products import Product


@dataclass(frozen=True)
class Columns:
    """Columns of a product that write channels: those of `axis`, from column `start` on."""

    product: Product
    start: int
    axis: Axis


@dataclass
class Trace:
    """What was found so far; see the module.

    Attributes:
        by_input, by_output: products by the node that multiplies, and by what they give.
        by_weight: all products of a weight, in order: what goes of one goes of all of them.
        keys_stay: whether keys and values of attentions are not to be cut.
        axes: the channels of each value.
        columns, rows: products that write them, and that read them.
        attentions: nodes with heads that are units.
        constants: places, as node and index of input, of constants with an axis of channels.
        nodes: nodes on the way, in the order found.
        cut: values of products of whose columns single parts are taken, also where those are
            taken apart into heads; with the columns that one element is then.
        masks: attentions whose masks differ by head, with the axis of heads.
        reshaped: nodes that take columns of a product apart into several blocks of channels.
        met: what products give, with the first column, where the way led to it.
    """

    by_input: Mapping[ir.Node, Product]
    by_output: Mapping[ir.Value, Product]
    by_weight: Mapping[ir.Value, list[Product]]
    keys_stay: bool = False
    axes: dict[ir.Value, Axis] = field(default_factory=dict)
    columns: list[Columns] = field(default_factory=list)
    rows: list[Product] = field(default_factory=list)
    attentions: list[ir.Node] = field(default_factory=list)
    nodes: dict[ir.Node, None] = field(default_factory=dict)
    constants: dict[tuple[ir.Node, int], Axis] = field(default_factory=dict)
    cut: dict[ir.Value, int] = field(default_factory=dict)
    masks: dict[ir.Node, int] = field(default_factory=dict)
    reshaped: dict[ir.Node, None] = field(default_factory=dict)
    pending: list[ir.Value] = field(default_factory=list)
    met: set[tuple[ir.Value, int]] = field(default_factory=set)

    def add(self, value: ir.Value | None, axis: Axis) -> None:
        """Channels of one more value.

        Raises:
            Coupled: they cannot be removed there.
        """
        if value is None:
            return
        if value in self.axes:
            if self.axes[value] != axis:
                raise Coupled("the same channels are needed in two orders")
            return
        if value.is_graph_output() or value.is_graph_input():
            raise Coupled(f"port {value.name} has them")
        if not 0 <= axis.place < rank(value):
            raise Coupled("the sizes of a value are not known")
        self.axes[value] = axis
        self.pending.append(value)

    def constant(self, node: ir.Node, index: int, axis: Axis) -> None:
        """A constant input whose axis holds a number for each channel."""
        self.constants[node, index] = axis

    def writes(self, product: Product, start: int, axis: Axis) -> None:
        """Columns of a product give channels."""
        if axis.place != rank(product.output) - 1:
            raise Coupled("a product gives them along another axis")
        self.met.add((product.output, start))
        for other in self._copies(product):
            found = Columns(other, start, axis.at(0))
            if found not in self.columns:
                self.columns.append(found)

    def reads(self, product: Product, axis: Axis) -> None:
        """Rows of a product take channels."""
        if axis.place != rank(product.activation) - 1 or product.k != axis.length:
            raise Coupled("a product reads them along another axis")
        for other in self._copies(product):
            self.add(other.activation, axis.at(rank(other.activation) - 1))
            if other not in self.rows:
                self.rows.append(other)

    def _copies(self, product: Product) -> list[Product]:
        """All products of the weight.

        Raises:
            Coupled: somebody else reads it, too, or as another matrix.
        """
        found = self.by_weight[product.weight]
        alike = {(item.transposed, item.alpha, item.beta, item.bias) for item in found}
        if _readers(product.weight) > len(found) or product.weight.is_graph_output():
            raise Coupled("a weight has other readers")
        if len(alike) > 1:
            raise Coupled("products use a weight in several ways")
        return found

    def check(self) -> None:
        """Raise where a weight writes channels in one place, and something else in another."""
        if any((item.product.output, item.start) not in self.met for item in self.columns):
            raise Coupled("a weight has other readers")

    def applied(self, products: Sequence[Product]) -> list[tuple[Product, ...]]:
        """Products of one input, once for each time that their weights are used, in order.

        Raises:
            Coupled: they are not used together each time.
        """
        found = [self.by_weight[product.weight] for product in products]
        if len({len(items) for items in found}) > 1:
            raise Coupled("weights are not used together each time")
        times = list(zip(*found, strict=True))
        if any(len({item.activation for item in items}) > 1 for items in times):
            raise Coupled("weights are not used together each time")
        return times


def _readers(weight: ir.Value) -> int:
    """How many nodes read a weight, or its transpose."""
    turned = (use.node.outputs[0] for use in weight.uses() if use.node.op_type == "Transpose")
    others = sum(use.node.op_type != "Transpose" for use in weight.uses())
    return others + sum(len(value.uses()) for value in turned)


def merged(trace: Trace, source: ir.Value, place: int) -> tuple[Product | None, int]:
    """The product whose columns a value has along an axis, and how many are one element of it.

    It is what the product gives, or the same with the columns taken apart into heads.
    """
    if source in trace.by_output:
        return trace.by_output[source], 1
    node = source.producer()
    flat = node.inputs[0] if node is not None and node.op_type == "Reshape" else None
    product = trace.by_output.get(flat) if flat is not None else None
    if node is None or flat is None or product is None or rank(flat) != place + 1:
        return None, 1
    behind, told = sizes(source)[place:], written(node.inputs[1])
    span = math.prod(size or 0 for size in behind[1:])
    whole = (behind[0] or 0) * span == product.n
    alone = len(flat.uses()) == 1 and not flat.is_graph_output()
    if not whole or not alone or told is None or told[place] is None:
        return None, 1
    return product, span
