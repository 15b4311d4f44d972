"""One attention, from its softmax to both of its products."""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from burnish.optimizer.analysis.matching import rank
from burnish.passes.recover.attention.operands import unscaled, with_heads
from burnish.passes.recover.attention.probabilities import guard, reader
from burnish.passes.recover.attention.scores import Miss, Scores, scores_of


@dataclass(frozen=True)
class Pattern:
    """The parts of an attention.

    Attributes:
        scores: see `Scores`.
        product: the node that multiplies probabilities and values.
        query: [batch, heads, queries, size], or [batch, queries, size] where it has one head.
        key: like `query`, its last two axes exchanged unless `key_last`.
        key_last: whether the last axis of `key` is that of the product's sums.
        value: [batch, heads, keys, size], or [batch, keys, size].
        scale: factor of the product of query and key.
        guarded: whether probabilities that are NaN are taken as zero.
        sizes: nodes that read the probabilities' shape.
    """

    scores: Scores
    product: ir.Node
    query: ir.Value
    key: ir.Value
    key_last: bool
    value: ir.Value
    scale: float
    guarded: bool
    sizes: tuple[ir.Node, ...] = ()

    @property
    def single(self) -> bool:
        """Whether there is one head, without an axis of its own."""
        return rank(self.query) == 3


def match(softmax: ir.Node) -> Pattern | Miss | None:
    """The attention around a softmax; None where it is none (of a router, of classes)."""
    source = softmax.inputs[0]
    scores = scores_of(source)
    if scores is None:
        return None
    read = reader(softmax.outputs[0])
    if read is None or isinstance(read, Miss):
        return read
    product, sizes = read
    if isinstance(scores, Miss):
        return scores
    if softmax.attributes.get_int("axis", -1) not in (-1, rank(source) - 1):
        return Miss(softmax, "the softmax is not over the last axis")
    if scores.product.graph is not softmax.graph or product.graph is not softmax.graph:
        return Miss(softmax, "its products lie in other graphs")
    pattern = _operands(scores, product, guarded=guard(softmax.outputs[0]) is not None)
    return pattern if isinstance(pattern, Miss) else replace(pattern, sizes=tuple(sizes))


def _turns(node: ir.Node) -> bool:
    """Whether a node exchanges the last two of three axes, and moves no other."""
    return node.op_type == "Transpose" and node.attributes.get_ints("perm", ()) == (0, 2, 1)


def _operands(scores: Scores, product: ir.Node, *, guarded: bool) -> Pattern | Miss:
    node = scores.product
    query, key, value = node.inputs[0], node.inputs[1], product.inputs[1]
    assert query is not None and key is not None and value is not None
    if value.const_value is not None:
        return Miss(product, "its values are constant")
    key_last = False
    if node.op_type == "FusedMatMul":
        if any(node.attributes.get_int(n, 0) for n in ("transA", "transBatchA", "transBatchB")):
            return Miss(node, "its queries are transposed")
        key_last = bool(node.attributes.get_int("transB", 0))
    query, first = unscaled(query)
    key, second = unscaled(key)
    flat = key.producer()
    if rank(key) == 3 and flat is not None and _turns(flat) and flat.inputs[0]:
        key, key_last = flat.inputs[0], not key_last
        key, third = unscaled(key)
        second *= third
    scale = scores.scale * first * second
    if scale <= 0:
        return Miss(node, f"the scores are multiplied by {scale:g}")
    if scores.cast is not None and scores.multipliers:
        return Miss(node, "its factors are of another type than its products")
    parts = [with_heads(item) for item in (query, key, value)]
    apart = [part for part in parts if part is not None]
    if len(apart) == len(parts):
        return Pattern(scores, product, apart[0], apart[1], key_last, apart[2], scale, guarded)
    if {rank(item) for item in (query, key, value)} == {3}:
        if apart:
            return Miss(node, "some of query, key and value have their heads merged into the batch")
        return Pattern(scores, product, query, key, key_last, value, scale, guarded)
    ranks = ", ".join(str(rank(item)) for item in (query, key, value))
    return Miss(node, f"query, key and value have {ranks} axes")
