"""The questions that matchers ask of values and nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import onnx_ir as ir

from burnish.optimizer.pruning import take_over

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)

EXACT_CASTS = {
    (ir.DataType.FLOAT16, ir.DataType.FLOAT),
    (ir.DataType.BFLOAT16, ir.DataType.FLOAT),
    (ir.DataType.FLOAT16, ir.DataType.DOUBLE),
    (ir.DataType.BFLOAT16, ir.DataType.DOUBLE),
    (ir.DataType.FLOAT, ir.DataType.DOUBLE),
}
"""Casts, from one type to another, that lose nothing."""


COMPUTED: dict[str, Callable[..., float]] = {
    "Cast": float,
    "Identity": float,
    "Sqrt": math.sqrt,
    "Mul": lambda first, second: first * second,
    "Div": lambda first, second: first / second,
    "Pow": lambda first, second: float(first**second),
    "Reciprocal": lambda number: 1.0 / number,
}
"""What exporters leave of the computation of a scale."""


def scalar(value: ir.Value | None) -> float | None:
    """The number that a constant of one element holds."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    if tensor is None or tensor.size != 1 or tensor.dtype is ir.DataType.STRING:
        return None
    return float(tensor.numpy().reshape(()))


def optional(node: ir.Node, index: int) -> ir.Value | None:
    """An input that may be left out."""
    return node.inputs[index] if len(node.inputs) > index else None


def rank(value: ir.Value | None) -> int:
    """Axes of a value; -1 where it is not known."""
    return len(value.shape) if value is not None and value.shape is not None else -1


def written_size(value: ir.Value, axis: int) -> int | str | tuple[ir.Value, int]:
    """The size of an axis of a value as declared; one without a name is equal to itself only."""
    known = value.shape[axis] if value.shape is not None else None
    name = known.value if isinstance(known, ir.SymbolicDim) else known
    return (value, axis) if name is None else name


def broadcast_written(values: Sequence[ir.Value | None]) -> ir.Shape | None:
    """The declared shape that elementwise operators give; None where one is not declared.

    Of sizes other than 1 that stand beside each other, that of the first value is taken.
    """
    shapes = [value.shape for value in values if value is not None]
    known = [list(shape) for shape in shapes if shape is not None]
    if len(known) != len(shapes):
        return None
    ones: list[int | ir.SymbolicDim] = [1] * max(map(len, known))
    rows = [ones[len(shape) :] + shape for shape in known]
    return ir.Shape([next((d for d in dims if d != 1), 1) for dims in zip(*rows, strict=True)])


def number(value: ir.Value | None, depth: int = 6) -> float | None:
    """The floating point number that a value certainly is: a constant, or computed from such.

    Exporters compute a scale as `Sqrt(Cast(size))`, and the size is a constant only later.
    """
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    if value is None or (tensor is not None and tensor.size != 1):
        return None
    if tensor is not None:
        # What is computed on may be an integer; a factor of the value's own type may not.
        return scalar(value) if tensor.dtype.is_floating_point() or depth < 6 else None
    node = made_by(value, *COMPUTED)
    if node is None or depth == 0:
        return None
    numbers = [number(item, depth - 1) for item in node.inputs]
    found = [item for item in numbers if item is not None]
    try:
        return COMPUTED[node.op_type](*found) if len(found) == len(numbers) else None
    except (ArithmeticError, ValueError):
        return None


def near(number: float | None, wanted: float, relative: float = 1e-5) -> bool:
    """Whether a number is another one as it is written with six digits."""
    return number is not None and math.isclose(number, wanted, rel_tol=relative)


def made_by(value: ir.Value | None, *operators: str) -> ir.Node | None:
    """The node that makes a value, where it is one of these standard operators."""
    node = value.producer() if value is not None else None
    known = node is not None and node.domain == "" and node.op_type in operators
    return node if known else None


def operands(node: ir.Node) -> Iterator[tuple[ir.Value, ir.Value]]:
    """The two operands of a commutative node in both orders."""
    if len(node.inputs) == 2:
        first, second = node.inputs
        if first is not None and second is not None:
            yield first, second
            yield second, first


def with_operand(
    node: ir.Node | None, wanted: Callable[[ir.Value], bool]
) -> tuple[ir.Value, ir.Value] | None:
    """The operand of a commutative node that is wanted, and the other one."""
    pairs = operands(node) if node is not None else ()
    return next((pair for pair in pairs if wanted(pair[0])), None)


def origin(value: ir.Value) -> ir.Value:
    """The value that holds the same numbers, before `Identity` and casts that lose nothing."""
    while (node := made_by(value, "Identity", "Cast")) is not None:
        before = node.inputs[0]
        if before is None or (node.op_type == "Cast" and not _loses_nothing(before, node)):
            break
        value = before
    return value


def _loses_nothing(before: ir.Value, cast: ir.Node) -> bool:
    target = ir.DataType(cast.attributes.get_int("to", 0))
    return before.dtype is target or (before.dtype, target) in EXACT_CASTS


def readers(value: ir.Value) -> list[ir.Node]:
    """The nodes that read a value, each once, in order."""
    return list(dict.fromkeys(use.node for use in value.uses()))


def only_reader(value: ir.Value) -> ir.Node | None:
    """The one node that reads a value, where that is all that needs it."""
    found = readers(value)
    return found[0] if len(found) == 1 and not value.is_graph_output() else None


def axes_of(node: ir.Node) -> tuple[int, ...] | None:
    """The axes of a reduction, given as attribute or as input; None for all or unknown ones."""
    if "axes" in node.attributes:
        return tuple(node.attributes["axes"].as_ints())
    tensor = None
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        tensor = ir.convenience.get_const_tensor(node.inputs[1])
    if tensor is None or tensor.size == 0:
        return None
    return tuple(int(axis) for axis in tensor.numpy().reshape(-1))


def replace(old: ir.Value, *nodes: ir.Node) -> None:
    """Let new nodes, put where the old value's is, give that value; the last one's output is it.

    The value keeps its name, type and shape; what nothing needs any more goes.
    """
    producer, value = old.producer(), nodes[-1].outputs[0]
    assert producer is not None and isinstance(producer.graph, ir.Graph)
    value.type, value.shape = old.type, old.shape
    producer.graph.insert_before(producer, nodes)
    take_over(old, value)
