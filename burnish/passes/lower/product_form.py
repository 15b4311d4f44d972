"""Transposes and scales around a product go into it where that is measured faster."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx
import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.matching import only_reader, operands, readers, scalar
from burnish.optimizer.analysis.shapes.concrete import Axes, Concrete, text
from burnish.optimizer.contract import ROUNDING, Choice, Context, Outcome, Pass, Phase
from burnish.optimizer.forms import AS_IT_IS, FUSED, Tally
from burnish.optimizer.pruning import take_over
from burnish.optimizer.samples import LARGEST, LARGEST_WORK, Sample, shortened

FORM = "FusedMatMul"

RULES = {"cpu": AS_IT_IS, "cuda": FORM}
"""What is taken unmeasured, by provider.

Both fuse the plainest of these when they load a model; on GPUs whatever is left is a kernel to
launch and a pass through memory."""

FARTHEST = 4
"""Transposes and scales that are looked through at each operand."""


@dataclass(frozen=True)
class LowerProduct(Pass):
    """Let a product transpose and scale its operands itself.

    Before:
        `MatMul(Transpose(a), Transpose(b) * 0.5) * 0.25`, where the transposes swap the last two
        axes.
    After:
        `FusedMatMul<transA = 1, transB = 1, alpha = 0.125>(a, b)`.
    Refuses when:
        It is measured no faster than what ONNX Runtime makes of it, or computes in another type
        than float32. What is transposed or scaled has readers that are no products. A matrix that
        is constant is transposed when the model is loaded, and stays.
    Numerics:
        Rounding.
    """

    name = "product-form"
    phase = Phase.LOWER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        nodes = ir.traversal.RecursiveGraphIterator(model.graph)
        products = [node for node in nodes if node.domain == "" and node.op_type == "MatMul"]
        found = [node for node in products if _place(node) is not None]
        if not found or context.provider not in RULES:
            return Outcome()
        shapes.annotate(model)
        sizes, tally = Concrete(model, context), Tally("products")
        for node in found:
            place = _place(node)
            if place is None:  # a product before it has taken the scale between them
                continue
            if (kind := node.outputs[0].dtype) is not ir.DataType.FLOAT:
                tally.refuse(node, f"it computes in {kind.name if kind else 'an unknown type'}")
            elif tally.takes(node, _choose(place, sizes, context, model.opset_imports[""])):
                _write(place)
        return tally.outcome(model, FORM)


@dataclass(frozen=True)
class _Operand:
    """An operand of a product, and what is done to it first.

    Attributes:
        value: before that.
        steps: in order; `T` for a transpose, a number for a scale.
    """

    value: ir.Value
    steps: tuple[str | float, ...] = ()

    @property
    def turned(self) -> bool:
        """Whether the last two axes of the value are swapped in the end."""
        return self.steps.count("T") % 2 == 1


@dataclass(frozen=True)
class _Place:
    """A product.

    Attributes:
        node: the `MatMul`.
        left, right: its operands.
        output: the product, scaled.
        after: the scales, in order.
    """

    node: ir.Node
    left: _Operand
    right: _Operand
    output: ir.Value
    after: tuple[float, ...]

    @property
    def alpha(self) -> float:
        """The product of all scales."""
        result = 1.0
        for step in (*self.left.steps, *self.right.steps, *self.after):
            result *= step if isinstance(step, float) else 1.0
        return result


def _place(node: ir.Node) -> _Place | None:
    """The product with what is around it; None where nothing is, or its rank may be less than 2."""
    first, second = node.inputs
    if first is None or second is None or node.graph is None:
        return None
    left, right = _operand(first, node), _operand(second, node)
    output, after = _scaled(node)
    place = _Place(node, left, right, output, after)
    bare = not (left.turned or right.turned or place.alpha != 1.0)
    return None if bare else place


def _operand(value: ir.Value, product: ir.Node) -> _Operand:
    found = _Operand(value)
    for _ in range(FARTHEST):
        node = found.value.producer()
        if node is None or not _for_products(found.value, product):
            break
        step = _step(node)
        if step is None or step[0].const_value is not None:
            break
        found = replace(found, value=step[0], steps=(step[1], *found.steps))
    return found


def _for_products(value: ir.Value, product: ir.Node) -> bool:
    """Whether products alone need a value, or what is on its way to this one."""
    if value.is_graph_output():
        return False
    found = readers(value)
    return len(found) == 1 or all(node.op_type == "MatMul" for node in found)


def _step(node: ir.Node) -> tuple[ir.Value, str | float] | None:
    """What a node transposes or scales, and how; None where it does neither."""
    source = node.inputs[0] if node.inputs else None
    if node.domain != "" or source is None:
        return None
    if node.op_type == "Transpose":
        axes = list(node.attributes.get_ints("perm", ()))
        swapped = [*range(len(axes) - 2), len(axes) - 1, len(axes) - 2]
        return (source, "T") if len(axes) >= 2 and axes == swapped else None
    if node.op_type == "Div" and (number := _factor(node.inputs[1])):
        return source, 1.0 / number
    for factor, other in operands(node) if node.op_type == "Mul" else ():
        if (number := _factor(factor)) and other.const_value is None:
            return other, number
    return None


def _factor(value: ir.Value | None) -> float | None:
    """The number that a scalar is; a tensor with axes might widen what it multiplies."""
    known = value is not None and value.shape is not None and len(value.shape) <= 1
    return scalar(value) if known else None


def _scaled(node: ir.Node) -> tuple[ir.Value, tuple[float, ...]]:
    value, after = node.outputs[0], ()
    for _ in range(FARTHEST):
        reader = only_reader(value)
        step = _step(reader) if reader is not None and reader.graph is node.graph else None
        if reader is None or step is None or step[0] is not value or isinstance(step[1], str):
            break
        value, after = reader.outputs[0], (*after, step[1])  # type: ignore[assignment]
    return value, after


def _write(place: _Place) -> None:
    attributes = {
        "transA": int(place.left.turned), "transB": int(place.right.turned), "alpha": place.alpha
    }  # fmt: skip
    operands_ = [place.left.value, place.right.value]
    new = ir.node(FORM, operands_, attributes, domain=FUSED)
    value, last = new.outputs[0], place.output.producer()
    assert last is not None and isinstance(last.graph, ir.Graph)
    last.graph.insert_before(last, new)
    value.type, value.shape = place.output.type, place.output.shape
    take_over(place.output, value)


def _choose(place: _Place, sizes: Concrete, context: Context, opset: int) -> Choice:
    rule = RULES[context.provider]
    left, right = sizes.axes(place.left.value), sizes.axes(place.right.value)
    if left is None or right is None:
        return Choice(rule, 1.0, measured=False)
    parts = [
        f"{text(axes)}{''.join('T' if step == 'T' else '*' for step in operand.steps)}"
        for axes, operand in ((left, place.left), (right, place.right))
    ]
    constant = " constant" if place.right.value.const_value is not None else ""
    key = f"product {' @ '.join(parts)}{constant}{'*' * len(place.after)}"
    samples: dict[str, Callable[[], onnx.ModelProto]] = {
        form: functools.partial(_sample, place, left, right, opset, form)
        for form in (AS_IT_IS, FORM)
    }
    return context.choose(key, samples, rule)


def _sample(place: _Place, left: Axes, right: Axes, opset: int, form: str) -> onnx.ModelProto:
    """The place as a small model in one of its forms."""
    sample = Sample(opset)
    if place.right.value.const_value is not None and len(right) == 2:
        k, n = map(int, right)
        right = (k, max(1, min(n, LARGEST // k)))
        left = (*shortened(left[:-1], LARGEST_WORK // (k * int(right[1]))), left[-1])
    values = []
    for name, axes, operand in (("left", left, place.left), ("right", right, place.right)):
        constant = operand.value.const_value is not None
        values.append(sample.weight(name, *map(int, axes)) if constant else sample.port(name, axes))
        for step in operand.steps:
            values[-1] = _stepped(sample, values[-1], step, len(axes))
    product = sample.node("MatMul", *values)
    node, result = product.producer(), product
    for step in place.after:
        result = _stepped(sample, result, step, 0)
    model = sample.model(result)
    if form == FORM:
        assert node is not None
        found = _place(node)
        assert found is not None
        _write(found)
    return ir.to_proto(model)


def _stepped(sample: Sample, value: ir.Value, step: str | float, rank: int) -> ir.Value:
    if isinstance(step, float):
        return sample.node("Mul", value, sample.number("factor", step))
    axes = [*range(rank - 2), rank - 1, rank - 2]
    return sample.node("Transpose", value, perm=axes)
