"""The sites of a model where channels can be removed: heads, and hidden channels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.channels import nodes
from burnish.optimizer.analysis.channels.axis import Axis, Coarser, Coupled
from burnish.optimizer.analysis.channels.trace import Columns, Trace
from burnish.optimizer.analysis.channels.written import sizes
from burnish.optimizer.analysis.matching import rank
from burnish.optimizer.analysis.products import Product, find_products, is_finite, label
from burnish.optimizer.contract import Array, Refusal

HEADS, CHANNELS = "heads", "channels"
"""Kinds of units."""

MOST_STEPS = 4
"""Times that units may grow until all nodes take them as a whole."""


@dataclass(frozen=True)
class Site:
    """Channels between products, and all that has to change with them.

    Attributes:
        trace: see `Trace`.
        source: the value [..., units * size] that the products behind read.
        units, size: how many there are, and elements of each in `source`.
        groups: units come in so many groups of equal size, of which as many have to stay in each.
        keys_stay: keys and values keep all their heads, since ports hold them.
    """

    trace: Trace
    source: ir.Value
    units: int
    size: int
    groups: int
    keys_stay: bool

    @property
    def key(self) -> str:
        """A name for it, which stays in copies of the model: that of what is read."""
        return self.source.name or ""

    @property
    def kind(self) -> str:
        """What its units are."""
        return HEADS if self.trace.attentions else CHANNELS

    @property
    def readers(self) -> tuple[Product, ...]:
        """The products that read the channels by their rows, where weights are first used."""
        return tuple(item for item in self.trace.rows if item.activation is self.source)

    @property
    def uses(self) -> int:
        """Times that its weights are used, by layers that share them."""
        return len(self.trace.by_weight[self.readers[0].weight])

    @property
    def writers(self) -> tuple[Columns, ...]:
        """The products that write them by their columns, each time."""
        return tuple(self.trace.columns)

    @property
    def shared(self) -> int:
        """Units of a group."""
        return self.units // self.groups

    def rows(self, kept: Iterable[int]) -> Array:
        """The rows of the products behind that kept units have, ascending."""
        return Axis(0, self.units, self.size).elements(np.asarray(sorted(kept), np.int64))

    def why_not(self, kept: Iterable[int]) -> str:
        """Why units cannot be the ones that stay; empty where they can."""
        found = sorted(kept)
        if len(set(found)) != len(found) or not all(0 <= unit < self.units for unit in found):
            return f"{self.key} has no such units"
        counts = np.bincount(np.asarray(found, np.int64) // self.shared, minlength=self.groups)
        left = counts if self.keys_stay else counts[counts > 0]
        if found and len(set(left.tolist())) > 1:
            return f"as many heads have to stay of each group of {self.shared} in {self.key}"
        return ""


def find_sites(model: ir.Model) -> tuple[list[Site], list[Refusal]]:
    """The sites of the main graph in order, and the products whose inputs are none, with reasons.

    A product belongs to one site at most on each of its sides.
    """
    found = [item for item in find_products(model)[0] if item.graph is model.graph]
    by_input = {product.nodes[0]: product for product in found}
    by_output = {product.output: product for product in found}
    by_weight: dict[ir.Value, list[Product]] = {}
    for product in found:
        by_weight.setdefault(product.weight, []).append(product)
    sites: list[Site] = []
    refusals: list[Refusal] = []
    taken: set[ir.Value] = set()
    written: set[ir.Value] = set()
    for product in found:
        if product.activation in taken or _reads_stream(product, by_output):
            continue
        taken.add(product.activation)
        try:
            site = _site(product, by_input, by_output, by_weight)
        except Coupled as error:
            refusals.append(Refusal(label(product.nodes[0]), error.reason))
            continue
        outputs = {item.product.output for item in site.writers}
        if written & outputs:
            refusals.append(Refusal(label(product.nodes[0]), "another site has its columns"))
            continue
        written |= outputs
        taken |= {item.activation for item in site.trace.rows}
        sites.append(site)
    return sites, refusals


def _reads_stream(product: Product, by_output: Mapping[ir.Value, Product]) -> bool:
    """Whether a product reads what was normalized, or an input: no channels between layers."""
    node = product.activation.producer()
    return node is None or node.op_type in nodes.NORMALIZATIONS


def _site(
    product: Product,
    by_input: Mapping[ir.Node, Product],
    by_output: Mapping[ir.Value, Product],
    by_weight: Mapping[ir.Value, list[Product]],
) -> Site:
    def trace(*, keys_stay: bool) -> Trace:
        return Trace(by_input, by_output, by_weight, keys_stay)

    try:
        site = _traced(product, functools.partial(trace, keys_stay=False))
        if site.kind != HEADS or site.groups > 1 or site.units == 1:
            return site
        # All heads share their keys: single ones can go only where those stay.
        return _traced(product, functools.partial(trace, keys_stay=True))
    except Coupled as error:
        try:
            site = _traced(product, functools.partial(trace, keys_stay=True))
        except Coupled:
            raise error from None
        if not site.trace.attentions:
            raise
        return site


def _traced(product: Product, new_trace: Callable[[], Trace]) -> Site:
    """The closure from what a product reads, in the smallest units that all nodes take."""
    source, size = product.activation, 1
    for _ in range(MOST_STEPS):
        if product.k % size:
            break
        trace = new_trace()
        try:
            trace.add(source, Axis(rank(source) - 1, product.k // size, size))
            while trace.pending:
                _follow(trace, trace.pending.pop())
        except Coarser as error:
            size *= error.factor
            continue
        return _complete(trace, source, product.k // size, size)
    raise Coupled("its channels do not come in equal units")


def _follow(trace: Trace, value: ir.Value) -> None:
    """Go from a value to what makes it and to all that read it."""
    axis = trace.axes[value]
    product = trace.by_output.get(value)
    if product is not None:
        trace.writes(product, 0, axis)
    else:
        node = value.producer()
        if node is None:
            raise Coupled("a constant has them")
        nodes.visit(trace, node, value, axis)
    for node, index in value.uses():
        reader = trace.by_input.get(node)
        if node.graph is not value.graph:
            raise Coupled("a subgraph reads them")
        if reader is not None and index == 0:
            trace.reads(reader, axis)
        else:
            nodes.visit(trace, node, value, axis)


def _complete(trace: Trace, source: ir.Value, units: int, size: int) -> Site:
    readers = [item for item in trace.rows if item.activation is source]
    times = trace.applied(readers)
    if len(times) * len(readers) != len(trace.rows):
        raise Coupled("products read them in several places")
    trace.check()
    if not trace.columns and not trace.constants:
        raise Coupled("no product writes them")
    if len(trace.attentions) not in (0, len(times)):
        raise Coupled("several attentions have them")
    weights = [*(item.product for item in trace.columns), *trace.rows]
    if not all(is_finite(product.weight) for product in weights):
        raise Coupled("a weight holds NaN or infinity")
    groups = max((axis.count for axis in trace.axes.values() if axis.shared > 1), default=units)
    if trace.keys_stay and trace.attentions:
        groups = _groups(trace.attentions[0], units)
    return Site(trace, source, units, size, groups, trace.keys_stay and bool(trace.attentions))


def _groups(attention: ir.Node, units: int) -> int:
    """Heads of keys, also where they are none of the units."""
    key = attention.inputs[1]
    told = attention.attributes.get_int("kv_num_heads", 0)
    return told or sizes(key)[1] or units
