"""Writes caches in int8: what is new is rounded once, when it is put behind what is there.

The scale of a channel does not have to be applied to the whole cache: `q (s k) = (s q) k`, and
`p (v s) = (p v) s`, so that it goes to the queries and to the results of an attention, of which
there are few in a step of decoding. Where something else reads the cache, that is multiplied.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from burnish.optimizer.analysis.heads import merged_heads, split_heads
from burnish.optimizer.analysis.matching import only_reader, optional, rank
from burnish.optimizer.caches import INTEGERS, Cache
from burnish.optimizer.constants import Constants
from burnish.optimizer.naming import Names
from burnish.optimizer.pruning import idle
from burnish.passes.compress.kv_cache.places import QUANTIZED, Place

Scale = npt.NDArray[np.float32]

KEYS, VALUES = 1, 2
"""Inputs of `Attention`."""

SCALES = 9
"""From an input of `GroupQueryAttention` with the past to the one with its scale."""


class Rewriter:
    """Writes the caches of one model.

    Args:
        model: changed in place.
    """

    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._constants = Constants()
        self._names = Names(model.graph)

    def cache(self, place: Place, scale: Scale) -> Cache:
        """Keep a cache in int8; `scale` is that of its channels, [groups, 1, size]."""
        past, present = place.past.name or "", place.present.name or ""
        stored, grown = self._names.free(f"{past}_int8"), self._names.free(f"{present}_int8")
        cache = Cache(past, present, stored, grown, scale)
        integers = self._integers(self._times(place.past, cache.inverse, place.node), place.node)
        integers.name = stored
        if place.node.op_type == QUANTIZED:
            self._inside(place, cache, integers)
        else:
            self._joined(place, cache, integers)
        return cache

    def _joined(self, place: Place, cache: Cache, past: ir.Value) -> None:
        """New positions as integers behind the old ones; the rest reads what those stand for."""
        node, present = place.node, place.present
        new = node.inputs[1]
        assert new is not None
        integers = self._integers(self._scaled(new, cache.inverse, node), node)
        grown = self._put(node, ir.node("Concat", [past, integers], {"axis": 2}), INTEGERS)
        grown.name, grown.shape = cache.grown, present.shape
        units = self._put(node, ir.node("DequantizeLinear", [grown, self._one()]))
        units.shape = present.shape
        reads = _attentions(present, place)
        whole = self._times(units, cache.scale, node)
        for attention, index in reads:
            attention.replace_input_with(index, units)
            heads = _heads(attention) // place.groups
            self._at_attention(attention, index, np.repeat(cache.scale, heads, axis=0))
        self._hand_over(present, whole, tuple(present.uses()))
        self._graph.remove(node, safe=True)

    def _at_attention(self, node: ir.Node, index: int, scale: Scale) -> None:
        """Multiply the queries, or the results, by the scale of each head, [heads, 1, size]."""
        if index == KEYS:
            query = node.inputs[0]
            assert query is not None
            node.replace_input_with(0, self._scaled(query, scale, node))
            return
        result = node.outputs[0]
        merged = merged_heads(result)
        old = result if merged is None else merged
        maker, uses = old.producer(), tuple(old.uses())
        assert maker is not None
        for value in () if merged is None else (result, maker.inputs[0]):
            assert value is not None
            value.name = self._names.free(f"{value.name}_units")
        flat = scale if merged is None else scale.reshape(-1)
        whole = self._put(maker, _times(old, self._constant("scale", flat)), after=True)
        self._hand_over(old, whole, uses)

    def _inside(self, place: Place, cache: Cache, past: ir.Value) -> None:
        """The operator itself rounds what is new, by the scales of channels."""
        node, present = place.node, place.present
        index = next(i for i in (3, 4) if node.inputs[i] is place.past)
        node.resize_inputs(max(14, len(node.inputs)))
        node.replace_input_with(index, past)
        scale = self._constant("scale", cache.scale.reshape(1, *cache.scale.shape))
        node.replace_input_with(index + SCALES, scale)
        for kind in ("k_quant_type", "v_quant_type"):
            node.attributes.add(ir.AttrString(kind, "PER_CHANNEL"))
        node.attributes.add(ir.AttrInt64("kv_cache_bit_width", 8))
        uses = tuple(present.uses())
        units = self._put(node, ir.node("DequantizeLinear", [present, self._one()]), after=True)
        maker = units.producer()
        assert maker is not None
        whole = self._put(maker, _times(units, self._constant("scale", cache.scale)), after=True)
        units.shape = present.shape
        self._hand_over(present, whole, uses)
        present.type, present.name = ir.TensorType(INTEGERS), cache.grown

    def _scaled(self, value: ir.Value, scale: Scale, reader: ir.Node) -> ir.Value:
        """A value [batch, heads, positions, size] times the scale, for its reader.

        Where its heads were split off the last axis of another one, and nobody else reads it, that
        is multiplied, so that the split stays next to the reader.
        """
        split, turned = split_heads(value), value.producer()
        apart = turned.inputs[0] if split is not None and turned is not None else None
        if split is None or apart is None or only_reader(value) is not reader:
            return self._times(value, scale, reader)
        reshape = apart.producer()
        alone = only_reader(apart) is turned and scale.shape == (split.heads, 1, split.size)
        if reshape is None or not alone:
            return self._times(value, scale, reader)
        reshape.replace_input_with(0, self._times(split.source, scale.reshape(-1), reshape))
        for item in (apart, value):
            item.name = self._names.free(f"{item.name}_scaled")
        return value

    def _times(self, value: ir.Value, factors: Scale, before: ir.Node) -> ir.Value:
        result = self._put(before, _times(value, self._constant("scale", factors)))
        result.shape = value.shape
        return result

    def _integers(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """The nearest integers, cut at those that there are."""
        zero = self._constant("zero", np.array(0, np.int8))
        node = ir.node("QuantizeLinear", [value, self._one(), zero])
        result = self._put(before, node, INTEGERS)
        result.shape = value.shape
        return result

    def _one(self) -> ir.Value:
        return self._constant("one", np.array(1, np.float32))

    def _constant(self, name: str, array: npt.NDArray[np.generic]) -> ir.Value:
        return self._constants.of(self._graph, name, array)

    def _put(
        self, beside: ir.Node, node: ir.Node, kind: ir.DataType = ir.DataType.FLOAT,
        *, after: bool = False,
    ) -> ir.Value:  # fmt: skip
        (self._graph.insert_after if after else self._graph.insert_before)(beside, node)
        node.outputs[0].type = ir.TensorType(kind)
        return node.outputs[0]

    def _hand_over(self, old: ir.Value, new: ir.Value, uses: Collection[Any]) -> None:
        """Let a new value stand for an old one, in its uses as they were and as an output."""
        for use in uses:
            use.node.replace_input_with(use.idx, new)
        outputs = self._graph.outputs
        for index, output in enumerate(outputs):
            if output is old:
                outputs[index] = new
        new.type, new.shape = old.type, old.shape
        new.name, old.name = old.name, self._names.free(f"{old.name}_units")


def _times(value: ir.Value, factors: ir.Value) -> ir.Node:
    return ir.node("Mul", [value, factors])


def _attentions(present: ir.Value, place: Place) -> list[tuple[ir.Node, int]]:
    """The attentions that read a cache, all as keys or all as values; none where others do."""
    uses = [(use.node, use.idx) for use in present.uses()]
    fit = all(
        node.op_type == "Attention"
        and node.domain == ""
        and node.graph is place.node.graph
        and index in (KEYS, VALUES)
        and index == uses[0][1]
        and optional(node, 4) is None
        and all(map(idle, node.outputs[1:3]))
        and rank(node.inputs[0]) == 4
        and _heads(node) > 0
        and _heads(node) % place.groups == 0
        for node, index in uses
    )
    return uses if fit else []


def _heads(node: ir.Node) -> int:
    """Heads of an attention's queries [batch, heads, positions, size]; 0 where not known."""
    query = node.inputs[0]
    heads = query.shape[1] if query is not None and query.shape is not None else 0
    return heads if isinstance(heads, int) else 0
