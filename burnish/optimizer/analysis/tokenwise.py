"""Which part of its operands a node needs where only some tokens of its result are wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx_ir as ir

from burnish.optimizer.analysis.dimensions import BROADCAST, Dimensions
from burnish.optimizer.analysis.size_arithmetic import ONE, Extent, Sizes, agree, number, product
from burnish.optimizer.analysis.size_rules import axes_of, integers, optional

FIRST_ONLY = {
    "Abs", "Cast", "Ceil", "Celu", "Clip", "Cos", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu",
    "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg",
    "Not", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign",
    "Sqrt", "Swish", "Tanh", "ThresholdedRelu",
}  # fmt: skip
"""Operators on each element of their first operand by itself."""

ALONG = {
    "Softmax": -1, "LogSoftmax": -1, "Hardmax": -1, "LayerNormalization": -1,
    "RMSNormalization": -1, "SimplifiedLayerNormalization": -1, "LpNormalization": -1,
}  # fmt: skip
"""Operators on whole vectors along an axis (a normalization: from it on), with its default."""


@dataclass(frozen=True)
class Place:
    """Where in a value the tokens are that a selection takes.

    Attributes:
        axis: of the tokens; of the merged axis where tokens are merged with other axes.
        rows: axis along which the selection differs, for one that takes other tokens in each row;
            negative where the value's rank ends before it. In `merged`, its index there.
        varies: whether the value itself has these rows; else it is the same for all of them.
        merged: sizes of the axes that `axis` holds flattened; empty where it holds tokens only.
        tokens: index of the tokens in `merged`.
    """

    axis: int
    rows: int | None = None
    varies: bool = True
    merged: Sizes = ()
    tokens: int = 0


Needs = list[Place | None] | str
"""By operand, the place of the tokens, or None for all of it; or why tokens cannot be told apart."""


@dataclass(frozen=True)
class Request:
    """Some tokens of the results of a node."""

    node: ir.Node
    place: Place
    dimensions: Dimensions

    def shape(self, index: int) -> Sizes | None:
        """The shape of an operand."""
        return self.dimensions.of(optional(self.node, index))

    @property
    def result(self) -> Sizes | None:
        """The shape of the results; Split's differ along its own axis."""
        return self.dimensions.of(self.node.outputs[0])

    def first_only(self, place: Place | None = None) -> Needs:
        """The place in the first operand, and the others whole."""
        return [place or self.place, *[None] * (len(self.node.inputs) - 1)]

    def touches(self, axis: int) -> bool:
        """Whether the tokens, or the rows they are taken from, are along an axis."""
        return axis == self.place.axis or (not self.place.merged and axis == self.place.rows)


def needs(request: Request) -> Needs:
    """What the node needs of its operands for these tokens of its results."""
    node = request.node
    if node.domain != "":
        return f"{node.domain}.{node.op_type} is not known here"
    if request.result is None or any(
        request.dimensions.of(value) is None for value in node.inputs if value is not None
    ):
        return f"the shapes at {node.op_type} are not known"
    if node.op_type in FIRST_ONLY:
        return request.first_only()
    if node.op_type in BROADCAST:
        return gathered([operand(request, index) for index in range(len(node.inputs))])
    if node.op_type in ALONG:
        return _along(request)
    rule = RULES.get(node.op_type)
    return rule(request) if rule is not None else f"{node.op_type} may mix tokens"


def gathered(parts: list[Place | None | str]) -> Needs:
    """The places, or the first reason among them."""
    reasons = [part for part in parts if isinstance(part, str)]
    return reasons[0] if reasons else [part for part in parts if not isinstance(part, str)]


def operand(request: Request, index: int) -> Place | None | str:
    """The place in an operand that is broadcast to the result, aligned at the last axes."""
    mine, whole, place = request.shape(index), request.result, request.place
    if mine is None or whole is None:
        return None
    shift = len(whole) - len(mine)
    axis = place.axis - shift
    if axis < 0 or (mine[axis] == ONE and whole[axis] != ONE):
        return None
    if not agree(mine[axis], whole[axis]):
        return f"whether an operand of {request.node.op_type} differs by token is not known"
    if place.rows is None or place.merged:
        return replace(place, axis=axis)
    rows = place.rows - shift
    if rows < 0 or (mine[rows] == ONE and whole[rows] != ONE):
        return replace(place, axis=axis, rows=rows, varies=False)
    if not agree(mine[rows], whole[rows]):
        return f"whether an operand of {request.node.op_type} differs by row is not known"
    return replace(place, axis=axis, rows=rows)


