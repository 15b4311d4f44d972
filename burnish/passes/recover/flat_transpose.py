"""A transpose of the last two axes, written with the others flattened, becomes a plain one."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.matching import made_by, only_reader
from burnish.optimizer.analysis.products import label
from burnish.optimizer.analysis.sizes import Shape, Sizes
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
        chains = list(filter(None, map(_chain, ir.traversal.RecursiveGraphIterator(model.graph))))
        sizes = Sizes.of(model) if chains else Sizes()
        for flatten, transpose, node in chains:
            source = flatten.inputs[0]
            shape = sizes.shape(source)
            if source is None or shape is None or len(shape) < 4:
                continue
            if not _swaps_the_last(shape, flatten, node, sizes):
                reason = "its sizes are not those of the last two axes, as far as the graph says"
                refusals.append(Refusal(label(node), reason))
                continue
            _rewrite(source, len(shape), (flatten, transpose, node))
            done += 1
        return Outcome(done, tuple(refusals), detail=f"{done} transposes")


def _chain(restore: ir.Node) -> tuple[ir.Node, ir.Node, ir.Node] | None:
    """A Reshape, a Transpose and a Reshape, where nothing else reads what the first two give."""
    transpose = _only(restore, "Reshape", "Transpose")
    flatten = _only(transpose, "Transpose", "Reshape") if transpose is not None else None
    if transpose is None or flatten is None or flatten.inputs[0] is None:
        return None
    flat = transpose.attributes.get_ints("perm", ()) == (0, 2, 1)
    return (flatten, transpose, restore) if flat else None


def _only(node: ir.Node, operator: str, before: str) -> ir.Node | None:
    """The producer of a node's data where it has that operator and no other reader."""
    value = node.inputs[0] if node.op_type == operator and node.domain == "" else None
    producer = made_by(value, before)
    if value is None or producer is None or only_reader(value) is not node:
        return None
    return producer if producer.graph is node.graph else None


def _swaps_the_last(shape: Shape, flatten: ir.Node, restore: ir.Node, sizes: Sizes) -> bool:
    flat, restored = sizes.shape(flatten.outputs[0]), sizes.shape(restore.outputs[0])
    if flat is None or len(flat) != 3 or flat[1:] != shape[-2:]:
        return False
    return restored == (*shape[:-2], shape[-1], shape[-2])


def _rewrite(source: ir.Value, rank: int, nodes: tuple[ir.Node, ...]) -> None:
    restore = nodes[-1]
    result, graph = restore.outputs[0], restore.graph
    assert isinstance(graph, ir.Graph)
    plain = ir.node("Transpose", [source], {"perm": (*range(rank - 2), rank - 1, rank - 2)})
    value, name = plain.outputs[0], result.name
    value.type, value.shape = result.type, result.shape
    graph.insert_before(restore, plain)
    ir.convenience.replace_all_uses_with(result, value, replace_graph_outputs=True)
    graph.remove(list(reversed(nodes)), safe=True)
    value.name = name
