"""A transpose of the last two axes, written with the others flattened, becomes a plain one."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.extents import extents, size
from burnish.optimizer.analysis.products import label
from burnish.optimizer.contract import EXACT, Context, Outcome, Pass, Phase, Refusal


@dataclass(frozen=True)
class FlatTranspose(Pass):
    """Transpose the last two axes without flattening the others first.

    PyTorch's dynamo exporter writes the transposed keys of an attention so. ONNX Runtime merges a
    plain transpose with the one before it, or with the product after it, and these not.

    Before:
        `Reshape(Transpose<perm = 0, 2, 1>(Reshape(x, [-1, m, n])), [..., n, m])` for `x` of shape
        `[..., m, n]`.
    After:
        `Transpose<perm = ..., r-1, r-2>(x)`.
    Refuses when:
        The sizes are not those of the axes of `x`, as far as the graph says.
    Numerics:
        Exact; no arithmetic.
    """

    name = "flat-transpose"
    phase = Phase.RECOVER
    promise = EXACT

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        done, refusals = 0, []
        for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
            chain = _chain(node)
            if chain is None:
                continue
            flatten, transpose = chain
            source = flatten.inputs[0]
            assert source is not None
            if not _swaps_the_last(source, flatten, node):
                reason = "its sizes are not those of the last two axes, as far as the graph says"
                refusals.append(Refusal(label(node), reason))
                continue
            _rewrite(source, (flatten, transpose, node))
            done += 1
        return Outcome(done, tuple(refusals), detail=f"{done} transposes")


def _chain(restore: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """The Reshape and the Transpose before a Reshape, where nothing else reads what they give."""
    transpose = _only(restore, "Reshape", "Transpose")
    flatten = _only(transpose, "Transpose", "Reshape") if transpose is not None else None
    if transpose is None or flatten is None or flatten.inputs[0] is None:
        return None
    flat = transpose.attributes.get_ints("perm", ()) == (0, 2, 1)
    deep = flatten.inputs[0].shape is not None and len(flatten.inputs[0].shape) > 3
    return (flatten, transpose) if flat and deep else None


def _only(node: ir.Node, operator: str, before: str) -> ir.Node | None:
    """The producer of a node's data where it has that operator and no other reader."""
    value = node.inputs[0] if node.op_type == operator and node.domain == "" else None
    producer = value.producer() if value is not None else None
    if value is None or producer is None or producer.op_type != before:
        return None
    alone = len(value.uses()) == 1 and not value.is_graph_output()
    return producer if alone and producer.graph is node.graph else None


def _swaps_the_last(source: ir.Value, flatten: ir.Node, restore: ir.Node) -> bool:
    assert source.shape is not None
    sizes = [size(source, axis) for axis in range(len(source.shape))]
    flat, restored = extents(flatten.inputs[1]), extents(restore.inputs[1])
    return (
        flat is not None
        and len(flat) == 3
        and flat[1:] == sizes[-2:]
        and restored == [*sizes[:-2], sizes[-1], sizes[-2]]
    )


def _rewrite(source: ir.Value, nodes: tuple[ir.Node, ...]) -> None:
    restore = nodes[-1]
    result, graph = restore.outputs[0], restore.graph
    assert isinstance(graph, ir.Graph) and source.shape is not None
    rank = len(source.shape)
    plain = ir.node("Transpose", [source], {"perm": (*range(rank - 2), rank - 1, rank - 2)})
    value, name = plain.outputs[0], result.name
    value.type, value.shape = result.type, result.shape
    graph.insert_before(restore, plain)
    ir.convenience.replace_all_uses_with(result, value, replace_graph_outputs=True)
    graph.remove(list(reversed(nodes)), safe=True)
    value.name = name