def _along(request: Request) -> Needs:
    shape, node = request.shape(0), request.node
    assert shape is not None
    axis = node.attributes.get_int("axis", ALONG[node.op_type]) % len(shape)
    norm = node.op_type.endswith("LayerNormalization") or node.op_type == "RMSNormalization"
    if request.place.axis >= axis if norm else request.place.axis == axis:
        return f"{node.op_type} is along the tokens"
    return request.first_only()


def _matmul(request: Request) -> Needs:
    left, right, place = request.shape(0), request.shape(1), request.place
    whole = request.result
    assert left is not None and right is not None and whole is not None
    if len(left) < 2 or len(right) < 2:
        return "an operand of MatMul is a vector"
    rank = len(whole)
    if place.axis == rank - 1:
        return "the tokens are the columns of MatMul"
    if place.axis == rank - 2:
        if place.rows is not None and not place.merged:
            return gathered([_stacked(request, 0), None])
        return [replace(place, axis=len(left) - 2), None]
    if place.rows is not None and place.rows >= rank - 2 and len(right) > 2:
        return "each token has a matrix of its own"
    return gathered([_stacked(request, 0), _stacked(request, 1) if len(right) > 2 else None])


def _stacked(request: Request, index: int) -> Place | None | str:
    """The place in an operand of MatMul, whose first axes are broadcast."""
    mine, whole, place = request.shape(index), request.result, request.place
    assert mine is not None and whole is not None
    found = operand(request, index)
    rows = place.rows
    # The last two axes of the right operand are none of the result's.
    if index == 1 and isinstance(found, str) and rows is not None and rows >= len(whole) - 2:
        return "each token has a matrix of its own"
    return found


def _gemm(request: Request) -> Needs:
    if request.place.axis != 0:
        return "the tokens are the columns of Gemm"
    across = request.node.attributes.get_int("transA", 0)
    parts: list[Place | None | str] = [replace(request.place, axis=across), None]
    if len(request.node.inputs) > 2:
        parts.append(operand(request, 2) if request.node.inputs[2] is not None else None)
    return gathered(parts)


def _transpose(request: Request) -> Needs:
    place, whole = request.place, request.result
    assert whole is not None
    order = request.node.attributes.get_ints("perm", range(len(whole))[::-1])
    rows = place.rows
    if rows is not None and not place.merged:
        rows = order[rows]
    return [replace(place, axis=order[place.axis], rows=rows)]


def _reshape(request: Request) -> Needs:
    """Axes keep their tokens where what comes before them is the same, as a product."""
    source, whole, place = request.shape(0), request.result, request.place
    assert source is not None and whole is not None
    if place.merged:
        found = _split(source, whole, place)
    else:
        found = _kept(source, whole, place) or _merged(source, whole, place)
    if found is None:
        return f"{request.node.op_type} does not keep the axis of the tokens"
    return request.first_only(found)


def _kept(source: Sizes, whole: Sizes, place: Place) -> Place | None:
    axis = _same_axis(source, whole, place.axis)
    rows = None if place.rows is None else _same_axis(source, whole, place.rows)
    if axis is None or (place.rows is not None and rows is None):
        return None
    return replace(place, axis=axis, rows=rows)


def _same_axis(source: Sizes, whole: Sizes, axis: int) -> int | None:
    """The axis of the source that is one of the result; None where there is none."""
    before = product(whole[:axis])
    fits = [
        index
        for index in range(len(source))
        if source[index] == whole[axis] and product(source[:index]) == before
    ]
    # Of several only the last is not followed by axes of length 1, and only one is the tokens'.
    return fits[0] if len(fits) == 1 else None


