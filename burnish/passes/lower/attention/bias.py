"""The mask of an attention as what is added to its scores, and a writer of nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import broadcast_written, scalar
from burnish.optimizer.model import add_initializer

FUSED = "com.microsoft"
"""Domain of ONNX Runtime's own operators, which every build of it has."""

FLOOR = -1e38
"""Hides a score, and leaves a row without keys defined."""


@dataclass(frozen=True)
class Facts:
    """What an `Attention` computes.

    Attributes:
        heads, groups: of queries, and of keys and values.
        flat: whether operands are [batch, sequence, heads * size], not [batch, heads, ...].
        scale: factor of the scores.
        cap: bound of the scores, or 0.
        causal: whether query i sees no keys after i.
    """

    heads: int
    groups: int
    flat: bool
    scale: float
    cap: float
    causal: bool


def facts_of(node: ir.Node) -> Facts | str:
    """The facts of a node, or why it stays as it is."""
    query, key, value = node.inputs[0], node.inputs[1], node.inputs[2]
    assert query is not None and key is not None and value is not None
    if any(item is not None for item in node.inputs[4:]) or len(node.outputs) > 1:
        return "it keeps keys and values, or gives more than its result"
    if any(item.shape is None for item in (query, key, value)):
        return "the shapes of its operands are not known"
    if query.dtype is not ir.DataType.FLOAT:
        return f"it computes in {query.dtype}"
    if len(node.inputs) > 3 and node.inputs[3] is not None and node.inputs[3].shape is None:
        return "the shape of its mask is not known"
    flat = len(query.shape) == 3  # type: ignore[arg-type]
    heads = node.attributes.get_int("q_num_heads", 0) if flat else query.shape[1]  # type: ignore[index]
    groups = node.attributes.get_int("kv_num_heads", 0) if flat else key.shape[1]  # type: ignore[index]
    width = query.shape[-1]  # type: ignore[index]
    if not (isinstance(heads, int) and isinstance(groups, int) and isinstance(width, int)):
        return "its heads or their size are not known"
    size = width // heads if flat else width
    scale = node.attributes.get_float("scale", size**-0.5)
    cap = node.attributes.get_float("softcap", 0.0)
    causal = bool(node.attributes.get_int("is_causal", 0))
    return Facts(heads, groups, flat, scale, cap, causal)


@dataclass(frozen=True)
class Bias:
    """A mask made ready for a softmax: what is added, and which rows have keys.

    Attributes:
        added: finite; None where nothing is.
        alive: [..., queries, 1], 1 where a query has a key and else 0; None where all have.
    """

    added: ir.Value | None
    alive: ir.Value | None


