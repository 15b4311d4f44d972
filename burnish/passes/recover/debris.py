"""What exporters add around the arithmetic, and what changes nothing, goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.sizes import Shape, Size, Sizes, product
from burnish.optimizer.constants import Constants
from burnish.optimizer.contract import EXACT, Context, Outcome, Pass, Phase
from burnish.optimizer.pruning import prune

ORDERLY = frozenset({"Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity"})
"""Operators that keep all elements, and their order."""

WIDER = {
    ir.DataType.FLOAT16: {ir.DataType.FLOAT, ir.DataType.DOUBLE},
    ir.DataType.BFLOAT16: {ir.DataType.FLOAT, ir.DataType.DOUBLE},
    ir.DataType.FLOAT: {ir.DataType.DOUBLE},
    ir.DataType.INT32: {ir.DataType.INT64, ir.DataType.DOUBLE},
    ir.DataType.BOOL: {ir.DataType.INT32, ir.DataType.INT64, ir.DataType.FLOAT},
}
"""Types that hold every number of another one."""


@dataclass(frozen=True)
class Debris(Pass):
    """Remove reshapes, transposes, casts, expands and slices that change nothing.

    Shapes are worked out from the operators as polynomials in the sizes of the inputs, so that what
    is equal in every run is known to be equal although no number is.

    Before:
        `Reshape(Reshape(x))`, `Reshape(x, shape of x)`, `Transpose(Transpose(x))`,
        `Squeeze(Unsqueeze(x))`, `Cast(Cast(x))` to a wider type and back, `Expand` to the shape
        that there is, `Slice` of everything, `Concat` of one, and shapes computed at run time:
        `Reshape(x, Concat(Shape(x)[0], Shape(x)[1], 12, 64))`.
    After:
        `x`, one operator in place of two, `Reshape(x, [0, 0, 12, 64])`, and one computation of each
        size.
    Refuses when:
        Never; what is not proved to change nothing stays.
    Numerics:
        Exact; no arithmetic on elements changes.
    """

    name = "debris"
    phase = Phase.RECOVER
    promise = EXACT

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, in the order of the graph, until nothing changes."""
        done = 0
        while changed := _sweep(model):
            done += changed
        return Outcome(done, detail=f"{done} nodes")


def _sweep(model: ir.Model) -> int:
    """Look at each node once. What is learned on the way can show more, which is rare."""
    sweeper = _Sweeper(model, Sizes.of(model))
    nodes = list(ir.traversal.RecursiveGraphIterator(model.graph))
    return sum(sweeper.sweep(node) for node in nodes if node.graph is not None)