def _merged(source: Sizes, whole: Sizes, place: Place) -> Place | None:
    """The place where an axis of the source is several of the result."""
    for axis, size in enumerate(source):
        for first in range(place.axis + 1):
            if product(whole[:first]) != product(source[:axis]):
                continue
            for last in range(place.axis + 1, len(whole) + 1):
                part = whole[first:last]
                if len(part) > 1 and product(part) == size:
                    rows = None if place.rows is None else place.rows - first
                    if rows is not None and not 0 <= rows < len(part):
                        return None
                    return Place(axis, rows, True, part, place.axis - first)
    return None


def _split(source: Sizes, whole: Sizes, place: Place) -> Place | None:
    """The place where several axes of the source are one of the result."""
    count, before = len(place.merged), product(whole[: place.axis])
    for axis in range(len(source)):
        if product(source[:axis]) != before:
            continue
        if source[axis : axis + count] == place.merged:
            rows = None if place.rows is None else place.rows + axis
            return Place(axis + place.tokens, rows)
        if source[axis] == product(place.merged):
            return replace(place, axis=axis)
    return None


def _unsqueeze(request: Request) -> Needs:
    axes, whole = axes_of(request.node, request.dimensions), request.result
    if axes is None or whole is None:
        return "the axes of Unsqueeze are not known"
    new = {axis % len(whole) for axis in axes}
    kept = [axis for axis in range(len(whole)) if axis not in new]
    return _renumbered(request, {axis: index for index, axis in enumerate(kept)})


def _squeeze(request: Request) -> Needs:
    axes, shape = axes_of(request.node, request.dimensions), request.shape(0)
    if axes is None or shape is None:
        return "the axes of Squeeze are not known"
    gone = {axis % len(shape) for axis in axes}
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    return _renumbered(request, dict(enumerate(kept)))


def _renumbered(request: Request, axes: dict[int, int]) -> Needs:
    place = request.place
    fixed = place.rows is None or bool(place.merged)
    if place.axis not in axes or not (fixed or place.rows in axes):
        return f"{request.node.op_type} makes the axis of the tokens"
    rows = place.rows if fixed else axes[place.rows or 0]
    return request.first_only(replace(place, axis=axes[place.axis], rows=rows))


def _split_or_concat(request: Request) -> Needs:
    whole, node = request.result, request.node
    assert whole is not None
    if request.touches(node.attributes.get_int("axis", 0) % len(whole)):
        return f"{node.op_type} is along the tokens"
    if node.op_type == "Split":
        return request.first_only()
    return [request.place] * len(node.inputs)


def _slice(request: Request) -> Needs:
    whole = request.result
    assert whole is not None
    axes = integers(optional(request.node, 3), request.dimensions)
    if axes is None:
        return "the axes of Slice are not known"
    for axis in (axis % len(whole) for axis in axes):
        shape = request.shape(0)
        if request.touches(axis) and shape is not None and shape[axis] != whole[axis]:
            return "Slice is along the tokens"
    return request.first_only()


def _gather(request: Request) -> Needs:
    data, indices, place = request.shape(0), request.shape(1), request.place
    assert data is not None and indices is not None
    first = request.node.attributes.get_int("axis", 0) % len(data)
    last = first + len(indices)
    if place.merged:
        return "Gather reads tokens that are merged with rows"

    def inside(axis: int | None) -> bool:
        return axis is None or first <= axis < last

    if inside(place.axis) and inside(place.rows):
        rows = None if place.rows is None else place.rows - first
        return [None, replace(place, axis=place.axis - first, rows=rows)]
    if inside(place.axis) or (place.rows is not None and inside(place.rows)):
        return "Gather mixes tokens and rows"
    shift = 1 - len(indices)
    axis = place.axis + (shift if place.axis >= last else 0)
    rows = place.rows
    if rows is not None:
        rows += shift if rows >= last else 0
    return [replace(place, axis=axis, rows=rows), None]


def _gather_elements(request: Request) -> Needs:
    data, indices = request.shape(0), request.shape(1)
    assert data is not None and indices is not None
    if request.touches(request.node.attributes.get_int("axis", 0) % len(data)):
        return "GatherElements is along the tokens"
    if not agree(data[request.place.axis], indices[request.place.axis]):
        return "GatherElements leaves tokens out"
    return [request.place, request.place]


