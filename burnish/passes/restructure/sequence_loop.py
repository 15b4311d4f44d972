"""The loop over sequences that an attention of packed tokens may become."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import made_by
from burnish.optimizer.constants import Constants
from burnish.optimizer.pruning import take_over
from burnish.passes.lower.attention.facts import Facts

DENSE = 3, 4
"""Tokens, of so many places, from which on attention runs in the padded layout after all.

Without padding the loop lost 3 % of a model's time at 16 x 64. At 16 x 60 both took equally long
where about three of four places held tokens; of longer sequences the loop is faster even so.
"""


@dataclass(frozen=True)
class Place:
    """An attention between values that are unpacked for it and a result that is packed again.

    Attributes:
        result: the attention's, on tokens.
        causal: whether no token sees a later one.
    """

    node: ir.Node
    facts: Facts
    result: ir.Value
    causal: bool

    @property
    def operands(self) -> list[ir.Value]:
        """Queries, keys and values on tokens, [1, tokens, heads * size]."""
        unpacked = (unpacked_from(value) for value in self.node.inputs[:3])
        return [value for _, value in filter(None, unpacked)]


@dataclass(frozen=True)
class Walk:
    """What all loops over the sequences of one mask share.

    Attributes:
        places, tokens: indices that unpack and pack.
        dense: whether so many places hold tokens that the padded layout is as fast.
        bounds: [sequences + 1], where each begins among the tokens, and where the last ends.
        seen: [1, tokens], whether a token is seen; None where all are.
        count: number of sequences.
        always: true.
        empty: a sequence of no tensors.
        one: a vector of the number 1.
        extent: a vector of the number of tokens.
        constants: of the graph.
    """

    places: ir.Value
    tokens: ir.Value
    dense: ir.Value
    bounds: ir.Value
    seen: ir.Value | None
    count: ir.Value
    always: ir.Value
    empty: ir.Value
    one: ir.Value
    extent: ir.Value
    constants: Constants


def unpacked_from(value: ir.Value | None) -> tuple[ir.Value, ir.Value] | None:
    """The index by which a value was unpacked, and what it was unpacked from."""
    node = made_by(value, "GatherND")
    if node is None or node.inputs[0] is None or node.inputs[1] is None:
        return None
    return node.inputs[1], node.inputs[0]


def attributes(facts: Facts, *, causal: bool) -> dict[str, int | float]:
    """Of the operator on values of three axes."""
    return {
        "q_num_heads": facts.heads,
        "kv_num_heads": facts.groups,
        "scale": facts.scale,
        "softcap": facts.cap,
        "is_causal": int(causal),
    }


def walk(
    before: ir.Node, places: ir.Value, tokens: ir.Value, bounds: ir.Value, seen: ir.Value | None
) -> Walk:
    """Write what loops over sequences share, before the first of their attentions."""
    graph = before.graph
    assert isinstance(graph, ir.Graph)

    def emit(operator: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        node = ir.node(operator, inputs, attributes)
        graph.insert_before(before, node)
        return node.outputs[0]

    # There are two numbers for each place.
    numbers = {"one": 1, "least": DENSE[0], "whole": 2 * DENSE[1]}
    constants = Constants()
    one, least, whole = (
        constants.of(graph, name, np.array([number])) for name, number in numbers.items()
    )
    always = constants.of(graph, "always", np.array(True))
    count = emit("Squeeze", emit("Sub", emit("Shape", bounds), one))
    extent = emit("Shape", tokens, start=1, end=2)
    dense = emit(
        "GreaterOrEqual", emit("Mul", extent, whole), emit("Mul", emit("Size", places), least)
    )
    empty = emit("SequenceEmpty", dtype=ir.DataType.FLOAT.value)
    return Walk(places, tokens, dense, bounds, seen, count, always, empty, one, extent, constants)


def write(place: Place, walk: Walk) -> None:
    """Put a choice in place of an attention: the padded layout, or a loop over sequences."""
    graph, result, facts = place.node.graph, place.result, place.facts
    assert isinstance(graph, ir.Graph)
    branches = [
        ir.AttrGraph("then_branch", _padded(place, walk)),
        ir.AttrGraph("else_branch", _looped(place, walk)),
    ]
    chosen = ir.Node("", "If", [walk.dense], branches)
    # Nothing moves; but what comes out of a loop has no size, and this one's is known.
    width = np.array([facts.heads * facts.value_size])
    sizes = [walk.one, walk.extent, walk.constants.of(graph, "width", width)]
    target = ir.node("Concat", sizes, {"axis": 0})
    sized = ir.node("Reshape", [chosen.outputs[0], target.outputs[0]])
    for value in (chosen.outputs[0], sized.outputs[0]):
        value.type, value.shape = result.type, result.shape
    graph.insert_before(place.node, [chosen, target, sized])
    take_over(result, sized.outputs[0])


class _Inner:
    """Writes the nodes of a subgraph; values are named after what the attention gives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[ir.Node] = []

    def emit(self, operator: str, *inputs: ir.Value | None, **attributes: int | float) -> ir.Value:
        return self.add(ir.node(operator, inputs, attributes))

    def add(self, node: ir.Node) -> ir.Value:
        self.nodes.append(node)
        node.outputs[0].name = f"{self.name}_{len(self.nodes)}"
        return node.outputs[0]


