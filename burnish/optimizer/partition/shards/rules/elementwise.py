"""Rules of operators that compute each element, or each line of some axes, by itself."""

from __future__ import annotations

from burnish.optimizer.analysis.anchors.flow import given
from burnish.optimizer.partition.shards.layout import WHOLE, Layout
from burnish.optimizer.partition.shards.site import Site, integers

ELEMENTWISE = {
    "Abs", "Add", "And", "BiasGelu", "BitShift", "Cast", "CastLike", "Ceil", "Celu", "Clip",
    "Cos", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Expand", "FastGelu", "Floor", "Gelu",
    "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg",
    "Not", "Or", "PRelu", "Pow", "QuickGelu", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid",
    "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tanh",
    "ThresholdedRelu", "Where", "Xor",
}  # fmt: skip
"""Operators whose inputs are broadcast to the shape of the output."""

LINES: dict[str, int] = {
    "Softmax": -1, "LogSoftmax": -1, "CumSum": 0, "ArgMax": 0, "ArgMin": 0, "TopK": -1,
    "LpNormalization": -1, "Hardmax": -1,
}  # fmt: skip
"""Operators along an axis, and its default."""

FLATTENING = {"Softmax", "LogSoftmax", "Hardmax"}
"""Of those, the ones that before operator set 13 were along all axes from one on."""

TAILS: dict[str, int] = {
    "LayerNormalization": -1, "RMSNormalization": -1, "SimplifiedLayerNormalization": -1,
    "Trilu": -2,
}  # fmt: skip
"""Operators on all axes from one on, and its default."""

REDUCTIONS = {
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
}  # fmt: skip

Wants = list[Layout] | None


def elementwise(site: Site) -> Wants:
    """Each input that is not broadcast along a split axis is split as the output is."""
    shape = site.facts.shape(site.result)
    if shape is None:
        return None
    return [
        _broadcast(site, place, len(shape)) if not _is_told(site, place) else WHOLE
        for place in range(len(site.node.inputs))
    ]


def _is_told(site: Site, place: int) -> bool:
    """Whether an input says something of the operator, and has no elements of its own."""
    told = site.node.op_type in ("Expand", "Dropout", "CastLike", "Clip")
    return given(site.node, place) is None or (told and place > 0)


def _broadcast(site: Site, place: int, rank: int) -> Layout:
    shape = site.shape(place)
    if shape is None:
        return WHOLE
    offset = rank - len(shape)
    return Layout.of(
        {
            axis - offset: parts
            for axis, parts in site.layout.axes
            if axis >= offset and shape[axis - offset] != 1
        }
    )


def line(site: Site) -> Wants:
    """Any other axis than the operator's may be split."""
    shape = site.shape(0)
    if shape is None:
        return None
    axis = site.node.attributes.get_int("axis", LINES[site.node.op_type])
    if site.node.op_type == "CumSum":
        told = integers(given(site.node, 1))
        if told is None:
            return None
        axis = told[0]
    keeps = site.node.attributes.get_int("keepdims", 1)
    layouts = {item for item in site.wanted if item is not None}
    own = {axis % len(shape)}
    if site.node.op_type in FLATTENING and site.facts.opset < 13:
        axis = site.node.attributes.get_int("axis", 1)
        own = set(range(axis % len(shape), len(shape)))
    if not keeps or len(layouts) != 1 or any(at in own for at, _ in site.layout.axes):
        return None
    return [site.layout, *site.whole()[1:]]


def tail(site: Site) -> Wants:
    """Any axis before the operator's may be split; scales of the others stay whole."""
    shape = site.shape(0)
    if shape is None or site.layout != site.wanted[0]:
        return None
    axis = site.node.attributes.get_int("axis", TAILS[site.node.op_type]) % len(shape)
    if any(at >= axis for at, _ in site.layout.axes):
        return None
    return [site.layout, *(_scale(site, place) for place in range(1, len(site.node.inputs)))]


def _scale(site: Site, place: int) -> Layout:
    shape, whole = site.shape(place), site.shape(0)
    if shape is None or whole is None or site.node.op_type == "Trilu":
        return WHOLE
    return _broadcast(site, place, len(whole))


def reduction(site: Site) -> Wants:
    """Axes that are not reduced may be split."""
    shape = site.shape(0)
    axes = integers(given(site.node, 1))
    if axes is None and site.node.attributes.get("axes") is not None:
        axes = list(site.node.attributes.get_ints("axes", ()))
    if shape is None or axes is None:
        return None
    gone = {axis % len(shape) for axis in axes}
    kept = list(range(len(shape)))
    if not site.node.attributes.get_int("keepdims", 1):
        kept = [axis for axis in kept if axis not in gone]
    moved = {kept[axis]: parts for axis, parts in site.layout.axes}
    if moved.keys() & gone:
        return None
    return [Layout.of(moved), *site.whole()[1:]]


def quantization(site: Site) -> Wants:
    """As the output is; scales and zero points of an axis with it."""
    shape = site.shape(0)
    if shape is None or site.node.attributes.get_int("block_size", 0) != 0:
        return None
    axis = site.node.attributes.get_int("axis", 1)
    parts = site.layout[axis % len(shape)] if -len(shape) <= axis < len(shape) else None
    wants = [site.layout]
    for place in range(1, len(site.node.inputs)):
        scale = site.shape(place)
        along = scale is not None and len(scale) == 1 and scale[0] > 1 and parts is not None
        wants.append(Layout.of({0: parts}) if along and parts is not None else WHOLE)
    return wants