class Writer:
    """Writes forms before a node; constants and masks are made once for each graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._constants: dict[tuple[object, ...], ir.Value] = {}
        self._biases: dict[tuple[object, ...], Bias] = {}

    def node(
        self,
        before: ir.Node,
        operator: str,
        inputs: list[ir.Value | None],
        domain: str = "",
        **attributes: int | float | list[int],
    ) -> ir.Value:
        """The output of a new node, a float unless its operator says otherwise."""
        node = ir.node(operator, inputs, attributes, domain=domain)
        self.graph.insert_before(before, node)
        output = node.outputs[0]
        output.type = ir.TensorType(ir.DataType.FLOAT)
        if operator in ("Max", "Where", "Add", "Unsqueeze") and all(
            item is not None and item.shape is not None for item in inputs
        ):
            output.shape = broadcast_written(inputs) if operator != "Unsqueeze" else None
        return output

    def constant(self, name: str, array: np.ndarray) -> ir.Value:
        """An initializer, one for equal contents."""
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = add_initializer(self.graph, name, ir.tensor(array))
        return self._constants[key]

    def number(self, value: float) -> ir.Value:
        """A float without axes."""
        return self.constant("number", np.array(value, np.float32))

    def integers(self, *numbers: int) -> ir.Value:
        """A vector of integers."""
        return self.constant("sizes", np.array(numbers, np.int64))

    def bias(self, node: ir.Node, facts: Facts) -> Bias:
        """The mask of an attention, and its causal limit, as a bias; see `Bias`."""
        mask = node.inputs[3] if len(node.inputs) > 3 else None
        query, key = node.inputs[0], node.inputs[1]
        assert query is not None and key is not None
        sizes = tuple(str(item.shape[-2 if not facts.flat else 1]) for item in (query, key))  # type: ignore[index]
        known = (mask, facts.causal, *(sizes if facts.causal else ()))
        if known not in self._biases:
            bias = self._of_mask(node, mask) if mask is not None else Bias(None, None)
            self._biases[known] = self.limited(node, facts, bias) if facts.causal else bias
        return self._biases[known]

    def _of_mask(self, before: ir.Node, mask: ir.Value) -> Bias:
        mask = _narrow(mask)
        where = mask.producer()
        if mask.dtype is ir.DataType.BOOL:
            return self._of_condition(before, mask)
        if where is not None and where.op_type == "Where" and where.inputs[0] is not None:
            zero, low = (scalar(item) for item in where.inputs[1:])
            if zero == 0.0 and low is not None and np.isinf(low):
                return self._of_condition(before, where.inputs[0])
            if zero is not None and low is not None and min(zero, low) >= FLOOR * 1.5:
                return Bias(mask, None)
        if _finite(mask):
            return Bias(mask, None)
        added = self.node(before, "Max", [mask, self.number(FLOOR)])
        top = self.node(before, "ReduceMax", [mask, self.integers(-1)], keepdims=1)
        some = self.node(before, "Greater", [top, self.number(FLOOR)])
        some.type = ir.TensorType(ir.DataType.BOOL)
        alive = self.node(before, "Cast", [some], to=ir.DataType.FLOAT.value)
        return Bias(added, alive)

    def _of_condition(self, before: ir.Node, condition: ir.Value) -> Bias:
        condition = _narrow(condition)
        pair = [self.number(0.0), self.number(FLOOR)]
        added = self.node(before, "Where", [condition, *pair])
        seen = self.node(before, "Cast", [condition], to=ir.DataType.FLOAT.value)
        alive = self.node(before, "ReduceMax", [seen, self.integers(-1)], keepdims=1)
        return Bias(added, alive)

    def limited(self, node: ir.Node, facts: Facts, bias: Bias) -> Bias:
        """A bias with scores of keys after their query ruled out; each query sees itself."""
        axis = 1 if facts.flat else 2
        ranges = []
        for item in node.inputs[:2]:
            count = self.node(node, "Shape", [item], start=axis, end=axis + 1)
            flat = self.node(node, "Squeeze", [count])
            zero = self.constant("number", np.array(0, np.int64))
            one = self.constant("number", np.array(1, np.int64))
            ranges.append(self.node(node, "Range", [zero, flat, one]))
            for value in (count, flat, ranges[-1]):
                value.type = ir.TensorType(ir.DataType.INT64)
        rows = self.node(node, "Unsqueeze", [ranges[0], self.integers(1)])
        rows.type = ir.TensorType(ir.DataType.INT64)
        seen = self.node(node, "LessOrEqual", [ranges[1], rows])
        seen.type = ir.TensorType(ir.DataType.BOOL)
        limit = self.node(node, "Where", [seen, self.number(0.0), self.number(FLOOR)])
        if bias.added is None:
            return Bias(limit, None)
        added = self.node(node, "Add", [bias.added, limit])
        return Bias(self.node(node, "Max", [added, self.number(FLOOR)]), bias.alive)


def _narrow(mask: ir.Value) -> ir.Value:
    """The mask before it was given a row for each query: additions repeat it by themselves."""
    node = mask.producer()
    while node is not None and node.op_type == "Expand" and node.inputs[0] is not None:
        mask = node.inputs[0]
        node = mask.producer()
    return mask


def _finite(mask: ir.Value) -> bool:
    """Whether a mask is known to hold no -inf: it was bounded, or is a sum of such."""
    node = mask.producer()
    tensor = ir.convenience.get_const_tensor(mask)
    if tensor is not None:
        return tensor.size <= 1 << 20 and bool(np.isfinite(tensor.numpy()).all())
    if node is None:
        return False
    if node.op_type == "Max":
        return any(scalar(item) is not None for item in node.inputs)
    if node.op_type == "Where":
        return all(scalar(item) is not None for item in node.inputs[1:]) and not any(
            np.isinf(scalar(item) or 0.0) for item in node.inputs[1:]
        )
    if node.op_type in ("Add", "Sub"):
        return all(item is not None and _finite(item) for item in node.inputs)
    if node.op_type == "MatMul":
        return True
    if node.op_type in ("Mul", "Div"):
        return all(item is not None and _finite(item) for item in node.inputs)
    moves = (
        "GatherElements",
        "Transpose",
        "Unsqueeze",
        "Squeeze",
        "Reshape",
        "Gather",
        "Slice",
        "Expand",
    )
    return node.op_type in moves and node.inputs[0] is not None and _finite(node.inputs[0])
