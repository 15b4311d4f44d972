"""The terms of the scores as one mask that is added: [batch or 1, heads or 1, queries, keys]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import broadcast_written, rank, scalar, written_size
from burnish.optimizer.constants import Constants
from burnish.optimizer.pruning import prune
from burnish.passes.recover.attention.operands import insert
from burnish.passes.recover.attention.scores import Hidden, Miss, Scores, Term

FLOOR = 0.3
"""Part of the lowest number that hides a score.

Kernels take a row of lowest numbers for one without keys, and give zero where a softmax gives the
mean. This hides as well, and is not taken for one."""

LARGEST = 1 << 20
"""Elements of the largest table that is searched for numbers that hide."""

MOVES = {"Transpose", "Unsqueeze", "Squeeze", "Reshape", "Gather", "Slice", "Expand", "Identity",
         "GatherElements", "Cast"}  # fmt: skip
"""Operators whose results hold only what their first operand holds."""


@dataclass(frozen=True)
class Frame:
    """What a mask has to fit.

    Attributes:
        query: any value of the queries' type, with the batch in front.
        heads: 0 where there is no axis of heads.
        rows, keys: values with the axes that have an element for each query, and for each key.
        guarded: whether a row without keys is zero.
    """

    query: ir.Value
    heads: int
    rows: tuple[ir.Value, int]
    keys: tuple[ir.Value, int]
    guarded: bool


class Masks:
    """Makes the masks of a graph, each once."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._made: dict[tuple[object, ...], ir.Value] = {}
        self._constants = Constants()

    def mask(self, scores: Scores, frame: Frame, before: ir.Node) -> ir.Value | Miss | None:
        """The sum of the terms, in new nodes before another; None where there are no terms."""
        total: ir.Value | None = None
        for term in reversed(scores.terms):
            part = self._part(term, frame, before)
            if isinstance(part, Miss):
                return part
            total = part if total is None else self._sum(total, part, before)
        if total is None:
            return None
        if scores.cast is not None and total.dtype != frame.query.dtype:
            return Miss(before, "its mask is of another type than its queries")
        return self._expanded(total, frame, before)

    def _part(self, term: Term | Hidden, frame: Frame, before: ir.Node) -> ir.Value | Miss:
        value = term.value if isinstance(term, Term) else term.condition
        if rank(value) < 0:
            return Miss(before, f"the shape of its mask {value.name} is not known")
        if isinstance(term, Hidden):
            value = self._hiding(term, frame.query, before)
        elif term.factor != 1.0:
            factor = self._constant("factor", term.factor, value)
            value = self._once("Mul", [value, factor], before, like=value, shape=value.shape)
        if isinstance(term, Term):
            value = self._above_lowest(value, before, guarded=frame.guarded)
        if term.windows is not None and rank(value) == 5:
            return self._of_windows(value, frame.query, before)
        if rank(value) > 4:
            return Miss(before, f"its mask {value.name} has {rank(value)} axes")
        if rank(value) == 3:
            return self._with_heads(value, frame.heads, before)
        return value

    def _above_lowest(self, value: ir.Value, before: ir.Node, *, guarded: bool) -> ir.Value:
        """The mask with none of the numbers by which kernels know a row without keys.

        Where NaN is guarded against, a row of -inf is zero, for the kernels as well.
        """
        assert value.dtype is not None
        floor = FLOOR * float(value.dtype.min)
        node = value.producer()
        if node is not None and node.op_type == "Where":
            fills = [scalar(item) for item in node.inputs[1:]]
            if None not in fills:
                low = min(number for number in fills if number is not None)
                if low > floor or (guarded and np.isinf(low)):
                    return value
                kept = [max(number, floor) for number in fills if number is not None]
                pair = [self._constant("mask", number, value) for number in kept]
                inputs = [node.inputs[0], *pair]
                return self._once("Where", inputs, before, like=value, shape=value.shape)  # type: ignore[arg-type]
        if guarded or _above(value, floor):
            return value
        least = self._constant("mask", floor, value)
        return self._once("Max", [value, least], before, like=value, shape=value.shape)

    def _hiding(self, term: Hidden, like: ir.Value, before: ir.Node) -> ir.Value:
        """0 where a score stays, and what hides it elsewhere."""
        lowest = -np.inf if np.isinf(term.fill) else FLOOR * float(like.dtype.min)  # type: ignore[union-attr]
        zero, fill = (self._constant("mask", number, like) for number in (0.0, lowest))
        pair = [fill, zero] if term.where else [zero, fill]
        condition = term.condition
        return self._once("Where", [condition, *pair], before, like=like, shape=condition.shape)

    def _with_heads(self, value: ir.Value, heads: int, before: ir.Node) -> ir.Value:
        """[batch * heads, queries, keys] (or 1 in front) as a value of four axes."""
        assert value.shape is not None
        first, *tail = list(value.shape)
        if first == 1 or not heads:
            return self._unsqueezed(value, 1, [first, 1, *tail], before)
        if first == heads:  # one table for each head, none for each row of the batch
            return self._unsqueezed(value, 0, [1, heads, *tail], before)
        sizes = self._shape(value, 1, 3, before)
        lead = self.integers("lead", [-1, heads])
        target = self._vector([lead, sizes], 4, before)
        apart = ir.Shape([None, heads, *tail])
        return self._once("Reshape", [value, target], before, like=value, shape=apart)

    def _unsqueezed(
        self, value: ir.Value, axis: int, shape: list[int | ir.SymbolicDim], before: ir.Node
    ) -> ir.Value:
        axes = self.integers("axis", [axis])
        return self._once("Unsqueeze", [value, axes], before, like=value, shape=ir.Shape(shape))

    def _of_windows(self, value: ir.Value, query: ir.Value, before: ir.Node) -> ir.Value | Miss:
        """[1, windows, 1, n, n], repeated for each image: [batch * windows, 1, n, n]."""
        assert value.shape is not None
        first, windows, heads, *rest = list(value.shape)
        if first != 1 or heads != 1 or not isinstance(windows, int):
            return Miss(before, f"its mask {value.name} differs from image to image or by heads")
        if not all(isinstance(item, int) for item in rest):
            return Miss(before, f"the shape of its mask {value.name} is not known")
        count = self._shape(query, 0, 1, before)
        divisor = self.integers("windows", [windows])
        vector = ir.Shape([1])
        images = self._once("Div", [count, divisor], before, like=count, shape=vector)
        tail = self.integers("window", [windows, 1, *rest])  # type: ignore[list-item]
        wide = self._vector([images, tail], 5, before)
        shape = ir.Shape([None, windows, 1, *rest])
        many = self._once("Expand", [value, wide], before, like=value, shape=shape)
        target = self.integers("windows_first", [-1, 1, *rest])  # type: ignore[list-item]
        shape = ir.Shape([None, 1, *rest])
        return self._once("Reshape", [many, target], before, like=value, shape=shape)

    def _sum(self, first: ir.Value, second: ir.Value, before: ir.Node) -> ir.Value:
        shape = broadcast_written([second, first])
        return self._once("Add", [first, second], before, like=first, shape=shape)

    def _expanded(self, mask: ir.Value, frame: Frame, before: ir.Node) -> ir.Value:
        """The mask with a row for each query: kernels do not repeat it for them."""
        assert mask.shape is not None
        wanted = (written_size(*frame.rows), written_size(*frame.keys))
        present = (
            tuple(written_size(mask, rank(mask) - back) for back in (2, 1))
            if rank(mask) > 1
            else ()
        )
        if present == wanted:
            return mask
        key = (mask, *wanted)
        if key not in self._made or not all(isinstance(item, int | str) for item in wanted):
            parts = [
                self._shape(value, axis, axis + 1, before)
                for value, axis in (frame.rows, frame.keys)
            ]
            target = self._vector(parts, 2, before)
            shape = ir.Shape([*list(mask.shape)[:-2], *(_dim(item) for item in wanted)])
            self._made[key] = insert(before, "Expand", [mask, target], like=mask, shape=shape)
        return self._made[key]

    def _once(
        self,
        operator: str,
        inputs: list[ir.Value],
        before: ir.Node,
        *,
        like: ir.Value,
        shape: ir.Shape | None,
    ) -> ir.Value:
        """The output of a node, made where there is none yet with these inputs."""
        key = (operator, *inputs)
        if key not in self._made:
            self._made[key] = insert(before, operator, [*inputs], like=like, shape=shape)
        return self._made[key]

    def _shape(self, value: ir.Value, start: int, end: int, before: ir.Node) -> ir.Value:
        key = ("Shape", value, start, end)
        if key not in self._made:
            like = self.integers("one", [1])
            self._made[key] = insert(
                before, "Shape", [value], like=like, shape=ir.Shape([end - start]),
                start=start, end=end,
            )  # fmt: skip
        return self._made[key]

    def _vector(self, parts: list[ir.Value], length: int, before: ir.Node) -> ir.Value:
        key = ("Concat", *parts)
        if key not in self._made:
            shape = ir.Shape([length])
            self._made[key] = insert(before, "Concat", [*parts], like=parts[0], shape=shape, axis=0)
        return self._made[key]

    def integers(self, name: str, numbers: list[int]) -> ir.Value:
        """An initializer [n] of these numbers."""
        return self._initializer(name, np.array(numbers, np.int64))

    def _constant(self, name: str, number: float, like: ir.Value) -> ir.Value:
        assert like.dtype is not None
        return self._initializer(name, np.array(number, np.float32).astype(like.dtype.numpy()))

    def sweep(self) -> None:
        """Remove what was made for an attention that then was left alone."""
        prune([*self._made.values(), *self._constants])

    def _initializer(self, name: str, array: np.ndarray) -> ir.Value:
        return self._constants.of(self._graph, name, array)


def _above(value: ir.Value, floor: float) -> bool:
    """Whether every element is known to lie above a number: those of a table, or of a product."""
    stack, seen = [value], set()
    while stack:
        item = stack.pop()
        node = item.producer()
        if item in seen:
            continue
        seen.add(item)
        tensor = ir.convenience.get_const_tensor(item)
        if tensor is not None:
            if tensor.size > LARGEST or not bool((tensor.numpy() > floor).all()):
                return False
        elif node is not None and node.op_type in MOVES:
            stack += [part for part in node.inputs[:1] if part is not None]
        elif node is not None and node.op_type in ("Add", "Mul", "Div"):
            stack += [part for part in node.inputs if part is not None]
        elif node is None or node.op_type != "MatMul":
            return False
    return True


def _dim(size: int | str | tuple[ir.Value, int]) -> int | str | None:
    return size if isinstance(size, int | str) else None
