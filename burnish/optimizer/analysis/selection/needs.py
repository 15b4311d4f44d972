"""Which part of its operands a node needs where only some tokens of its result are wanted."""

from __future__ import annotations

from collections.abc import Callable

from burnish.optimizer.analysis.selection import axes, products
from burnish.optimizer.analysis.selection.places import Needs, Request, gathered, operand
from burnish.optimizer.analysis.sizes import BROADCAST, ONE

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


def _along(request: Request) -> Needs:
    shape, node = request.shape(0), request.node
    assert shape is not None
    axis = node.attributes.get_int("axis", ALONG[node.op_type]) % len(shape)
    norm = node.op_type.endswith("LayerNormalization") or node.op_type == "RMSNormalization"
    if request.place.axis >= axis if norm else request.place.axis == axis:
        return f"{node.op_type} is along the tokens"
    return request.first_only()


RULES: dict[str, Callable[[Request], Needs]] = {
    "MatMul": products.matmul,
    "Gemm": products.gemm,
    "Transpose": axes.transpose,
    "Reshape": axes.reshape,
    "Flatten": axes.reshape,
    "Unsqueeze": axes.unsqueeze,
    "Squeeze": axes.squeeze,
    "Split": axes.split_or_concat,
    "Concat": axes.split_or_concat,
    "Slice": axes.slice,
    "Gather": axes.gather,
    "GatherElements": axes.gather_elements,
    "Attention": products.attention,
    "RotaryEmbedding": products.rotary,
    **dict.fromkeys(
        ("ArgMax", "ArgMin", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
         "ReduceSum", "ReduceSumSquare"), axes.reduce,
    ),
}  # fmt: skip


def needs(request: Request) -> Needs:
    """What the node needs of its operands for these tokens of its results."""
    node = request.node
    if node.domain != "":
        return f"{node.domain}.{node.op_type} is not known here"
    if request.result is None or any(
        request.sizes.shape(value) is None for value in node.inputs if value is not None
    ):
        return f"the shapes at {node.op_type} are not known"
    if node.op_type in FIRST_ONLY:
        return request.first_only()
    if node.op_type in BROADCAST:
        found = gathered([operand(request, index) for index in range(len(node.inputs))])
    elif node.op_type in ALONG:
        found = _along(request)
    else:
        rule = RULES.get(node.op_type)
        found = rule(request) if rule is not None else f"{node.op_type} may mix tokens"
    return _anywhere(request, found) if request.place.anywhere else found


def _anywhere(request: Request, found: Needs) -> Needs:
    """The same for tokens that come from any rows: nothing may differ by row besides them."""
    if isinstance(found, str):
        return found
    kind, whole = request.node.op_type, request.result
    if kind in ("Attention", "RotaryEmbedding", "Gather", "GatherElements"):
        return f"{kind} treats each row by itself"
    for index, part in enumerate(found):
        if part is None:
            shape = request.shape(index) if kind in BROADCAST or kind == "MatMul" else None
            deep = shape is not None and whole is not None and len(shape) == len(whole) > 2
            if deep and shape is not None and shape[0] != ONE:
                return f"an operand of {kind} differs by row"
        elif not part.merged and (part.axis, part.rows, part.varies) != (1, 0, True):
            return f"{kind} takes rows and tokens apart, and tokens are taken from any rows"
    return found
