"""Rotary position embedding, in whatever spelling, becomes ONNX's operator."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.products import label
from burnish.optimizer.analysis.rotary.pairs import Factor, Rotation
from burnish.optimizer.analysis.rotary.rotations import Finder
from burnish.optimizer.analysis.shapes import element_types
from burnish.optimizer.analysis.sizes import Sizes, declared
from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase, Refusal
from burnish.optimizer.pruning import take_over
from burnish.passes.recover.rotary_tables import ONE, Table, Tables

OPSET = 23
"""Operator set that `RotaryEmbedding` came with."""

TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class Rotary(Pass):
    """Write rotary position embeddings as `RotaryEmbedding`.

    What becomes of each feature is followed through slices, splits, concatenations, reshapes,
    products and sums. A value where the features of a pair (a, b) are `a cos - b sin` and
    `b cos + a sin` is a rotary embedding, whether pairs are half a head apart or neighbours, the
    sign is in the features or in the table, or only the first features rotate.

    Before:
        `Add(Mul(x, cos), Mul(Concat(Neg(x[d/2:]), x[:d/2]), sin))` and everything equal to it, for
        `x` of [batch, heads, sequence, d], [batch, sequence, heads, d], [batch, sequence, d] or
        [sequence, heads, d].
    After:
        `RotaryEmbedding(x, cos', sin')` with tables of [batch, sequence, d/2] that all layers
        share. `rotary_embedding_dim` and `interleaved` say what rotates.
        Where an exporter has written the operator with tables of one row, they are repeated for
        the batch, which ONNX Runtime wants.
    Refuses when:
        The two features of a pair are not proved to have the same cosine and sine, the tables
        differ between heads or have sizes that the graph does not prove to be those of `x`, or
        the model's operator set is older than 23.
    Numerics:
        Rounding; the same products and sums, in the order of the operator's kernel.
    """

    name = "rotary"
    phase = Phase.RECOVER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
        sizes, order = Sizes.of(model), {node: place for place, node in enumerate(nodes)}
        finder, rewriter = Finder(sizes, order), _Rewriter(model, sizes, order)
        refusals, done = [], sum(map(rewriter.mend, nodes))
        mended = done
        inputs = [value for graph in _graphs(model) for value in graph.inputs]
        for value in (*inputs, *(value for node in nodes for value in node.outputs)):
            if (found := finder.find(value)) is None:
                continue
            problem = found.problem or rewriter.rewrite(found)
            done += not problem
            if problem:
                maker = found.output.producer()
                assert maker is not None
                refusals.append(Refusal(label(maker), problem))
        detail = f"{done - mended} rotary embeddings"
        detail += f", {mended} given tables for each row of the batch" if mended else ""
        return Outcome(done, tuple(refusals), detail=detail)


def _graphs(model: ir.Model) -> list[ir.Graph]:
    return [model.graph, *model.graph.subgraphs()]


@dataclass(frozen=True)
class _Layout:
    """The axes of a value: `batch` is -1 where it has none, `heads` where it has one head."""

    batch: int
    sequence: int
    heads: int


class _Rewriter:
    """Puts the operator in place of rotations."""

    def __init__(self, model: ir.Model, sizes: Sizes, order: dict[ir.Node, int]) -> None:
        self._model = model
        self._types: dict[str, ir.DataType] | None = None
        self._opset = model.opset_imports.get("", 0)
        self._sizes = sizes
        self._tables = Tables(model, sizes, order)

    def mend(self, node: ir.Node) -> bool:
        """Repeat tables of one row for the batch, as the operator wants it; whether that was so.

        PyTorch's dynamo exporter writes such tables, with which nothing but a batch of one runs.
        """
        if node.op_type != "RotaryEmbedding" or node.domain != "":
            return False
        source, *tables = node.inputs[:3]
        shape = self._sizes.shape(source)
        if source is None or not shape:
            return False
        if len(node.inputs) > 3 and node.inputs[3] is not None:
            return False
        rows, changed = (0, len(shape) - 2), False
        for index, value in enumerate(tables, 1):
            mine = self._sizes.shape(value)
            wide = mine is not None and len(mine) == 3 and mine[0] == ONE != shape[0]
            if value is None or mine is None or not wide or mine[1] != shape[rows[1]]:
                continue
            factor = Factor(value, 1, tuple(range(mine[2].number or 0)))
            assert isinstance(node.graph, ir.Graph)
            table = Table(value, 1, rows)
            made = self._tables.prepare(table, factor, rows, source, node.graph)
            node.replace_input_with(index, made)
            changed = True
        return changed

    def rewrite(self, rotation: Rotation) -> str:
        """Rewrite; why not, in words, where that cannot be."""
        if self._opset < OPSET:
            return f"RotaryEmbedding came with operator set {OPSET}, the model has {self._opset}"
        kind = self._type(rotation.source)
        if kind not in TYPES:
            return f"the operator does not take {kind.name if kind else 'an unknown type'}"
        factors, tables = [rotation.cosine, rotation.sine], []
        shape = self._sizes.shape(rotation.source) or ()
        if len(shape) > 4:
            return f"it has {len(shape)} axes, and the operator takes 3 or 4"
        for factor in factors:
            table = Table.of(factor, len(shape), self._sizes) if factor is not None else None
            if factor is None or table is None:
                return "the tables have more axes than the value"
            tables.append((table, factor))
        layout = self._layout(rotation, [table for table, _ in tables])
        if isinstance(layout, str):
            return layout
        self._write(rotation, tables, layout)
        return ""

    def _type(self, value: ir.Value) -> ir.DataType | None:
        """The type of a value's elements; asked of ONNX where the graph does not say."""
        if value.dtype is not None:
            return value.dtype
        if self._types is None:
            self._types = element_types(self._model)
        return self._types.get(value.name or "")

    def _layout(self, rotation: Rotation, tables: list[Table]) -> _Layout | str:
        shape, varying = self._sizes.shape(rotation.source) or (), set()
        for table in tables:
            for axis, size in table.varying(self._sizes).items():
                varying.add(axis)
                if size != shape[axis]:
                    name = table.value.name
                    return f"the graph does not prove that table {name} has its size of axis {axis}"
        if len(shape) == 2:
            return "it has no axis of heads or batch"
        if len(shape) == 3:
            return _Layout(-1, 0, 1) if varying == {0} else _Layout(0, 1, -1)
        if {1, 2} <= varying:
            return "the tables differ between heads"
        return _Layout(0, 1, 2) if 1 in varying else _Layout(0, 2, 1)

    def _write(
        self, rotation: Rotation, tables: list[tuple[Table, Factor]], layout: _Layout
    ) -> None:
        source, output = rotation.source, rotation.output
        root = output.producer()
        assert root is not None and isinstance(root.graph, ir.Graph)
        shape, rows = self._sizes.shape(source) or (), (layout.batch, layout.sequence)
        caches = [
            self._tables.prepare(table, factor, rows, source, root.graph)
            for table, factor in tables
        ]
        width = rotation.width if rotation.width < (shape[-1].number or 0) else 0
        attributes = {
            "interleaved": int(rotation.interleaved) or None,
            "rotary_embedding_dim": width or None,
        }
        nodes = self._nodes(source, caches, layout, attributes)
        result = nodes[-1].outputs[0]
        element = self._type(source)
        kind = source.type or (ir.TensorType(element) if element is not None else None)
        for node in nodes:
            self._sizes.visit(node)
            value, made = node.outputs[0], self._sizes.shape(node.outputs[0])
            value.type = kind
            value.shape = declared(made) if made is not None else None
        if output.shape is not None:
            result.shape = output.shape
        root.graph.insert_before(root, nodes)
        take_over(output, result)

    def _nodes(
        self,
        source: ir.Value,
        caches: list[ir.Value],
        layout: _Layout,
        attributes: dict[str, int | None],
    ) -> list[ir.Node]:
        """The operator with what brings the value into one of its layouts, and back."""
        shape = self._sizes.shape(source) or ()
        given = {name: number for name, number in attributes.items() if number is not None}
        if layout.heads < 0:
            return [ir.node("RotaryEmbedding", [source, *caches], {**given, "num_heads": 1})]
        if layout.heads == 1 and layout.batch == 0:
            return [ir.node("RotaryEmbedding", [source, *caches], given)]
        heads, features = shape[layout.heads].number, shape[-1].number or 0
        if heads is None or layout.batch < 0:
            return self._transposed(source, caches, layout, given)
        constant = self._tables.constant
        flat = ir.node("Reshape", [source, constant(0, 0, -1)])
        wide = {**given, "num_heads": heads}
        turned = ir.node("RotaryEmbedding", [flat.outputs[0], *caches], wide)
        back = ir.node("Reshape", [turned.outputs[0], constant(0, 0, heads, features)])
        return [flat, turned, back]

    def _transposed(
        self, source: ir.Value, caches: list[ir.Value], layout: _Layout, given: dict[str, int]
    ) -> list[ir.Node]:
        nodes, value = [], source
        if layout.batch < 0:
            nodes.append(ir.node("Unsqueeze", [value, self._tables.constant(0)]))
            value = nodes[-1].outputs[0]
        order = {"perm": (0, 2, 1, 3)}
        nodes.append(ir.node("Transpose", [value], order))
        nodes.append(ir.node("RotaryEmbedding", [nodes[-1].outputs[0], *caches], given))
        nodes.append(ir.node("Transpose", [nodes[-1].outputs[0]], order))
        if layout.batch < 0:
            nodes.append(ir.node("Squeeze", [nodes[-1].outputs[0], self._tables.constant(0)]))
        return nodes