def _reduce(request: Request) -> Needs:
    axes, shape, node = None, request.shape(0), request.node
    assert shape is not None
    if node.op_type.startswith("Arg"):
        axes = [node.attributes.get_int("axis", 0)]
    else:
        axes = axes_of(node, request.dimensions)
    if not axes:
        return f"{node.op_type} may be over the tokens"
    gone = {axis % len(shape) for axis in axes}
    if node.attributes.get_int("keepdims", 1):
        over = any(request.touches(axis) for axis in gone)
        return f"{node.op_type} is over the tokens" if over else request.first_only()
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    return _renumbered(request, dict(enumerate(kept)))


def _attention(request: Request) -> Needs:
    shape, node = request.shape(0), request.node
    assert shape is not None
    if request.place.axis != len(shape) - 2 or request.place.merged:
        return "the tokens are not the queries"
    if request.place.rows not in (None, 0):
        return "the rows are not the batch"
    if optional(node, 4) is not None or optional(node, 5) is not None or optional(node, 6):
        return "it has keys of earlier runs"
    if len(node.outputs) > 3 and (node.outputs[3].uses() or node.outputs[3].is_graph_output()):
        return "its scores are an output"
    keys = request.shape(1)
    if node.attributes.get_int("is_causal", 0) and (keys is None or keys[-2] != shape[-2]):
        return "it is causal over keys that are not its own"
    found: list[Place | None | str] = [request.place, *[None] * (len(node.inputs) - 1)]
    if optional(node, 3) is not None:
        found[3] = _mask(request, shape)
    return gathered(found)


def _mask(request: Request, query: Sizes) -> Place | None | str:
    mask = request.shape(3)
    assert mask is not None
    axis = len(mask) - 2
    if axis < 0 or mask[axis] == ONE:
        return None
    if not agree(mask[axis], query[-2]):
        return "whether the mask differs by query is not known"
    if request.place.rows is None:
        return Place(axis)
    rows = len(mask) - 4
    if rows < 0 or mask[rows] == ONE:
        return Place(axis, rows, varies=False)
    return Place(axis, rows) if agree(mask[rows], query[0]) else "the mask's rows are not the batch"


def _rotary(request: Request) -> Needs:
    shape, node, place = request.shape(0), request.node, request.place
    assert shape is not None
    if place.axis != len(shape) - 2 or place.rows not in (None, 0) or place.merged:
        return "RotaryEmbedding turns another axis"
    found: list[Place | None | str] = [place, None, None]
    parts = [3] if optional(node, 3) is not None else [1, 2]
    found += [None] * (len(node.inputs) - 3)
    for index in parts:
        angles = request.shape(index)
        assert angles is not None
        if not agree(angles[1], shape[-2]):
            return "whether the angles differ by token is not known"
        varies = place.rows is None or agree(angles[0], shape[0])
        if not varies and angles[0] != ONE:
            return "whether the angles differ by row is not known"
        found[index] = Place(1, place.rows, varies)
    return gathered(found)


RULES: dict[str, Callable[[Request], Needs]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Split": _split_or_concat,
    "Concat": _split_or_concat,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Attention": _attention,
    "RotaryEmbedding": _rotary,
    **dict.fromkeys(
        ("ArgMax", "ArgMin", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
         "ReduceSum", "ReduceSumSquare"), _reduce,
    ),
}  # fmt: skip


def target(request: Request, needed: Place, count: int | None) -> list[int] | None:
    """The new target of a Reshape for `count` tokens; None where it cannot be written.

    Zeros copy sizes of the operand, and at most one size is left for the operator to find out.
    """
    source, whole, place = request.shape(0), request.result, request.place
    assert source is not None and whole is not None
    sizes: list[Extent | int] = []
    for axis, size in enumerate(whole):
        known = number(size)
        if axis == place.axis:
            same = axis == needed.axis and place.merged == needed.merged
            sizes.append(0 if same else count if count is not None and not place.merged else -1)
        elif known is not None and known > 0:
            sizes.append(known)
        else:
            same = axis < len(source) and source[axis] == size and axis != needed.axis
            sizes.append(0 if same else -1)
    numbers = [size for size in sizes if isinstance(size, int)]
    return numbers if numbers.count(-1) <= 1 else None
