"""Sizes of axes as numbers and symbols, from the inputs forward, once through the graph.

ONNX's own inference gives up where a Reshape or an Expand takes its sizes from other shapes, which
is what exporters write everywhere. Here integer vectors are followed element by element, so that
`Reshape(x, Concat(Shape(ids)[0], Shape(ids)[1], -1, 64))` is [batch, sequence, 12, 64]. A size that
is not known gets a symbol of its own, which later values with that size then share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from burnish.optimizer.analysis.extents import MADE_UP
from burnish.optimizer.analysis.symbolic import Size, computed, quotient, sliced, total

LONGEST = 16
"""Elements of the longest vector whose content is followed."""

LIKE_FIRST = {
    "Abs", "Cast", "Ceil", "Clip", "Cos", "CumSum", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu",
    "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LayerNormalization", "LeakyRelu",
    "Log", "LogSoftmax", "Neg", "Not", "RMSNormalization", "Reciprocal", "Relu", "RotaryEmbedding",
    "Round", "Sigmoid", "Sign", "Sin", "Softmax", "Softplus", "Sqrt", "Swish", "Tanh", "Trilu",
}  # fmt: skip

BROADCAST = {
    "Add", "And", "BitwiseAnd", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
    "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor",
}  # fmt: skip


def propagate(graph: ir.Graph) -> None:
    """Fill in the sizes that the values of a graph do not know, and its subgraphs' too."""
    _Propagation().run(graph)


