"""Attention of packed tokens sequence by sequence, so that none attends to a padded one."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.masks import Masks
from burnish.optimizer.analysis.matching import made_by, only_reader
from burnish.optimizer.analysis.products import label
from burnish.optimizer.contract import Context, Refusal
from burnish.optimizer.model import add_initializer
from burnish.passes.lower.attention.facts import facts_of
from burnish.passes.lower.attention.meaning import meaning_of
from burnish.passes.restructure.sequence_loop import (
    Place,
    Walk,
    attributes,
    unpacked_from,
    walk,
    write,
)
from burnish.passes.restructure.token_indices import TokenIndices

PADDED, BY_SEQUENCE = "padded", "by sequence"

LOOPING = ("cpu",)
"""Providers for which a loop is taken unmeasured; for others nothing was measured, and none is.

On a processor the loop took 0.4 to 0.8 times as long as the padded layout for 8 to 32 sequences of
up to 60 to 512 tokens, of which 58 to 71 % were real.
"""


def attend(model: ir.Model, indices: TokenIndices, context: Context) -> tuple[int, list[Refusal]]:
    """Let attentions of a packed model run by sequence where that is faster; how many, why not."""
    done, refusals, masks = 0, [], Masks()
    shared: Walk | None = None
    nodes = [node for node in model.graph if (node.domain, node.op_type) == ("", "Attention")]
    if nodes:
        shapes.annotate(model)
    # All of them first: what is known of masks is valid as long as nothing is changed.
    for node, place in [(node, _place(node, indices, masks)) for node in nodes]:
        reason = place if isinstance(place, str) else _why_padded(place, indices, context)
        if reason:
            refusals.append(Refusal(label(node), f"attends in the padded layout: {reason}"))
        elif isinstance(place, Place):
            if shared is None:
                seen = indices.get("seen") if indices.selected else None
                places, tokens = indices.get("places"), indices.get("tokens")
                shared = walk(node, places, tokens, indices.get("segments"), seen)
            write(place, shared)
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
        found = unpacked_from(value)
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


def _uncast(value: ir.Value) -> ir.Value:
    while (node := made_by(value, "Cast")) is not None and node.inputs[0] is not None:
        value = node.inputs[0]
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
    node = ir.node("Attention", [*wholes, known["mask"]], attributes(facts, causal=place.causal))
    again = ir.node("GatherND", [node.outputs[0], known["tokens"]])
    graph.extend([*unpacked, node, again])
    result = again.outputs[0]
    result.name, result.type = "result", ir.TensorType(ir.DataType.FLOAT)
    result.shape = ir.Shape((1, count, facts.heads * facts.value_size))
    graph.outputs.append(result)
    if form == BY_SEQUENCE:
        shared = walk(node, known["places"], known["tokens"], known["segments"], None)
        write(Place(node, facts, result, place.causal), shared)
    return ir.to_proto(ir.Model(graph, ir_version=11))
