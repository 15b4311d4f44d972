"""Softmax between two products, in any spelling, becomes `Attention`."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.heads import Split, merged_heads, split_heads
from burnish.optimizer.analysis.matching import only_reader, rank
from burnish.optimizer.analysis.products import label
from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase, Refusal
from burnish.optimizer.pruning import prune, take_over
from burnish.passes.recover.attention.masks import Frame, Masks
from burnish.passes.recover.attention.operands import insert, transposed, without_repeats
from burnish.passes.recover.attention.pattern import Pattern, match
from burnish.passes.recover.attention.probabilities import answer_sizes
from burnish.passes.recover.attention.scores import Miss, describe

SINCE = 23
"""Operator set from which there is an `Attention`."""


@dataclass(frozen=True)
class RecoverAttention(Pass):
    """Recover scaled dot product attention from its products and its softmax.

    Found from the softmax outwards, through reshapes, casts, scales on either side of the product,
    caps, guards against NaN, and whatever is added to the scores or hides some of them. Repeated
    keys and values (grouped queries) are taken before they are repeated. A learned query, of which
    there is one for all rows of the batch, is repeated for each.

    Before:
        `Softmax(q @ Transpose(k) * scale + mask) @ v`, with q, k, v [batch, heads, sequence, size]
        made by `Transpose(Reshape(x))`.
    After:
        `Attention(x_q, x_k, x_v, mask)` on [batch, sequence, heads * size], or on the values with
        heads where those were made otherwise.
    Refuses when:
        The probabilities are read by more than one product or are changed before it, the softmax
        is not over keys, a factor is neither constant nor one for each head, a mask's shape does
        not fit, or the operator set is older than 23.
    Numerics:
        Rounding. A row that no key is left for, which a softmax gives NaN for, is zero.
    """

    name = "attention"
    phase = Phase.RECOVER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
        softmaxes = [node for node in nodes if node.op_type == "Softmax" and node.domain == ""]
        apart = [node for node in nodes if node.op_type == "Attention" and node.domain == ""]
        if not softmaxes and not apart:
            return Outcome()
        shapes.annotate(model)
        places = {node: index for index, node in enumerate(nodes)}
        found, refusals = [], []
        for softmax in softmaxes:
            pattern = match(softmax)
            if isinstance(pattern, Pattern) and model.opset_imports.get("", 0) < SINCE:
                reason = f"operator set {model.opset_imports.get('', 0)} has no Attention"
                pattern = Miss(softmax, f"{reason}, {SINCE} has")
            if isinstance(pattern, Miss):
                refusals.append(Refusal(label(softmax), describe(pattern)))
            elif pattern is not None:
                found.append((softmax, pattern))
        # Masks are made at the first attention that needs them, and shared by those after it.
        found.sort(key=lambda item: places[item[1].product])
        done = 0
        masks: dict[ir.Graph, Masks] = {}
        for softmax, pattern in found:
            graph = softmax.graph
            assert isinstance(graph, ir.Graph)
            miss = _Rewrite(pattern, masks.setdefault(graph, Masks(graph))).apply()
            if miss is not None:
                refusals.append(Refusal(label(softmax), describe(miss)))
            else:
                done += 1
        for made in masks.values():
            made.sweep()
        flattened = sum(_flatten(node) for node in apart)
        detail = f"{done} attentions"
        if flattened:
            detail += f", {flattened} taken before their heads are split"
        return Outcome(done + flattened, tuple(refusals), detail=detail)


class _Rewrite:
    """The rewriting of one attention."""

    def __init__(self, pattern: Pattern, masks: Masks) -> None:
        self._pattern = pattern
        self._masks = masks
        self._before = pattern.product

    def apply(self) -> Miss | None:
        """Rewrite; what is in the way, where something is."""
        pattern = self._pattern
        query, key, value = pattern.query, pattern.key, pattern.value
        if not pattern.key_last:
            key = transposed(key, self._before)
        if not pattern.single:
            query, key, value = self._grouped(query, key, value)
        query = self._for_each_row(query, key)
        result = _with_heads_after(pattern.product.outputs[0])
        flat = None
        if not pattern.single and result is not None:
            flat = _before_split(query, key, value, result)
        frame = self._frame(query, key, flat)
        mask = self._misfit(query, key, value) or self._masks.mask(
            pattern.scores, frame, self._before
        )
        if isinstance(mask, Miss):
            prune([key, query])
            return mask
        for factor in pattern.scores.multipliers:
            flat = None
            query = insert(self._before, "Mul", [query, factor], like=query, shape=query.shape)
        answer_sizes(pattern.sizes, query, key)
        inputs = [query, key, value] if flat is None else [part.source for part in flat[0]]
        self._replace(inputs, mask, result, flat)
        prune([key])
        return None

    def _for_each_row(self, query: ir.Value, key: ir.Value) -> ir.Value:
        """The queries, repeated for the rows of the batch where these share them (learned ones)."""
        assert query.shape is not None and key.shape is not None
        if query.shape[0] != 1 or key.shape[0] == 1:
            return query
        ones = self._masks.integers("ones", [1] * (rank(query) - 1))
        rows = insert(
            self._before, "Shape", [key], like=ones, shape=ir.Shape([1]), start=0, end=1
        )  # fmt: skip
        target = insert(
            self._before, "Concat", [rows, ones], like=ones, shape=ir.Shape([rank(query)]), axis=0
        )
        shape = ir.Shape([key.shape[0], *list(query.shape)[1:]])
        return insert(self._before, "Expand", [query, target], like=query, shape=shape)

    def _frame(
        self, query: ir.Value, key: ir.Value, flat: tuple[list[Split], ir.Value] | None
    ) -> Frame:
        rows, keys = (query, rank(query) - 2), (key, rank(key) - 2)
        if flat is not None:
            rows, keys = (flat[0][0].source, 1), (flat[0][1].source, 1)
        heads = 0 if self._pattern.single else _heads(query) or 0
        return Frame(query, heads, rows, keys, self._pattern.guarded)

    def _grouped(
        self, query: ir.Value, key: ir.Value, value: ir.Value
    ) -> tuple[ir.Value, ir.Value, ir.Value]:
        assert query.shape is not None
        heads = query.shape[1]
        if isinstance(heads, int):
            few = without_repeats(key, heads), without_repeats(value, heads)
            if few[0] is not key and few[1] is not value and _heads(few[0]) == _heads(few[1]):
                return query, *few
        return query, key, value

    def _misfit(self, query: ir.Value, key: ir.Value, value: ir.Value) -> Miss | None:
        """Why the operator does not take these operands."""
        node = self._pattern.scores.product
        for item, role in ((key, "keys"), (value, "values")):
            assert item.shape is not None and query.shape is not None
            if item.shape[0] == 1 and query.shape[0] != 1:
                return Miss(node, f"its {role} are shared by the rows of the batch")
        if self._pattern.single:
            return None
        heads, groups = _heads(query), _heads(key)
        if heads is None or groups is None or groups != _heads(value) or heads % groups:
            return Miss(node, f"it has {heads} heads of queries, {groups} of keys")
        return None

    def _replace(
        self,
        operands: list[ir.Value],
        mask: ir.Value | None,
        apart: ir.Value | None,
        flat: tuple[list[Split], ir.Value] | None,
    ) -> None:
        product, scores = self._pattern.product, self._pattern.scores
        result = product.outputs[0]
        attributes: dict[str, int | float] = {"scale": self._pattern.scale}
        if scores.cap:
            attributes["softcap"] = scores.cap
        if scores.cast is ir.DataType.FLOAT and operands[0].dtype != ir.DataType.FLOAT:
            attributes["softmax_precision"] = ir.DataType.FLOAT.value
        if self._pattern.single:
            attributes |= {"q_num_heads": 1, "kv_num_heads": 1}
        elif flat is not None:
            splits, result = flat
            attributes |= {"q_num_heads": splits[0].heads, "kv_num_heads": splits[1].heads}
        elif apart is not None:
            result = apart
        inputs = operands if mask is None else [*operands, mask]
        node = ir.node("Attention", inputs, attributes)
        graph = product.graph
        assert isinstance(graph, ir.Graph)
        graph.insert_before(product, node)
        output = node.outputs[0]
        output.type = result.type
        output.shape = result.shape
        if not self._pattern.single and rank(result) == 3 and flat is None:
            output = self._merged(output, result)
        take_over(result, output)

    def _merged(self, output: ir.Value, result: ir.Value) -> ir.Value:
        """The operator's [batch, heads, ...] as the [batch * heads, ...] that was there."""
        output.shape = None
        like = self._masks.integers("lead", [-1])
        before = self._before
        tail = insert(before, "Shape", [output], like=like, shape=ir.Shape([2]), start=2, end=4)
        target = insert(before, "Concat", [like, tail], like=like, shape=ir.Shape([3]), axis=0)
        return insert(before, "Reshape", [output, target], like=output, shape=result.shape)


