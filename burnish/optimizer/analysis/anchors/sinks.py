"""Sinks: logits that take part in a softmax and are dropped after it, so that weights sum to less.

Two spellings. GPT-OSS's own adds a column to the scores and cuts it off the probabilities:

    Slice(Softmax(Concat(scores, sinks)), 0, -1) @ v

and the same by its parts adds the sinks to the sum that divides:

    e = Exp(scores - m);  e / (ReduceSum(e) + Exp(sinks - m)) @ v

The sinks depend on no input. (gpt-oss model card, 2025; "Efficient Streaming Language Models with
Attention Sinks", arXiv 2309.17453; the sinks of zero are "softmax off by one".)
"""

from __future__ import annotations

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import Flow, given, number, readers, source
from burnish.optimizer.analysis.sizes import Size, axes_of

FORM = "attention with sinks, plain operators"
"""What the recovered language has for it: the standard `Attention` cannot say it."""

PASSING = ("Cast", "Identity", "Dropout")


def with_sinks(softmax: ir.Node, flow: Flow) -> bool:
    """Whether an attention's softmax (or the `Exp` it begins with) has sinks beside its scores."""
    if softmax.op_type == "Softmax":
        return _joined(softmax, flow) is not None
    return softmax.op_type == "Exp" and _in_the_sum(softmax, flow)


def shifted(value: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None]:
    """A value before its maximum was taken off, as is done for overflow, and that maximum."""
    value = source(value, PASSING)
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "Sub":
        return value, None
    before, most = node.inputs
    maker = most.producer() if most is not None else None
    if maker is None or maker.op_type not in ("ReduceMax", "Max"):
        return value, None
    return source(before, PASSING), most


def scores_beside(softmax: ir.Node, flow: Flow) -> ir.Value | None:
    """The scores that a softmax reads, without the sinks and the shift."""
    joined = _joined(softmax, flow)
    return joined if joined is not None else shifted(given(softmax, 0))[0]


def _joined(softmax: ir.Node, flow: Flow) -> ir.Value | None:
    """The scores to which sinks are joined, and from which they are cut off afterwards."""
    value, _ = shifted(given(softmax, 0))
    join = value.producer() if value is not None else None
    if join is None or join.op_type != "Concat" or len(join.inputs) != 2:
        return None
    axes = {softmax.attributes.get_int("axis", -1), join.attributes.get_int("axis", 0)}
    shape = flow.sizes.shape(value)
    if not axes <= ({-1} if shape is None else {-1, len(shape) - 1}):
        return None
    first, second = join.inputs
    for scores, sinks, start in ((first, second, 0), (second, first, None)):
        if not flow.from_product(scores) or not flow.is_constant(sinks):
            continue
        columns = flow.sizes.shape(sinks)
        count = columns[-1].number if columns else None
        begins = start if start is not None else count
        if count and begins is not None and _cut(softmax.outputs[0], begins, count, flow):
            return scores
    return None


def _cut(value: ir.Value, start: int, count: int, flow: Flow) -> bool:
    """Whether all that reads probabilities drops the sinks, which are `count` columns.

    The scores begin at column `start`, which is `count` where the sinks come first.
    """
    uses = [(node, index) for node, index in readers(value) if node.op_type != "Shape"]
    if len(uses) != 1 or value.is_graph_output():
        return False
    node = uses[0][0]
    if node.op_type in PASSING:
        return _cut(node.outputs[0], start, count, flow)
    if node.op_type != "Slice" or len(node.inputs) < 4:
        return False
    begin, end, axes, *rest = (flow.sizes.elements(item) for item in node.inputs[1:])
    shape, step = flow.sizes.shape(value), (rest[0] if rest else None) or (Size.of(1),)
    if not begin or not end or not axes or {len(begin), len(end), len(axes), len(step)} != {1}:
        return False
    last = -1 if shape is None else len(shape) - 1
    if axes[0].number not in (-1, last) or step[0].number != 1 or begin[0].number != start:
        return False
    whole = shape[-1] if shape is not None else None
    if start:
        return end[0] == whole or (end[0].number or 0) >= 1 << 31
    return end[0].number == -count or (whole is not None and end[0] == whole - Size.of(count))


def _in_the_sum(exp: ir.Node, flow: Flow) -> bool:
    """Whether a constant's exponential is added to the sum that divides those of the scores."""
    scores, most = shifted(given(exp, 0))
    if not flow.from_product(scores):
        return False
    for total, _ in readers(exp.outputs[0], "ReduceSum"):
        axes, shape = axes_of(total, flow.sizes), flow.sizes.shape(exp.outputs[0])
        if axes is None or not {*axes} <= {-1, len(shape or ()) - 1}:
            continue
        uses = list(readers(total.outputs[0]))
        if len(uses) == 1 and uses[0][0].op_type == "Add":
            return _is_sink(given(uses[0][0], 1 - uses[0][1]), most, flow)
    return False


def _is_sink(value: ir.Value | None, most: ir.Value | None, flow: Flow) -> bool:
    """Whether a value is `Exp(sinks - most)`; without a shift, any positive constant."""
    value = source(value, (*PASSING, "Unsqueeze", "Reshape", "Expand"))
    maker = value.producer() if value is not None else None
    if most is None:
        is_exp = maker is not None and maker.op_type == "Exp" and flow.is_constant(value)
        return is_exp or (number(value) or 0.0) > 0.0
    if maker is None or maker.op_type != "Exp":
        return False
    inner = given(maker, 0)
    node = inner.producer() if inner is not None else None
    if node is not None and node.op_type == "Neg":  # sinks of zero
        return given(node, 0) is most
    if node is None or node.op_type != "Sub":
        return False
    return flow.is_constant(given(node, 0)) and given(node, 1) is most
