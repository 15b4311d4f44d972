"""Terms of a mask written as nodes, at whatever positions are given."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.masks.bounds import lower
from burnish.optimizer.analysis.masks.rewrite import topological
from burnish.optimizer.analysis.masks.sizes import declared
from burnish.optimizer.analysis.masks.terms import Term
from burnish.passes.lower.attention.writer import Writer

BOOL, INT64, FLOAT = ir.DataType.BOOL, ir.DataType.INT64, ir.DataType.FLOAT

COMPARED = {"at_most": "LessOrEqual", "below": "Less", "zero": "Equal"}
JOINED = {"and": "And", "or": "Or", "product": "Mul"}
CALLED = {
    "abs": "Abs", "ceil": "Ceil", "div": "Div", "exp": "Exp", "floor": "Floor", "int_div": "Div",
    "log": "Log", "max": "Max", "min": "Min", "mod": "Mod", "pow": "Pow", "round": "Round",
    "sign": "Sign", "sqrt": "Sqrt",
}  # fmt: skip
"""Operators by function; `floor_div` is one of non-negative numbers only."""

REAL = {"ceil", "div", "exp", "floor", "log", "pow", "round", "sqrt"}
"""Functions whose operators take floats."""


def unwritable(term: Term, sizes: Mapping[str, tuple[ir.Value, int]]) -> str:
    """Why a term cannot be written; empty where it can.

    Args:
        term: over `batch`, `head`, `query` and `key`.
        sizes: for each symbol a value, and its axis, of that size.
    """
    for item in parts_of(term):
        if item.op == "call":
            if item.value == "floor_div" and min(map(lower, item.args)) < 0:
                return "its mask divides numbers that may be negative"
            if item.value not in CALLED and item.value != "floor_div":
                return f"its mask takes the {item.value} of a number"
        if item.op == "size" and isinstance(item.value, str) and item.value not in sizes:
            return f"no value of size {item.value} is known"
        if item.op == "lookup" and (declared(item.value) is None or not item.args):
            return "its mask looks up what has no axes"
        if item.op == "const" and not np.isfinite(item.value):
            return "its mask adds an infinite number"
    return ""


def parts_of(term: Term, known: Iterable[Term] = ()) -> Iterator[Term]:
    """The parts of a term but those that are known; not the extents of its axes."""
    positions = [item for item in topological(term) if item.op == "index"]
    yield from positions
    yield from topological(term, dict.fromkeys([*known, *positions]))


class WrittenTerms:
    """Writes terms before a node; each part once.

    Args:
        writer, before: of the graph, and the node that what is written stands before.
        positions: values of whole numbers by axis name, which broadcast against each other.
        sizes: see `unwritable`.
    """

    def __init__(
        self,
        writer: Writer,
        before: ir.Node,
        positions: Mapping[str, ir.Value],
        sizes: Mapping[str, tuple[ir.Value, int]],
    ) -> None:
        self._writer, self._before = writer, before
        self._positions, self._sizes = positions, sizes
        self._done: dict[Term, ir.Value] = {}

    def value(self, term: Term) -> ir.Value:
        """The term as a value: a truth value, a whole number, or a float."""
        for item in parts_of(term, self._done):
            args = [] if item.op == "index" else [self._done[part] for part in item.args]
            self._done[item] = self._written(item, args)
        return self._done[term]

    def number(self, term: Term) -> ir.Value:
        """The term as a float."""
        return self._cast(self.value(term), FLOAT)

    def _written(self, term: Term, args: list[ir.Value]) -> ir.Value:
        op = term.op
        if op == "const":
            return self._constant(term.value)
        if op == "index":
            return self._positions[term.value]
        if op == "size":
            value, axis = self._sizes[term.value] if isinstance(term.value, str) else term.value
            return self._node("Squeeze", [self._writer.length(self._before, value, axis)], INT64)
        if op == "lookup":
            return self._looked_up(term, args)
        if op == "sum":
            return self._sum(term, args)
        if op == "pick":
            return self._picked(args)
        if op in COMPARED:
            zero = self._constant(0 if args[0].dtype is INT64 else 0.0)
            return self._node(COMPARED[op], [args[0], zero], BOOL)
        if op == "not":
            return self._node("Not", [self._cast(args[0], BOOL)], BOOL)
        if op == "where":
            branches = self._alike(args[1:])
            condition = self._cast(args[0], BOOL)
            return self._node("Where", [condition, *branches], branches[0].dtype)
        if op in JOINED:
            parts = [self._cast(item, BOOL) for item in args] if op != "product" else None
            return self._joined(JOINED[op], parts or self._alike(args))
        return self._called(term, args)

    def _sum(self, term: Term, args: list[ir.Value]) -> ir.Value:
        coefficients, constant = term.value
        whole = all(item.dtype is INT64 for item in args)
        whole &= all(float(number).is_integer() for number in (*coefficients, constant))
        kind = INT64 if whole else FLOAT
        parts = []
        for factor, item in zip(coefficients, args, strict=True):
            item = self._cast(item, kind)
            scaled = [item, self._constant(int(factor) if whole else float(factor))]
            parts.append(item if factor == 1 else self._node("Mul", scaled, kind))
        if constant or not parts:
            parts.append(self._constant(int(constant) if whole else float(constant)))
        return self._joined("Add", parts)

    def _called(self, term: Term, args: list[ir.Value]) -> ir.Value:
        name = term.value
        if name == "floor_div":
            name = "int_div"
        elif name in REAL:
            args = [self._cast(item, FLOAT) for item in args]
        args = self._alike(args)
        real = args[0].dtype is FLOAT
        if name == "int_div" and real:
            return self._node("Floor", [self._node("Div", args, FLOAT)], FLOAT)
        if name == "mod" and real:
            quotient = self._node("Floor", [self._node("Div", args, FLOAT)], FLOAT)
            product = self._node("Mul", [quotient, args[1]], FLOAT)
            return self._node("Sub", [args[0], product], FLOAT)
        result = self._node(CALLED[name], args, args[0].dtype)
        # What stays whole goes on as an index.
        return self._cast(result, INT64) if term.integral and real else result

    def _picked(self, args: list[ir.Value]) -> ir.Value:
        position, *items = args
        items = self._alike(items)
        result = items[-1]
        for place in range(len(items) - 2, -1, -1):
            here = self._node("Equal", [position, self._constant(place)], BOOL)
            result = self._node("Where", [here, items[place], result], items[0].dtype)
        return result

    def _looked_up(self, term: Term, args: list[ir.Value]) -> ir.Value:
        """An element by its place in the flattened table; a negative index is from the end."""
        table, writer, before = term.value, self._writer, self._before
        shape = declared(table)
        assert shape is not None
        place = self._constant(0)
        for axis, (index, item) in enumerate(zip(term.args, args, strict=True)):
            item = self._cast(item, INT64)
            length = self._node("Squeeze", [writer.length(before, table, axis)], INT64)
            if lower(index) < 0:
                behind = self._node("Less", [item, self._constant(0)], BOOL)
                other = self._node("Add", [item, length], INT64)
                item = self._node("Where", [behind, other, item], INT64)
            # Where a condition around it rules an index out, that index may be outside.
            last = self._node("Sub", [length, self._constant(1)], INT64)
            item = self._node("Min", [item, last], INT64)
            item = self._node("Max", [item, self._constant(0)], INT64)
            if axis:
                item = self._node("Add", [self._node("Mul", [place, length], INT64), item], INT64)
            place = item
        flat = self._node("Reshape", [table, writer.integers(-1)], table.dtype)
        found = self._node("Gather", [flat, place], table.dtype)
        if table.dtype is BOOL:
            return found
        return self._cast(found, INT64 if term.integral else FLOAT)

    def _joined(self, operator: str, parts: list[ir.Value]) -> ir.Value:
        kind = parts[0].dtype
        return functools.reduce(lambda one, other: self._node(operator, [one, other], kind), parts)

    def _alike(self, args: list[ir.Value]) -> list[ir.Value]:
        """Operands of one type: truth values, whole numbers, or floats."""
        kinds = {item.dtype for item in args}
        kind = kinds.pop() if len(kinds) == 1 else FLOAT if FLOAT in kinds else INT64
        return [self._cast(item, kind) for item in args]

    def _cast(self, value: ir.Value, kind: ir.DataType | None) -> ir.Value:
        if value.dtype is kind or kind is None:
            return value
        key = ("cast", value, kind)
        return self._writer.once(key, self._before, "Cast", [value], kind, to=kind.value)

    def _constant(self, number: bool | int | float) -> ir.Value:
        kind = np.bool_ if isinstance(number, bool) else np.int64
        kind = np.float32 if isinstance(number, float) else kind
        return self._writer.constant("number", np.array(number, kind))

    def _node(
        self, operator: str, inputs: Sequence[ir.Value], kind: ir.DataType | None
    ) -> ir.Value:
        assert kind is not None
        key = (operator, *inputs, kind)
        return self._writer.once(key, self._before, operator, [*inputs], kind)