def _padded(place: Place, walk: Walk) -> ir.Graph:
    """The attention as it was, with what it is unpacked by and packed again."""
    inner, node = _Inner(f"{place.result.name}_padded"), place.node
    operands = [inner.emit("GatherND", item, walk.places) for item in place.operands]
    attention = ir.Node(
        "", "Attention", [*operands, *node.inputs[3:]], list(node.attributes.values())
    )
    packed = inner.emit("GatherND", inner.add(attention), walk.tokens)
    packed.type, packed.shape = place.result.type, place.result.shape
    return ir.Graph([], [packed], nodes=inner.nodes, name="padded")


def _looped(place: Place, walk: Walk) -> ir.Graph:
    """The attention of each sequence, one after the other."""
    inner = _Inner(f"{place.result.name}_by_sequence")
    body = ir.AttrGraph("body", _body(place, walk))
    whole = inner.add(ir.Node("", "Loop", [walk.count, walk.always, walk.empty], [body]))
    whole.type = ir.SequenceType(ir.TensorType(ir.DataType.FLOAT))
    joined = inner.emit("ConcatFromSequence", whole, axis=1)
    joined.type, joined.shape = place.result.type, place.result.shape
    return ir.Graph([], [joined], nodes=inner.nodes, name="by_sequence")


def _body(place: Place, walk: Walk) -> ir.Graph:
    """One turn of the loop: a sequence attends to itself, and joins those before it."""
    name = f"{place.result.name}_of_sequence"
    turn = ir.val(f"{name}_number", ir.DataType.INT64, ())
    going = ir.val(f"{name}_going", ir.DataType.BOOL, ())
    kind = ir.SequenceType(ir.TensorType(ir.DataType.FLOAT))
    before = ir.Value(name=f"{name}_before", type=kind)
    inner = _Inner(name)
    emit = inner.emit
    one = walk.one
    number = emit("Reshape", turn, one)
    start = emit("Gather", walk.bounds, number)
    end = emit("Gather", walk.bounds, emit("Add", number, one))
    operands = [emit("Slice", item, start, end, one) for item in place.operands]
    for item, packed in zip(operands, place.operands, strict=True):
        assert packed.shape is not None
        item.type, item.shape = packed.type, ir.Shape((1, None, packed.shape[2]))
    if walk.seen is not None:
        here = emit("Slice", walk.seen, start, end, one)
        square = emit("Concat", one, one, *[emit("Sub", end, start)] * 2, axis=0)
        operands.append(emit("Expand", here, square))
    attended = emit("Attention", *operands, **attributes(place.facts, causal=place.causal))
    after = emit("SequenceInsert", before, attended)
    after.type = kind
    on = emit("Identity", going)
    on.type, on.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape(())
    return ir.Graph([turn, going, before], [on, after], nodes=inner.nodes, name="sequence")
