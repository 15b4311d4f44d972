"""Each attention takes the form that is measured fastest on the target."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.products import label
from burnish.optimizer.contract import ROUNDING, Choice, Context, Outcome, Pass, Phase, Refusal
from burnish.passes.lower.attention.bias import FUSED, Bias, Facts, Writer, facts_of
from burnish.passes.lower.attention.forms import multi_head, products

Sizes = Mapping[str, tuple[int, ...]]

Form = Callable[[Writer, ir.Node, Facts, Bias], ir.Value | None]

FORMS: dict[str, Form] = {"products": products, "MultiHeadAttention": multi_head}

RULES = {"cpu": ("products",), "cuda": ("MultiHeadAttention", "products")}
"""What is taken unmeasured, by provider: the first that can say it.

On processors the operator is the slowest of the three; on GPUs `MultiHeadAttention` is the one with
flash and memory-efficient kernels."""


@dataclass(frozen=True)
class LowerAttention(Pass):
    """Write `Attention` as the operators that compute it fastest.

    Forms: the operator itself; two products and a softmax, with the scale in the first product,
    keys and values not repeated for groups of heads, and masks not repeated for queries; and ONNX
    Runtime's `MultiHeadAttention`.

    Before:
        `Attention(q, k, v, mask)`.
    After:
        `Softmax(FusedMatMul(q, k) + mask) @ v`, or `MultiHeadAttention(q, k, v, mask)`.
    Refuses when:
        The operator is measured fastest, keeps keys and values, computes in another type than
        float32, or the shapes that a form needs are not known.
    Numerics:
        Rounding. A query without keys gives zero, as before.
    """

    name = "attention-form"
    phase = Phase.LOWER
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        nodes = [
            node
            for node in ir.traversal.RecursiveGraphIterator(model.graph)
            if node.op_type == "Attention" and node.domain == ""
        ]
        if not nodes or context.provider not in RULES:
            return Outcome()
        shapes.annotate(model)
        sizes = _Sizes(model, context)
        writers: dict[ir.Graph, Writer] = {}
        refusals, gains, counts = [], [], dict.fromkeys(FORMS, 0)
        for node in nodes:
            graph = node.graph
            assert isinstance(graph, ir.Graph)
            facts = facts_of(node)
            if isinstance(facts, str):
                refusals.append(Refusal(label(node), facts))
                continue
            choice = self._choose(node, facts, sizes, context)
            writer = writers.setdefault(graph, Writer(graph))
            if choice.winner not in FORMS or not _rewrite(node, facts, writer, choice.winner):
                reason = f"the operator is fastest ({choice.speedup:.2f} times)"
                refusals.append(Refusal(label(node), reason))
                continue
            counts[choice.winner] += 1
            if choice.measured:
                gains.append(choice.speedup)
        done = sum(counts.values())
        if done:
            model.opset_imports[FUSED] = 1
        speedup = math.exp(sum(map(math.log, gains)) / len(gains)) if gains else None
        detail = ", ".join(f"{count} as {name}" for name, count in counts.items() if count)
        return Outcome(done, tuple(refusals), speedup, detail)

    def _choose(self, node: ir.Node, facts: Facts, sizes: _Sizes, context: Context) -> Choice:
        rule = next(
            name for name in RULES[context.provider] if name == "products" or _says(facts, name)
        )
        operands = [sizes.of(item) for item in node.inputs[:3]]
        if None in operands:
            return Choice(rule, 1.0, measured=False)
        known = tuple(item for item in operands if item is not None)
        mask = node.inputs[3] if len(node.inputs) > 3 else None
        forms: dict[str, Callable[[], onnx.ModelProto]] = {
            "Attention": lambda: _sample(known, facts, mask is not None, "Attention")
        }
        for name in FORMS:
            if name == "products" or _says(facts, name):
                forms[name] = lambda name=name: _sample(known, facts, mask is not None, name)  # type: ignore[misc]
        text = "; ".join("x".join(map(str, item)) for item in known)
        extra = f" cap={facts.cap:g}" if facts.cap else ""
        causal = " causal" if facts.causal else ""
        key = f"attention {text} heads={facts.heads}/{facts.groups}{' masked' if mask else ''}"
        return context.choose(f"{key}{causal}{extra}", forms, rule)


class _Sizes:
    """Concrete shapes of values, inferred only where the input model's do not say them."""

    def __init__(self, model: ir.Model, context: Context) -> None:
        self._model = model
        self._context = context
        self._inferred: Sizes | None = None

    def of(self, value: ir.Value | None) -> tuple[int, ...] | None:
        name = (value.name if value is not None else None) or ""
        known = self._context.shapes.get(name)
        if known is not None:
            return known
        if self._inferred is None:
            self._inferred = shapes.infer(self._model, self._context.sizes)
        return self._inferred.get(name)


def _says(facts: Facts, name: str) -> bool:
    """Whether a form can say what an attention computes."""
    plain = facts.flat and facts.groups == facts.heads and not facts.cap
    return name == "products" or plain


def _rewrite(node: ir.Node, facts: Facts, writer: Writer, form: str) -> bool:
    bias = writer.bias(node, facts)
    result = FORMS[form](writer, node, facts, bias)
    if result is None:
        return False
    old = node.outputs[0]
    name, result.type, result.shape = old.name, old.type, old.shape
    ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
    writer.graph.remove(node, safe=True)
    result.name = name
    return True


def _sample(
    operands: tuple[tuple[int, ...], ...], facts: Facts, masked: bool, form: str
) -> onnx.ModelProto:
    """One attention of the same sizes as a model, for timing.

    All forms have the same inputs; masks are there ready for each, since layers share them.
    """
    query, key = operands[0], operands[1]
    rows, keys = (query[1], key[1]) if facts.flat else (query[2], key[2])
    named = dict(zip(("query", "key", "value"), operands, strict=True))
    if masked:
        named |= {"wide": (query[0], 1, rows, keys), "narrow": (query[0], 1, 1, keys)}
    inputs = {
        name: ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
        for name, shape in named.items()
    }
    attributes: dict[str, int | float] = {"scale": facts.scale, "softcap": facts.cap}
    if facts.causal:
        attributes["is_causal"] = 1
    if facts.flat:
        attributes |= {"q_num_heads": facts.heads, "kv_num_heads": facts.groups}
    node = ir.node("Attention", [*list(inputs.values())[:3], *_wide(inputs)], attributes)
    node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    node.outputs[0].name = "result"
    opsets = {"": 23, FUSED: 1}
    graph = ir.Graph(
        list(inputs.values()), [node.outputs[0]], nodes=[node], opset_imports=opsets, name="sample"
    )
    if form in FORMS:
        writer = Writer(graph)
        plain = Bias(inputs.get("narrow"), None)
        bias = writer.limited(node, facts, plain) if facts.causal else plain
        output = FORMS[form](writer, node, facts, bias)
        assert output is not None
        ir.convenience.replace_all_uses_with(node.outputs[0], output, replace_graph_outputs=True)
        graph.remove(node, safe=True)
    return ir.to_proto(ir.Model(graph, ir_version=11))


def _wide(inputs: Mapping[str, ir.Value]) -> list[ir.Value]:
    return [inputs["wide"]] if "wide" in inputs else []
