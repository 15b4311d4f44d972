"""Each activation, with the bias before it, takes the form that is measured fastest."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.products import shape_of
from burnish.optimizer.analysis.shapes.concrete import Axes, Concrete, text
from burnish.optimizer.constants import Constants
from burnish.optimizer.contract import ROUNDING, Choice, Context, Outcome, Pass, Phase
from burnish.optimizer.forms import AS_IT_IS, Tally
from burnish.optimizer.samples import LARGEST, LARGEST_WORK, Sample, shortened
from burnish.passes.lower.activation.forms import Write, apart, fused, gemm
from burnish.passes.lower.activation.places import Place, kind_of, place_of

OWN = {"gelu-erf": "BiasGelu", "gelu-tanh": "FastGelu", "quick-gelu": "QuickGelu"}
"""ONNX Runtime's operator by kind of activation."""

RULES = {"cpu": {"gelu-erf": "apart"}, "cuda": OWN}
"""What is taken unmeasured, by provider and kind; it stays as it is where nothing is said.

On processors `BiasGelu`, which ONNX Runtime makes by itself, takes longer than `Add` and `Gelu`; on
GPUs each operator is a kernel to launch and a pass through memory."""


SHAPE_OF_A_PART = 15
"""The operator set from which `Shape` gives some of the sizes."""


@dataclass(frozen=True)
class LowerActivation(Pass):
    """Write a bias and a GELU as the operators that compute them fastest.

    Forms: as it is, which ONNX Runtime fuses by its own rules when it loads the model; the same
    operators apart, in a spelling that it does not fuse; ONNX Runtime's `BiasGelu`, `FastGelu` (for
    the tanh form alone, which is what it computes) or `QuickGelu`; and the bias in the product.

    Before:
        `Gelu(MatMul(x, w) + b)`; with `approximate = "tanh"`; `y * Sigmoid(1.702 * y)`.
    After:
        `Gelu(Sum(MatMul(x, w), b))` or `y * Sigmoid(y / 0.5875)`; `BiasGelu(MatMul(x, w), b)`,
        `FastGelu(MatMul(x, w), b)` or `QuickGelu(y)`; `Gelu(Reshape(Gemm(Reshape(x), w, b)))`.
    Refuses when:
        No form is measured faster than what ONNX Runtime makes of it, it computes in another type
        than float32, or its bias is in an int8 product.
    Numerics:
        Rounding.
    """

    name = "activation-form"
    phase = Phase.LOWER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        tally, constants = Tally("activations"), Constants()
        nodes = ir.traversal.RecursiveGraphIterator(model.graph)
        candidates = [node for node in nodes if kind_of(node)[0]]
        if not candidates or context.provider not in RULES:
            return Outcome()
        shapes.annotate(model)
        sizes = Concrete(model, context)
        opset = model.opset_imports.get("", 0)
        for node in candidates:
            place = place_of(node)
            if isinstance(place, str):
                if place:
                    tally.refuse(node, place)
                continue
            forms = forms_of(place, opset)
            if not forms:
                continue
            choice = _choose(place, forms, sizes, context, opset)
            if tally.takes(node, choice):
                forms[choice.winner](place, constants)
        return tally.outcome(model, *OWN.values())


def forms_of(place: Place, opset: int) -> dict[str, Write]:
    """The forms that can say what a place computes, besides the one it has."""
    forms: dict[str, Write] = {}
    biased = place.adder is not None
    if place.kind == "quick-gelu" or (biased and place.is_alone):
        forms["apart"] = apart
    if place.product is not None and not place.is_packed and opset >= SHAPE_OF_A_PART:
        forms["Gemm"] = gemm
    if place.kind != "gelu-erf" or (biased and place.is_alone):
        forms[OWN[place.kind]] = fused
    return forms


def _choose(
    place: Place, forms: dict[str, Write], sizes: Concrete, context: Context, opset: int
) -> Choice:
    rule = RULES[context.provider].get(place.kind, AS_IT_IS)
    if rule not in forms or (rule == "apart" and place.is_packed):
        rule = AS_IT_IS
    axes = sizes.axes(place.product.inputs[0] if place.product is not None else place.source)
    if axes is None:
        return Choice(rule, 1.0, measured=False)
    facts = _Facts(place, axes, opset)
    samples: dict[str, Callable[[], onnx.ModelProto]] = {
        name: functools.partial(facts.sample, name) for name in (AS_IT_IS, *forms)
    }
    return context.choose(facts.key, samples, rule)


class _Facts:
    """What the time of a place depends on.

    Args:
        place: the place.
        axes: sizes of the product's left operand; of the activation's argument where there is none.
        opset: the model's operator set.
    """

    def __init__(self, place: Place, axes: Axes, opset: int) -> None:
        self._kind, self._axes, self._opset = place.kind, axes, opset
        self._biased, self._alone = place.adder is not None, place.is_alone
        weight = place.product.inputs[1] if place.product is not None else None
        self._width = shape_of(weight)[1] if weight is not None else 0

    @property
    def key(self) -> str:
        """The place in the tuning record."""
        product = f" n={self._width}" if self._width else ""
        bias = " bias" if self._biased else ""
        return f"{self._kind} {text(self._axes)}{product}{bias}{'' if self._alone else ' shared'}"

    def sample(self, form: str) -> onnx.ModelProto:
        """The place as a small model in one of its forms."""
        sample, axes = Sample(self._opset), self._axes
        if self._width:
            k = int(axes[-1])
            width = max(1, min(self._width, LARGEST // k))
            axes = (*shortened(axes[:-1], LARGEST_WORK // (k * width)), axes[-1])
            source = sample.node("MatMul", sample.port("x", axes), sample.weight("w", k, width))
        else:
            width = int(axes[-1])
            source = sample.port("x", axes)
        if self._biased:
            source = sample.node("Add", source, sample.weight("b", width))
        result = self._activation(sample, source)
        model = sample.model(result, *([] if self._alone else [source]))
        if form != AS_IT_IS:
            producer = result.producer()
            assert producer is not None
            place = place_of(producer)
            assert isinstance(place, Place)
            forms_of(place, self._opset)[form](place, Constants())
        return ir.to_proto(model)

    def _activation(self, sample: Sample, source: ir.Value) -> ir.Value:
        if self._kind == "quick-gelu":
            scaled = sample.node("Mul", source, sample.number("quick", 1.702))
            return sample.node("Mul", source, sample.node("Sigmoid", scaled))
        tanh = self._kind == "gelu-tanh"
        return sample.node("Gelu", source, approximate="tanh" if tanh else "none")