class _Propagation:
    def __init__(self) -> None:
        self._vectors: dict[ir.Value, list[Size | None]] = {}

    def run(self, graph: ir.Graph) -> None:
        for node in graph:
            for attribute in node.attributes.values():
                if isinstance(attribute, ir.Attr) and attribute.type is ir.AttributeType.GRAPH:
                    self.run(attribute.as_graph())
            if node.domain != "":
                continue
            shape = self._shape(node)
            if shape is not None:
                self._set(node.outputs[0], shape)
            if node.op_type == "Split":
                self._split(node)
            vector = self._content(node)
            if vector is not None and len(vector) <= LONGEST:
                self._vectors[node.outputs[0]] = vector

    def _set(self, value: ir.Value, shape: Sequence[Size | None]) -> None:
        """Merge what was found with what a value says; open sizes become symbols."""
        known = self.sizes(value) or [None] * len(shape)
        if len(known) != len(shape):
            return
        if value.is_graph_output() and value.shape is not None:
            return
        merged: list[Size] = []
        for axis, (old, new) in enumerate(zip(known, shape, strict=True)):
            found = new if old is None or (isinstance(new, int) and isinstance(old, str)) else old
            merged.append(f"{value.name}[{axis}]" if found is None else found)
        value.shape = ir.Shape(merged)

    def sizes(self, value: ir.Value | None) -> list[Size | None] | None:
        """The sizes of a value's axes; None where their number is not known."""
        if value is None or value.shape is None:
            return None
        found: list[Size | None] = []
        for dim in value.shape:
            symbol = dim if isinstance(dim, int) else dim.value
            made_up = isinstance(symbol, str) and symbol.startswith(MADE_UP)
            found.append(None if made_up else symbol)
        return found

    def _shape(self, node: ir.Node) -> list[Size | None] | None:
        if node.op_type in LIKE_FIRST:
            return self.sizes(node.inputs[0])
        if node.op_type in BROADCAST:
            return self._broadcast([self.sizes(item) for item in node.inputs])
        rule = self._rules().get(node.op_type)
        return rule(node) if rule is not None else None

    def _rules(self) -> dict[str, Callable[[ir.Node], list[Size | None] | None]]:
        return {
            "MatMul": self._matmul,
            "Transpose": self._transpose,
            "Reshape": self._reshape,
            "Expand": self._expand,
            "Unsqueeze": self._unsqueeze,
            "Squeeze": self._squeeze,
            "Range": self._range,
            "Concat": self._concat,
            "Gather": self._gather,
            "Slice": self._slice,
            "Attention": self._attention,
        }

    def _broadcast(self, shapes: Sequence[list[Size | None] | None]) -> list[Size | None] | None:
        if any(shape is None for shape in shapes):
            return None
        known = [shape for shape in shapes if shape is not None]
        count = max(len(shape) for shape in known)
        ones: list[Size | None] = [1] * count
        padded = [ones[len(shape) :] + shape for shape in known]
        found: list[Size | None] = []
        for sizes in zip(*padded, strict=True):
            wide = {size for size in sizes if size != 1}
            numbers = [size for size in wide if isinstance(size, int)]
            found.append(numbers[0] if numbers else wide.pop() if len(wide) == 1 else None)
            if not numbers and not [size for size in sizes if size != 1]:
                found[-1] = 1
        return found

    def _matmul(self, node: ir.Node) -> list[Size | None] | None:
        left, right = self.sizes(node.inputs[0]), self.sizes(node.inputs[1])
        if left is None or right is None or len(left) < 2 or len(right) < 2:
            return None
        batch = self._broadcast([left[:-2], right[:-2]])
        return None if batch is None else [*batch, left[-2], right[-1]]

    def _transpose(self, node: ir.Node) -> list[Size | None] | None:
        sizes = self.sizes(node.inputs[0])
        if sizes is None:
            return None
        axes = node.attributes.get_ints("perm", tuple(reversed(range(len(sizes)))))
        return [sizes[axis] for axis in axes] if len(axes) == len(sizes) else None

    def _reshape(self, node: ir.Node) -> list[Size | None] | None:
        source, target = self.sizes(node.inputs[0]), self.vector(node.inputs[1])
        if target is None:
            return None
        zero = node.attributes.get_int("allowzero", 0) == 0
        copied: list[Size | None] = [
            (source[i] if source and i < len(source) else None) if size == 0 and zero else size
            for i, size in enumerate(target)
        ]
        if -1 in copied:
            index = copied.index(-1)
            rest = [size for i, size in enumerate(copied) if i != index]
            copied[index] = quotient(source, rest)
        return copied

    def _expand(self, node: ir.Node) -> list[Size | None] | None:
        source, target = self.sizes(node.inputs[0]), self.vector(node.inputs[1])
        return None if target is None else self._broadcast([source, target])

    def _unsqueeze(self, node: ir.Node) -> list[Size | None] | None:
        source = self.sizes(node.inputs[0])
        axes = self.vector(node.inputs[1]) if len(node.inputs) > 1 else None
        if source is None or axes is None or not all(isinstance(axis, int) for axis in axes):
            return None
        count = len(source) + len(axes)
        places = {axis % count for axis in axes if isinstance(axis, int)}
        rest = iter(source)
        return [1 if place in places else next(rest, None) for place in range(count)]

    def _squeeze(self, node: ir.Node) -> list[Size | None] | None:
        source = self.sizes(node.inputs[0])
        axes = self.vector(node.inputs[1]) if len(node.inputs) > 1 else None
        if source is None or axes is None or not all(isinstance(axis, int) for axis in axes):
            return None
        places = {axis % len(source) for axis in axes if isinstance(axis, int)}
        return [size for place, size in enumerate(source) if place not in places]

    def _range(self, node: ir.Node) -> list[Size | None] | None:
        bounds = [self.vector(item) for item in node.inputs]
        counted = bounds[0] == [0] and bounds[2] == [1] and bounds[1] is not None
        return list(bounds[1] or []) if counted else [None]

    def _concat(self, node: ir.Node) -> list[Size | None] | None:
        shapes = [self.sizes(item) for item in node.inputs]
        known = [shape for shape in shapes if shape is not None]
        if len(known) != len(shapes) or len({len(shape) for shape in known}) != 1 or not known[0]:
            return None
        axis = node.attributes.get_int("axis", 0) % len(known[0])
        joined: list[Size | None] = []
        for place in range(len(known[0])):
            parts = [shape[place] for shape in known]
            if place == axis:
                joined.append(total(parts))
            else:
                joined.append(next((part for part in parts if part is not None), None))
        return joined

    def _gather(self, node: ir.Node) -> list[Size | None] | None:
        data, indices = self.sizes(node.inputs[0]), self.sizes(node.inputs[1])
        if not data or indices is None:
            return None
        axis = node.attributes.get_int("axis", 0) % len(data)
        return [*data[:axis], *indices, *data[axis + 1 :]]

    def _slice(self, node: ir.Node) -> list[Size | None] | None:
        """Sizes of the axes that are not sliced; of others that of constant bounds."""
        source = self.sizes(node.inputs[0])
        if source is None or len(node.inputs) < 4:
            return None
        starts, ends, axes = (self.vector(item) for item in node.inputs[1:4])
        steps = self.vector(node.inputs[4]) if len(node.inputs) > 4 else None
        if axes is None or starts is None or ends is None:
            return None
        for place, axis in enumerate(axes):
            if not isinstance(axis, int) or place >= len(starts) or place >= len(ends):
                return None
            step = steps[place] if steps and place < len(steps) else 1
            source[axis] = sliced(source[axis], starts[place], ends[place], step)
        return source

    def _attention(self, node: ir.Node) -> list[Size | None] | None:
        query, value = self.sizes(node.inputs[0]), self.sizes(node.inputs[2])
        if query is None or value is None:
            return None
        if len(query) == 4:
            return [*query[:3], value[-1]]
        heads = node.attributes.get_int("q_num_heads", 0)
        groups, width = node.attributes.get_int("kv_num_heads", 0), value[-1]
        known = isinstance(width, int) and groups > 0
        return [*query[:2], heads * (width // groups) if known else None]  # type: ignore[operator]

    def _split(self, node: ir.Node) -> None:
        source = self.sizes(node.inputs[0])
        if source is None:
            return
        axis = node.attributes.get_int("axis", 0) % max(len(source), 1)
        parts = self.vector(node.inputs[1]) if len(node.inputs) > 1 else None
        whole, count = source[axis], len(node.outputs)
        if parts is None and isinstance(whole, int) and whole % count == 0:
            parts = [whole // count] * count
        for output, part in zip(node.outputs, parts or [None] * count, strict=False):
            self._set(output, [*source[:axis], part, *source[axis + 1 :]])

    def vector(self, value: ir.Value | None) -> list[Size | None] | None:
        """The elements of an integer vector or scalar; None where it is not followed."""
        if value is None:
            return None
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is not None:
            small = tensor.size <= LONGEST and tensor.dtype.is_integer()
            return [int(number) for number in tensor.numpy().reshape(-1)] if small else None
        return self._vectors.get(value)

    def _content(self, node: ir.Node) -> list[Size | None] | None:
        operator, inputs = node.op_type, node.inputs
        if operator == "Shape":
            sizes = self.sizes(inputs[0])
            if sizes is None:
                return None
            start = node.attributes.get_int("start", 0)
            return sizes[start : node.attributes.get_int("end", len(sizes))]
        if operator in ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape"):
            return self.vector(inputs[0])
        parts = [self.vector(item) for item in inputs]
        if operator == "Concat":
            counts = [self.sizes(item) for item in inputs]
            if any(part is None for part in parts):
                return self._partly(parts, counts)
            return [item for part in parts if part is not None for item in part]
        if not parts or any(part is None for part in parts):
            return None
        known = [part for part in parts if part is not None]
        return computed(node, known)

    def _partly(
        self, parts: list[list[Size | None] | None], counts: list[list[Size | None] | None]
    ) -> list[Size | None] | None:
        """A vector some of whose parts are not followed, but of known lengths."""
        joined: list[Size | None] = []
        for part, count in zip(parts, counts, strict=True):
            if part is not None:
                joined += part
            elif count and len(count) == 1 and isinstance(count[0], int) and count[0] <= LONGEST:
                joined += [None] * count[0]
            else:
                return None
        return joined
