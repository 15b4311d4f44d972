"""Attention of packed tokens sequence by sequence, so that none attends to a padded one."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.masks import Masks
from burnish.optimizer.analysis.matching import made_by, only_reader
from burnish.optimizer.analysis.products import label
from burnish.optimizer.contract import Context, Refusal
from burnish.optimizer.model import add_initializer
from burnish.optimizer.pruning import take_over
from burnish.passes.lower.attention.facts import Facts, facts_of
from burnish.passes.lower.attention.meaning import meaning_of
from burnish.passes.restructure.token_indices import TokenIndices

PADDED, BY_SEQUENCE = "padded", "by sequence"

LOOPING = ("cpu",)
"""Providers for which a loop is taken unmeasured; for others nothing was measured, and none is.

On a processor the loop took 0.4 to 0.8 times as long as the padded layout for 8 to 32 sequences of
up to 60 to 512 tokens, of which 58 to 71 % were real.
"""

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
        unpacked = (_packed(value) for value in self.node.inputs[:3])
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


def attend(model: ir.Model, indices: TokenIndices, context: Context) -> tuple[int, list[Refusal]]:
    """Let attentions of a packed model run by sequence where that is faster; how many, why not."""
    done, refusals, masks = 0, [], Masks()
    walk: Walk | None = None
    nodes = [node for node in model.graph if (node.domain, node.op_type) == ("", "Attention")]
    if nodes:
        shapes.annotate(model)
    # All of them first: what is known of masks is valid as long as nothing is changed.
    for node, place in [(node, _place(node, indices, masks)) for node in nodes]:
        reason = place if isinstance(place, str) else _why_padded(place, indices, context)
        if reason:
            refusals.append(Refusal(label(node), f"attends in the padded layout: {reason}"))
        elif isinstance(place, Place):
            if walk is None:
                seen = indices.get("seen") if indices.selected else None
                places, tokens = indices.get("places"), indices.get("tokens")
                walk = _walk(node, places, tokens, indices.get("segments"), seen)
            _write(place, walk)
            done += 1
    return done, refusals


def _place(node: ir.Node, indices: TokenIndices, masks: Masks) -> Place | str:
    """The place of an attention, or why it has to attend in the padded layout."""
    facts = facts_of(node)
    if isinstance(facts, str):
        return facts
    if len(node.inputs) > 4 or facts.kept:
        return "it keeps keys and values"
    if not facts.flat:
        return "its operands have their heads apart"
    for value in node.inputs[:3]:
        found = _packed(value)
        if found is None or found[0] is not indices.get("places"):
            return "its queries, keys and values are not all made by packed layers"
    again = only_reader(node.outputs[0])
    if again is None or again.op_type != "GatherND" or again.inputs[1] is not indices.get("tokens"):
        return "its result is not packed again"
    meaning = meaning_of(node, facts, masks)
    if meaning.rest:
        return meaning.rest
    if meaning.padding is None or _uncast(meaning.padding) is not indices.mask:
        return "its mask does not hide the same tokens"
    return Place(node, facts, again.outputs[0], meaning.causal)


def _packed(value: ir.Value | None) -> tuple[ir.Value, ir.Value] | None:
    """The index by which a value was unpacked, and what it was unpacked from."""
    node = made_by(value, "GatherND") if value is not None else None
    if node is None or node.inputs[0] is None or node.inputs[1] is None:
        return None
    return node.inputs[1], node.inputs[0]


def _uncast(value: ir.Value) -> ir.Value:
    node = value.producer()
    while node is not None and node.op_type == "Cast" and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _why_padded(place: Place, indices: TokenIndices, context: Context) -> str:
    """Why the padded layout is better; empty where it is not."""
    if context.provider not in LOOPING:
        return "nothing was measured on this provider"
    names = [dim.value for dim in indices.mask.shape or () if isinstance(dim, ir.SymbolicDim)]
    batch, length = (context.sizes.get(name or "", 0) for name in names)
    if not batch or not length:
        return ""
    facts = place.facts
    key = f"packed attention {batch}x{length} heads={facts.heads}/{facts.groups}"
    key += f" size={facts.size}/{facts.value_size}{' causal' if place.causal else ''}"
    forms = {
        form: functools.partial(sample, place, batch, length, form)
        for form in (PADDED, BY_SEQUENCE)
    }
    choice = context.choose(key, forms, BY_SEQUENCE)
    if choice.winner == BY_SEQUENCE:
        return ""
    return f"by sequence is not measurably faster ({choice.speedup:.2f} times)"


def sample(place: Place, batch: int, length: int, form: str) -> onnx.ModelProto:
    """An attention between packed values as a model: lengths run evenly up to `length`."""
    lengths = [-(-length * (row + 1) // batch) for row in range(batch)]
    seen = np.arange(length) < np.array(lengths)[:, None]
    tokens = np.concatenate([[[0, 0]], np.argwhere(seen)])[None]
    rows = np.cumsum(seen).reshape(seen.shape) * seen
    facts, count = place.facts, tokens.shape[1]
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 23}, name="sample")
    constants = {
        "places": np.stack([np.zeros_like(rows), rows], axis=-1),
        "tokens": tokens,
        "mask": np.repeat(seen[:, None, None], length, axis=2),
        "segments": np.concatenate([[0], np.cumsum([1, *lengths])]),
    }
    known = {
        name: add_initializer(graph, name, ir.tensor(item)) for name, item in constants.items()
    }
    widths = (
        facts.heads * facts.size, facts.groups * facts.size, facts.groups * facts.value_size
    )  # fmt: skip
    for name, width in zip(("query", "key", "value"), widths, strict=True):
        graph.inputs.append(ir.val(name, ir.DataType.FLOAT, (1, count, width)))
    unpacked = [ir.node("GatherND", [item, known["places"]]) for item in graph.inputs]
    wholes = [item.outputs[0] for item in unpacked]
    node = ir.node("Attention", [*wholes, known["mask"]], _attributes(facts, causal=place.causal))
    again = ir.node("GatherND", [node.outputs[0], known["tokens"]])
    graph.extend([*unpacked, node, again])
    result = again.outputs[0]
    result.name, result.type = "result", ir.TensorType(ir.DataType.FLOAT)
    result.shape = ir.Shape((1, count, facts.heads * facts.value_size))
    graph.outputs.append(result)
    if form == BY_SEQUENCE:
        walk = _walk(node, known["places"], known["tokens"], known["segments"], None)
        _write(Place(node, facts, result, place.causal), walk)
    return ir.to_proto(ir.Model(graph, ir_version=11))


def _attributes(facts: Facts, *, causal: bool) -> dict[str, int | float]:
    """Of the operator on values of three axes."""
    return {
        "q_num_heads": facts.heads,
        "kv_num_heads": facts.groups,
        "scale": facts.scale,
        "softcap": facts.cap,
        "is_causal": int(causal),
    }


def _walk(
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
    one, least, whole = (
        add_initializer(graph, name, ir.tensor(np.array([number])))
        for name, number in numbers.items()
    )
    always = add_initializer(graph, "always", ir.tensor(np.array(True)))
    count = emit("Squeeze", emit("Sub", emit("Shape", bounds), one))
    extent = emit("Shape", tokens, start=1, end=2)
    dense = emit(
        "GreaterOrEqual", emit("Mul", extent, whole), emit("Mul", emit("Size", places), least)
    )
    empty = emit("SequenceEmpty", dtype=ir.DataType.FLOAT.value)
    return Walk(places, tokens, dense, bounds, seen, count, always, empty, one, extent)


def _write(place: Place, walk: Walk) -> None:
    """Put a choice in place of an attention: the padded layout, or a loop over sequences."""
    graph, result, facts = place.node.graph, place.result, place.facts
    assert isinstance(graph, ir.Graph)
    branches = [
        ir.AttrGraph("then_branch", _padded(place, walk)),
        ir.AttrGraph("else_branch", _looped(place, walk)),
    ]
    chosen = ir.Node("", "If", [walk.dense], branches)
    # Nothing moves; but what comes out of a loop has no size, and this one's is known.
    width = ir.tensor(np.array([facts.heads * facts.value_size]))
    sizes = [walk.one, walk.extent, add_initializer(graph, "width", width)]
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
    attended = emit("Attention", *operands, **_attributes(place.facts, causal=place.causal))
    after = emit("SequenceInsert", before, attended)
    after.type = kind
    on = emit("Identity", going)
    on.type, on.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape(())
    return ir.Graph([turn, going, before], [on, after], nodes=inner.nodes, name="sequence")
