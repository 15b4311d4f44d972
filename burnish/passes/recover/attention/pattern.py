"""One attention, from its softmax to both of its products."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.matching import rank, scalar
from burnish.passes.recover.attention.operands import unscaled, with_heads
from burnish.passes.recover.attention.scores import Miss, Scores, same_last, scores_of

LAYOUT = {"Reshape", "Squeeze", "Unsqueeze"}


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
    """

    scores: Scores
    product: ir.Node
    query: ir.Value
    key: ir.Value
    key_last: bool
    value: ir.Value
    scale: float
    guarded: bool

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
    product = _reader(softmax.outputs[0])
    if product is None or isinstance(product, Miss):
        return product
    if isinstance(scores, Miss):
        return scores
    if softmax.attributes.get_int("axis", -1) not in (-1, rank(source) - 1):
        return Miss(softmax, "the softmax is not over the last axis")
    if scores.product.graph is not softmax.graph or product.graph is not softmax.graph:
        return Miss(softmax, "its products lie in other graphs")
    return _operands(scores, product, guarded=_guard(softmax.outputs[0]) is not None)


def _reader(value: ir.Value) -> ir.Node | Miss | None:
    """The product that reads the probabilities; None where no product does."""
    while True:
        uses = list(value.uses())
        guard = _guard(value)
        if guard is not None and not value.is_graph_output():
            value = guard
            continue
        nodes = [use.node for use in uses]
        multiplied = [use for use in uses if use.node.op_type == "MatMul" and use.idx == 0]
        if len(uses) != 1 or value.is_graph_output():
            if not multiplied:
                return None
            others = "an output" if value.is_graph_output() else f"{len(uses)} nodes"
            return Miss(multiplied[0].node, f"its probabilities are read by {others}")
        node, inner = nodes[0], value
        if multiplied:
            return node
        if not node.outputs:
            return None
        value = node.outputs[0]
        if node.op_type in LAYOUT and not same_last(inner, value):
            return None
        if node.op_type not in (*LAYOUT, "Identity", "Dropout", "Cast"):
            further = [use.node for use in value.uses() if use.node.op_type == "MatMul"]
            known = node.op_type in ("Mul", "Slice", "Where", "Add", "Div")
            return Miss(node, "something changes its probabilities") if further and known else None


def _guard(value: ir.Value) -> ir.Value | None:
    """The probabilities with zero in place of NaN, where those are all that is read."""
    nodes = {use.node.op_type: use.node for use in value.uses()}
    if set(nodes) != {"IsNaN", "Where"} or len(list(value.uses())) != 2:
        return None
    test, select = nodes["IsNaN"], nodes["Where"]
    alone = len(list(test.outputs[0].uses())) == 1
    zero = scalar(select.inputs[1]) == 0.0
    guards = alone and zero and select.inputs[0] is test.outputs[0] and select.inputs[2] is value
    return select.outputs[0] if guards else None


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
    if rank(key) == 3 and flat is not None and flat.op_type == "Transpose" and flat.inputs[0]:
        key, key_last = flat.inputs[0], not key_last  # of three axes, only the last two can move
        key, third = unscaled(key)
        second *= third
    scale = scores.scale * first * second
    if scale <= 0:
        return Miss(node, f"the scores are multiplied by {scale:g}")
    if scores.cast is not None and scores.multipliers:
        return Miss(node, "its factors are of another type than its products")
    parts = [with_heads(item) for item in (query, key, value)]
    if None not in parts:
        return Pattern(scores, product, *_three(parts, key_last), scale, guarded)
    if {rank(item) for item in (query, key, value)} == {3}:
        if any(part is not None for part in parts):
            return Miss(node, "some of query, key and value have their heads merged into the batch")
        return Pattern(scores, product, query, key, key_last, value, scale, guarded)
    ranks = ", ".join(str(rank(item)) for item in (query, key, value))
    return Miss(node, f"query, key and value have {ranks} axes")


def _three(
    parts: list[ir.Value | None], key_last: bool
) -> tuple[ir.Value, ir.Value, bool, ir.Value]:
    query, key, value = parts
    assert query is not None and key is not None and value is not None
    return query, key, key_last, value
