"""Layer and root-mean-square normalizations, found from the square root of a mean square.

    output = (x - mean) / sqrt(mean((x - mean)²) + epsilon) * scale + bias      centered
    output = x / sqrt(mean(x²) + epsilon) * scale + bias                        not centered

From the root the search goes forward to where it divides what was squared, and on through scale
and bias. Everything but the root may be in another order, or missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import onnx_ir as ir

from burnish.optimizer.analysis.matching import (
    FLOATS,
    made_by,
    only_reader,
    operands,
    origin,
    readers,
    with_operand,
)
from burnish.optimizer.analysis.norms.moments import (
    Moment,
    alike,
    centered,
    mean_of,
    sizes_of,
)
from burnish.optimizer.analysis.norms.roots import Root, inverse_of
from burnish.optimizer.analysis.products import label


@dataclass(frozen=True)
class Normalization:
    """See the module's docstring.

    Attributes:
        moment: what is under the root.
        source: `x`, in the type of the output.
        scale, bias: constants or values of the sizes of the normalized axes, or None.
        output: value that holds the result.
    """

    moment: Moment
    epsilon: float
    source: ir.Value
    output: ir.Value
    scale: ir.Value | None = None
    bias: ir.Value | None = None

    @property
    def axis(self) -> int:
        """The first of the trailing axes, counted from the last."""
        return -len(self.moment.axes)

    @property
    def kind(self) -> ir.DataType | None:
        """The type of the output, which elementwise operators share with their operands."""
        producer = self.output.producer()
        values = (self.output, *(producer.inputs if producer is not None else ()))
        return next((item.dtype for item in values if item is not None and item.dtype), None)


def normalizations(root: Root) -> list[Normalization] | str:
    """What is normalized by a root; why nothing is, where nothing is."""
    if root.problem:
        return root.problem
    found, problem = [], f"nothing divides by {label(root.node)}"
    for result in _divided(root, root.node.outputs[0], root.inverted, None):
        if isinstance(result, str):
            problem = result
        elif isinstance(typed := _typed(_affine(result)), str):
            problem = typed
        else:
            found.append(typed)
    return found or problem


def _divided(
    root: Root, value: ir.Value, inverted: bool, scale: ir.Value | None
) -> Iterator[Normalization | str]:
    """Follow the root, or its inverse times a scale, to what it divides."""
    for reader in readers(value):
        if reader.domain != "":
            yield f"{label(reader)} reads the root"
            continue
        result = reader.outputs[0]
        if reader.op_type in ("Identity", "Cast"):
            yield from _divided(root, result, inverted, scale)
        elif not inverted and inverse_of(reader) is value:
            yield from _divided(root, result, True, scale)
        elif reader.op_type == "Div" and not inverted and reader.inputs[1] is value:
            yield _numerator(root, reader, reader.inputs[0], scale)
        elif reader.op_type == "Mul" and inverted:
            yield from _multiplied(root, reader, value, scale)
        elif reader.op_type == "Add" and not inverted:
            yield f"epsilon is added outside of the root, at {label(reader)}"
        elif reader.op_type in ("Max", "Clip") and not inverted:
            yield f"{label(reader)} bounds the root instead of adding epsilon to the mean square"
        else:
            yield f"{label(reader)} neither multiplies nor divides by the root"


def _multiplied(
    root: Root, node: ir.Node, inverse: ir.Value, scale: ir.Value | None
) -> Iterator[Normalization | str]:
    """Follow the inverse into a product."""
    other = node.inputs[1] if node.inputs[0] is inverse else node.inputs[0]
    found: Normalization | str | None = _shifted(root, node, inverse, other, scale)
    found = found or _numerator(root, node, other, scale)
    if isinstance(found, str) and scale is None and other is not None and _fits(root.moment, other):
        yield from _divided(root, node.outputs[0], True, other)
    else:
        yield found


def _numerator(
    root: Root, node: ir.Node, value: ir.Value | None, scale: ir.Value | None
) -> Normalization | str:
    """The normalization where a value is what was squared, perhaps scaled before."""
    if value is None:
        return f"{label(node)} has no numerator"
    moment, output = root.moment, node.outputs[0]
    if (source := _squared(moment, value)) is not None:
        return Normalization(moment, root.epsilon, source, output, scale)
    product = made_by(value, "Mul") if scale is None else None
    for first, second in operands(product) if product is not None else ():
        source = _squared(moment, first)
        if source is not None and _fits(moment, second):
            return Normalization(moment, root.epsilon, source, output, second)
    wanted = "x - mean" if moment.centered else "x"
    return f"{label(node)} does not divide the {wanted} whose square is averaged"


def _squared(moment: Moment, value: ir.Value) -> ir.Value | None:
    """`x` where a value is `x` or, if the moment is centered, `x - mean`."""
    if not moment.centered:
        return value if origin(value) is origin(moment.base) else None
    around = centered(value)
    return around.base if around is not None and alike(around, moment) else None


def _shifted(
    root: Root, node: ir.Node, inverse: ir.Value, other: ir.Value | None, scale: ir.Value | None
) -> Normalization | None:
    """The spelling `x * i + (bias - mean * i)`, with `i` the inverse times the scale."""
    moment = root.moment
    if not moment.centered or other is None or origin(other) is not origin(moment.base):
        return None

    def is_mean(value: ir.Value) -> bool:
        pair = with_operand(made_by(value, "Mul"), lambda item: item is inverse)
        mean = mean_of(pair[1]) if pair is not None else None
        return mean is not None and alike(mean, moment)

    product = node.outputs[0]
    for reader in readers(product):
        base = Normalization(moment, root.epsilon, other, reader.outputs[0], scale)
        if reader.op_type == "Sub" and reader.inputs[0] is product:
            if reader.inputs[1] is not None and is_mean(reader.inputs[1]):
                return base
        elif reader.op_type == "Add":
            rest = reader.inputs[1] if reader.inputs[0] is product else reader.inputs[0]
            shift = made_by(rest, "Sub", "Neg")
            if shift is None or (mean := shift.inputs[-1]) is None or not is_mean(mean):
                continue
            bias = shift.inputs[0] if shift.op_type == "Sub" else None
            if bias is None or _fits(moment, bias):
                return replace(base, bias=bias)
    return None


def _affine(found: Normalization) -> Normalization:
    """Go on through scale and bias, and through a cast before them, where nothing else reads."""
    while found.bias is None:
        output = found.output
        reader = only_reader(output)
        if reader is not None and reader.op_type == "Cast" and found.scale is None:
            back = reader.outputs[0]
            reader = only_reader(back) if back.dtype is origin(found.source).dtype else None
            output = back
        if reader is None or reader.domain != "" or reader.op_type not in ("Mul", "Add"):
            break
        other = reader.inputs[1] if reader.inputs[0] is output else reader.inputs[0]
        if other is None or not _fits(found.moment, other):
            break
        if reader.op_type == "Mul" and found.scale is None:
            found = replace(found, scale=other, output=reader.outputs[0])
        elif reader.op_type == "Add" and found.moment.centered:
            found = replace(found, bias=other, output=reader.outputs[0])
        else:
            break
    return found


def _fits(moment: Moment, value: ir.Value) -> bool:
    """Whether a value has one element for each of the normalized ones, or a constant just one."""
    trailing = len(moment.axes)
    sizes = sizes_of(moment.base, trailing)
    constant = ir.convenience.get_const_tensor(value)
    shape = constant.shape if constant is not None else value.shape
    if shape is None or sizes is None or moment.base.shape is None:
        return False
    dims = tuple(shape)
    if constant is None:
        return dims == sizes
    leading = (1,) * max(0, len(dims) - trailing)
    broadcast = dims == (1,) * len(dims) or dims == (*leading, *sizes)
    return broadcast and len(dims) <= len(moment.base.shape)


def _typed(found: Normalization) -> Normalization | str:
    """The normalization with its `x` in the type of its output; why it has none."""
    kind, source = found.kind, found.source
    if kind is ir.DataType.DOUBLE:
        return "it is in double precision, and ONNX's operator computes in single precision"
    for candidate in (source, origin(source)):
        if kind in FLOATS and candidate.dtype in (kind, None):
            return replace(found, source=candidate)
    return f"no value of type {kind.name if kind else 'unknown'} holds what is normalized"
