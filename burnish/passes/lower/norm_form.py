"""Each normalization of a residual sum takes the form that is measured fastest."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.matching import (
    broadcast_written,
    made_by,
    operands,
    optional,
    readers,
    written_size,
)
from burnish.optimizer.analysis.products import shape_of
from burnish.optimizer.analysis.shapes.concrete import Axes, Concrete, is_fixed, text
from burnish.optimizer.contract import ROUNDING, Choice, Context, Outcome, Pass, Phase
from burnish.optimizer.forms import AS_IT_IS, FUSED, Tally
from burnish.optimizer.pruning import take_over
from burnish.optimizer.samples import Sample

OWN = {
    "LayerNormalization": "SkipLayerNormalization",
    "RMSNormalization": "SkipSimplifiedLayerNormalization",
}
"""ONNX Runtime's operator of the sum and the normalization, by normalization."""

RULES = {"cpu": {"LayerNormalization": "Sum"}, "cuda": OWN}
"""What is taken unmeasured, by provider and normalization; it stays as it is where nothing is said.

On processors `SkipLayerNormalization` takes longer than the two; on GPUs each is a kernel to launch
and a pass through memory."""

FEW = 16
"""Length of the dot products in a sample: ONNX Runtime looks for one, whose time is no matter."""


@dataclass(frozen=True)
class LowerNorm(Pass):
    """Write a residual `Add` and the normalization of its sum as what computes them fastest.

    ONNX Runtime fuses `Add` and `LayerNormalization` into `SkipLayerNormalization` when it loads a
    model, and on processors that kernel is slower than the two. It does not look at `Sum`. It does
    not fuse `RMSNormalization`, nor a sum that is needed elsewhere too.

    Before:
        `s = Add(a, b)`, `LayerNormalization(s)` or `RMSNormalization(s)`.
    After:
        `LayerNormalization(Sum(a, b))`; `SkipLayerNormalization(a, b)` or
        `SkipSimplifiedLayerNormalization(a, b)`, with a bias that was added to `a`, and `s` as
        their fourth output where it is needed.
    Refuses when:
        No form is measured faster than what ONNX Runtime makes of it, or it computes in another
        type than float32. The fused operators are no choice where the operands are not of one
        shape of 2 or 3 axes, or where more is normalized than the last axis.
    Numerics:
        Rounding; `Sum` is the same sum of the same two operands.
    """

    name = "norm-form"
    phase = Phase.LOWER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        nodes = ir.traversal.RecursiveGraphIterator(model.graph)
        norms = [node for node in nodes if node.op_type in OWN and _sum_before(node) is not None]
        if not norms or context.provider not in RULES:
            return Outcome()
        shapes.annotate(model)
        sizes, tally = Concrete(model, context), Tally("normalizations")
        opset = model.opset_imports.get("", 0)
        for node in norms:
            adder = _sum_before(node)
            if adder is None:
                continue
            if (kind := adder.outputs[0].dtype) not in (None, ir.DataType.FLOAT):
                tally.refuse(node, f"it computes in {kind.name}")
                continue
            place = _place(node, adder)
            choice = _choose(place, sizes, context, opset)
            if tally.takes(node, choice):
                _write(place, choice.winner)
        return tally.outcome(model, *OWN.values())