@dataclass
class _Sweeper:
    """Looks at each node once, after what it reads."""

    model: ir.Model
    sizes: Sizes
    _int64: set[ir.Value] = field(default_factory=set)
    _known: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)
    _constants: Constants = field(default_factory=Constants)

    def sweep(self, node: ir.Node) -> bool:
        """Simplify a node; whether anything changed."""
        if node.domain != "" or len(node.outputs) != 1 or node.graph is None:
            return False
        rules: tuple[Callable[[ir.Node], bool], ...] = (
            self._is_nothing,
            self._is_known,
            self._merge_transposes,
            self._merge_casts,
            self._merge_reshapes,
            self._fix_shape,
        )
        if not node.inputs:
            return False
        # What it reads may be another value by now, of which more is known.
        self.sizes.visit(node)
        changed = False
        for rule in rules:
            if node.graph is not None and rule(node):
                changed = True
        return changed

    def _is_nothing(self, node: ir.Node) -> bool:
        """Let readers read what the node, or a chain of nodes that ends here, began with."""
        source = self._same(node)
        return source is not None and self._replace(node, source)

    def _same(self, node: ir.Node) -> ir.Value | None:
        source = node.inputs[0] if node.inputs else None
        if source is None:
            return None
        shape, mine = self.sizes.shape(source), self.sizes.shape(node.outputs[0])
        kept = shape is not None and shape == mine
        operator = node.op_type
        if operator == "Concat":
            return source if len(node.inputs) == 1 else None
        if operator == "Cast":
            same = source.dtype is not None and source.dtype == node.attributes.get_int("to", 0)
            return source if same else None
        if operator == "Transpose":
            order = node.attributes.get_ints("perm", ())
            return source if order and list(order) == list(range(len(order))) else None
        if operator in ("Expand", "Slice"):
            return source if kept and (operator == "Expand" or self._forward(node)) else None
        return self._ancestor(node, mine) if operator in ORDERLY else None

    def _forward(self, node: ir.Node) -> bool:
        """Whether a Slice takes its elements in their order."""
        if len(node.inputs) < 5 or node.inputs[4] is None:
            return True
        steps = self.sizes.elements(node.inputs[4])
        return steps is not None and all(step == Size.of(1) for step in steps)

    def _ancestor(self, node: ir.Node, shape: Shape | None) -> ir.Value | None:
        """The earliest value with the same elements in the same shape."""
        found, value = None, node.inputs[0]
        while value is not None and shape is not None:
            if self.sizes.shape(value) == shape:
                found = value
            maker = value.producer()
            if maker is None or maker.op_type not in ORDERLY or maker.graph is not node.graph:
                break
            value = maker.inputs[0]
        return found

    def _is_known(self, node: ir.Node) -> bool:
        """Let readers of sizes read a constant, or the value that had these sizes first."""
        value = node.outputs[0]
        elements, shape = self.sizes.elements(value), self.sizes.shape(value)
        if elements is None or shape is None or len(shape) > 1:
            return False
        if not self._is_int64(node):
            return False
        self._int64.add(value)
        numbers = [size.number for size in elements]
        if None not in numbers:
            return self._replace(node, self._constant(numbers, not shape))
        key = (node.graph, elements, not shape)
        first = self._known.get(key)
        maker = first.producer() if first is not None else None
        if first is None or maker is None or maker.graph is None:
            # There is none yet, or the one there was has gone with its last reader.
            self._known[key] = value
            return False
        return first is not value and self._replace(node, first)

    def _is_int64(self, node: ir.Node) -> bool:
        """Whether sizes are of this type, from their declaration or from what they are made of."""
        value, source = node.outputs[0], node.inputs[1 if node.op_type == "Where" else 0]
        if value.dtype is not None or node.op_type in ("Cast", "Equal", "ConstantOfShape"):
            return value.dtype is ir.DataType.INT64
        known = source is not None and (source.dtype is ir.DataType.INT64 or source in self._int64)
        return node.op_type == "Shape" or known

    def _merge_transposes(self, node: ir.Node) -> bool:
        maker = _maker(node, "Transpose")
        if maker is None or node.op_type != "Transpose":
            return False
        first, second = maker.attributes.get_ints("perm", ()), node.attributes.get_ints("perm", ())
        if not first or not second:
            return False
        order = tuple(first[axis] for axis in second)
        if order == tuple(range(len(order))):
            return maker.inputs[0] is not None and self._replace(node, maker.inputs[0])
        node.attributes["perm"] = ir.AttrInt64s("perm", order)
        return self._bypass(node, maker)

    def _merge_casts(self, node: ir.Node) -> bool:
        """Leave out a type that holds all of the numbers on the way to another one."""
        maker = _maker(node, "Cast")
        source = maker.inputs[0] if maker is not None else None
        if maker is None or node.op_type != "Cast" or source is None or source.dtype is None:
            return False
        between = ir.DataType(maker.attributes.get_int("to", 0))
        if between not in WIDER.get(source.dtype, set()):
            return False
        if source.dtype == node.attributes.get_int("to", 0):
            return self._replace(node, source)
        return self._bypass(node, maker)

    def _merge_reshapes(self, node: ir.Node) -> bool:
        """Reshape what another reshape began with."""
        maker = node.inputs[0].producer() if node.op_type == "Reshape" and node.inputs[0] else None
        if maker is None or maker.graph is not node.graph:
            return False
        if maker.op_type not in ORDERLY or node.attributes.get_int("allowzero", 0) != 0:
            return False
        wanted = self.sizes.elements(node.inputs[1])
        before, between = map(self.sizes.shape, (maker.inputs[0], node.inputs[0]))
        if wanted is None or before is None or between is None:
            return False
        for axis, size in enumerate(wanted):
            # A zero copies the size of that axis, which must be the same one.
            if size.number == 0 and before[axis : axis + 1] != between[axis : axis + 1]:
                return False
        return self._bypass(node, maker)

    def _fix_shape(self, node: ir.Node) -> bool:
        """Give a Reshape a constant shape where its sizes are numbers or those of its input."""
        if node.op_type != "Reshape":
            return False
        source, target = node.inputs[0], node.inputs[1]
        shape, wanted = self.sizes.shape(source), self.sizes.shape(node.outputs[0])
        if target is None or shape is None or wanted is None:
            return False
        if ir.convenience.get_const_tensor(target) is not None:
            return False
        numbers = []
        for axis, size in enumerate(wanted):
            same = axis < len(shape) and shape[axis] == size
            number = size.number
            numbers.append(number if number is not None else 0 if same else -1)
        # A zero that is meant, and two sizes to work out, cannot be written. One that is not worked
        # out already has to be what is left: else a run that fails would no longer.
        given = self.sizes.elements(target)
        left = -1 in numbers and (given is None or given[numbers.index(-1)].number != -1)
        meant = any(size.number == 0 for size in wanted)
        if meant or numbers.count(-1) > 1 or node.attributes.get_int("allowzero", 0) != 0:
            return False
        if left and product(list(shape)) != product(list(wanted)):
            return False
        node.replace_input_with(1, self._constant(numbers, False))
        prune([target])
        return True

    def _bypass(self, node: ir.Node, maker: ir.Node) -> bool:
        """Read what the node before reads."""
        node.replace_input_with(0, maker.inputs[0])
        prune([maker.outputs[0]])
        return True

    def _replace(self, node: ir.Node, value: ir.Value) -> bool:
        """Let all readers read `value`; not where an output of the graph would lose its name."""
        result = node.outputs[0]
        if result.is_graph_output():
            return False
        ir.convenience.replace_all_uses_with(result, value)
        prune([result])
        return True

    def _constant(self, numbers: Sequence[int | None], scalar: bool) -> ir.Value:
        known = [number or 0 for number in numbers]
        array = np.array(known[0] if scalar else known, np.int64)
        return self._constants.of(self.model.graph, "sizes", array)


def _maker(node: ir.Node, operator: str) -> ir.Node | None:
    """The producer of a node's input where it has that operator and is in the same graph."""
    source = node.inputs[0] if node.inputs else None
    maker = source.producer() if source is not None else None
    if maker is None or maker.op_type != operator or maker.domain != "":
        return None
    return maker if maker.graph is node.graph and maker.inputs[0] is not None else None