def _before_split(
    query: ir.Value, key: ir.Value, value: ir.Value, result: ir.Value
) -> tuple[list[Split], ir.Value] | None:
    """The operands before heads were split, and the result after they are merged."""
    splits = [split_heads(item) for item in (query, key, value)]
    merged = merged_heads(result)
    if merged is None or any(split is None for split in splits):
        return None
    return [split for split in splits if split is not None], merged


def _flatten(node: ir.Node) -> bool:
    """Let an `Attention` of a source model read its operands before their heads are split."""
    query, key, value, *rest = node.inputs
    assert query is not None and key is not None and value is not None
    result = node.outputs[0]
    if rank(query) != 4 or len(node.outputs) > 1 or any(item is not None for item in rest[1:]):
        return False
    flat = _before_split(query, key, value, result)
    if flat is None:
        return False
    splits, merged = flat
    attributes = dict(node.attributes)
    heads = {"q_num_heads": splits[0].heads, "kv_num_heads": splits[1].heads}
    attributes |= {name: ir.AttrInt64(name, count) for name, count in heads.items()}
    inputs = [*(split.source for split in splits), *rest]
    flattened = ir.Node("", "Attention", inputs, attributes.values())
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    graph.insert_before(node, flattened)
    output = flattened.outputs[0]
    output.type, output.shape = merged.type, merged.shape
    take_over(merged, output)
    return True


def _heads(value: ir.Value) -> int | None:
    count = value.shape[1] if value.shape is not None else None
    return count if isinstance(count, int) else None


def _with_heads_after(result: ir.Value) -> ir.Value | None:
    """The result [batch, heads, queries, size]: itself, or that which its only reader makes."""
    if rank(result) == 4:
        return result
    reader = only_reader(result)
    if reader is None or reader.op_type != "Reshape":
        return None
    apart = reader.outputs[0]
    return apart if rank(apart) == 4 else None