@dataclass(frozen=True)
class _Place:
    """A normalization and the sum before it.

    Attributes:
        node: the normalization.
        adder: of two computed values.
        first, second: those; where there is a bias, `first` without it.
        bias: constant vector that `first` lacks, or None.
        shared: whether the sum is needed elsewhere too.
        fusable: whether ONNX Runtime's own operator can say it.
    """

    node: ir.Node
    adder: ir.Node
    first: ir.Value
    second: ir.Value
    bias: ir.Value | None
    shared: bool
    fusable: bool

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms that can say it, besides the one it has."""
        plain = ("Sum",) if self.node.op_type == "LayerNormalization" else ()
        return (*plain, OWN[self.node.op_type]) if self.fusable else plain


def _sum_before(norm: ir.Node) -> ir.Node | None:
    """The `Add` of two computed values that a normalization reads, if it is one."""
    adder = made_by(norm.inputs[0], "Add") if norm.domain == "" else None
    if adder is None or any(
        value is None or value.const_value is not None for value in adder.inputs
    ):
        return None
    return adder


def _place(node: ir.Node, adder: ir.Node) -> _Place:
    total = adder.outputs[0]
    first, second = adder.inputs
    assert first is not None and second is not None
    shared = readers(total) != [node] or total.is_graph_output()
    fusable = node.graph is adder.graph and _is_plain(node) and _agree(first, second)
    for value, other in operands(adder) if fusable else ():
        found = _biased(value, adder)
        if found is not None:
            return _Place(node, adder, found[0], other, found[1], shared, fusable)
    return _Place(node, adder, first, second, None, shared, fusable)


def _is_plain(node: ir.Node) -> bool:
    """Whether a normalization is of the last axis, with constant parameters, and gives no more."""
    source = node.inputs[0]
    assert source is not None
    if source.shape is None or not 2 <= len(source.shape) <= 3:
        return False
    if node.attributes.get_int("axis", -1) not in (-1, len(source.shape) - 1):
        return False
    parameters = [value for value in node.inputs[1:] if value is not None]
    constant = all(
        value.const_value is not None and value.producer() is None and len(shape_of(value)) == 1
        for value in parameters
    )
    more = any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
    return constant and bool(parameters) and not more


def _agree(first: ir.Value, second: ir.Value) -> bool:
    """Whether two values are known to be of one shape."""
    if first.shape is None or second.shape is None or len(first.shape) != len(second.shape):
        return False
    return all(
        written_size(first, axis) == written_size(second, axis) for axis in range(len(first.shape))
    )


def _biased(value: ir.Value, adder: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """A product and the bias that an operand adds to it for this sum alone.

    Where all sizes are known, ONNX Runtime adds it in the product.
    """
    node = made_by(value, "Add")
    if node is None or readers(value) != [adder] or value.is_graph_output():
        return None
    for bias, product in operands(node):
        constant = bias.const_value is not None and bias.producer() is None
        if constant and len(shape_of(bias)) == 1 and made_by(product, "MatMul") is not None:
            rank = len(product.shape) if product.shape is not None else 0
            same = node.graph is adder.graph and _agree(product, value)
            return (product, bias) if same and rank == 3 and not is_fixed(product) else None
    return None


def _write(place: _Place, form: str) -> None:
    if form == "Sum":
        place.adder.op_type = "Sum"
        return
    node, total = place.node, place.adder.outputs[0]
    parameters = [place.first, place.second, node.inputs[1]]
    if node.op_type == "LayerNormalization":
        parameters.append(optional(node, 2))
    parameters += [place.bias] if place.bias is not None else []
    default = 1e-5  # of both operators
    epsilon = {"epsilon": node.attributes.get_float("epsilon", default)}
    new = ir.node(form, parameters, epsilon, domain=FUSED, num_outputs=4 if place.shared else 1)
    place.adder.graph.insert_before(place.adder, new)  # type: ignore[union-attr]
    for output in new.outputs[1:3]:
        output.name = ""  # the mean and the deviation, which nobody asked for
    for old, value in zip([node.outputs[0], total], new.outputs[::3], strict=False):
        value.type, value.shape = old.type, old.shape
        take_over(old, value)


def _choose(place: _Place, sizes: Concrete, context: Context, opset: int) -> Choice:
    rule = RULES[context.provider].get(place.node.op_type, AS_IT_IS)
    rule = rule if rule in place.forms else AS_IT_IS
    first, second = sizes.axes(place.first), sizes.axes(place.second)
    if first is None or second is None or not place.forms:
        return Choice(rule, 1.0, measured=False)
    shifted = optional(place.node, 2) is not None
    facts = _Facts(
        place.node.op_type, first, second, opset, shifted, place.bias is not None, place.shared
    )
    samples: dict[str, Callable[[], onnx.ModelProto]] = {
        form: functools.partial(facts.sample, form) for form in (AS_IT_IS, *place.forms)
    }
    return context.choose(facts.key, samples, rule)


@dataclass(frozen=True)
class _Facts:
    """What the time of a place depends on.

    Attributes:
        kind: the normalization.
        first, second: sizes of what is added.
        opset: the model's operator set.
        shifted: whether the normalization adds a constant.
        biased: whether the first is a product that lacks its bias.
        shared: whether the sum is needed elsewhere too.
    """

    kind: str
    first: Axes
    second: Axes
    opset: int
    shifted: bool
    biased: bool
    shared: bool

    @property
    def key(self) -> str:
        """The place in the tuning record."""
        other = "" if self.first == self.second else f" + {text(self.second)}"
        words = {" shifted": self.shifted, " bias": self.biased, " shared": self.shared}
        said = "".join(word for word, holds in words.items() if holds)
        return f"residual {self.kind} {text(self.first)}{other}{said}"

    def sample(self, form: str) -> onnx.ModelProto:
        """The place as a small model in one of its forms."""
        sample, width = Sample(self.opset), max(int(self.first[-1]), int(self.second[-1]))
        if self.biased:
            narrow = sample.port("narrow", (*self.first[:-1], FEW))
            product = sample.node("MatMul", narrow, sample.weight("w", FEW, width))
            first = sample.node("Add", product, sample.weight("b", width))
            product.shape = first.shape = ir.Shape(self.first)
        else:
            first = sample.port("first", self.first)
        second = sample.port("second", self.second)
        total = sample.node("Add", first, second)
        total.shape = broadcast_written([first, second])
        parameters = [sample.weight("scale", width)]
        parameters += [sample.weight("shift", width)] if self.shifted else []
        result = sample.node(self.kind, total, *parameters, axis=-1)
        model = sample.model(result, *([total] if self.shared else []))
        node, adder = result.producer(), total.producer()
        assert node is not None and adder is not None
        if form != AS_IT_IS:
            _write(_place(node, adder), form)
        return ir.to_proto(model)
