"""The region of an attention as a small model of the same sizes, in any form, for timing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.heads import HEADS_INSIDE
from burnish.optimizer.analysis.products import find_products
from burnish.optimizer.forms import FUSED
from burnish.optimizer.model import add_initializer
from burnish.passes.lower.attention.bias import Bias
from burnish.passes.lower.attention.forms import FORMS
from burnish.passes.lower.attention.sample import Sample
from burnish.passes.lower.attention.site import Site, integers_of, site_of
from burnish.passes.lower.attention.site import replace as put
from burnish.passes.lower.attention.writer import Writer

NAMES = ("query", "key", "value")


def builder(sample: Sample, form: str) -> Callable[[], onnx.ModelProto]:
    """What builds the sample in a form of `FORMS`; in another one, with the operator."""
    return lambda: build(sample, form)


def build(sample: Sample, form: str) -> onnx.ModelProto:
    """The model; all forms have the same inputs."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 23, FUSED: 1}, name="sample")
    node, ready, padding = Region(sample, graph).write()
    model = ir.Model(graph, ir_version=11)
    if form in FORMS:
        meaning = replace(sample.meaning, padding=padding)
        products = {item.output: item for item in find_products(model)[0]}
        site = site_of(node, sample.facts, meaning, products)
        if sample.windows is not None:
            mask = np.random.default_rng(0).standard_normal(sample.windows, np.float32)
            site = replace(site, windows=mask)
        if sample.inner is not None:
            past, meaning = integers_of(node, sample.facts), replace(sample.inner, padding=padding)
            site = replace(site, inner=replace(site, past=past, meaning=meaning))
        writer = Writer(graph)
        put(writer, site, FORMS[form].build(writer, ready, site))
    return ir.to_proto(model)


@dataclass(frozen=True)
class _Ready:
    """Masks that are inputs of the sample."""

    inputs: Mapping[str, ir.Value]

    def bias(self, site: Site) -> Bias:
        return Bias(self.inputs.get("narrow"), self.inputs.get("alive"))

    def whole(self, site: Site) -> Bias:
        return Bias(self.inputs.get("whole"), self.inputs.get("alive"))

    def alive(self, site: Site) -> ir.Value | None:
        return self.inputs.get("alive")

    def keys(self, site: Site) -> ir.Value | None:
        return self.inputs.get("keys")


class Region:
    """Writes the region with the operator itself."""

    def __init__(self, sample: Sample, graph: ir.Graph) -> None:
        self._sample, self._graph = sample, graph
        self._writer = Writer(graph)
        self._random = np.random.default_rng(0)
        self._inputs: dict[str, ir.Value] = {}

    def write(self) -> tuple[ir.Node, _Ready, ir.Value | None]:
        """The attention's node, its masks, and which keys exist."""
        sample, facts = self._sample, self._sample.facts
        self._masks()
        query, key, value = (self._operand(index) for index in range(3))
        past: list[ir.Value | None] = [None, None]
        if sample.past >= 0:
            sizes = (facts.size, facts.value_size)
            kind = ir.DataType.FLOAT if sample.inner is None else ir.DataType.INT8
            past = [
                self._input(f"past_{name}", (sample.batch, facts.groups, sample.past, size), kind)
                for name, size in zip(NAMES[1:], sizes, strict=True)
            ]
        presents: list[ir.Value] = []
        if sample.outside:
            presents = [
                self._grown(before, item) for before, item in zip(past, (key, value), strict=True)
            ]
            key, value = map(self._converted, presents)
            past = [None, None]
        mask = self._inputs.get("mask")
        inputs = [query, key, value, mask, *past]
        outputs = self._attention(inputs)
        node = outputs[0].producer()
        assert node is not None
        merged = self._merged(outputs[0]) if sample.merged else outputs[0]
        for index, output in enumerate([merged, *presents, *outputs[1:]]):
            output.name = f"output_{index}"
            self._graph.outputs.append(output)
        return node, _Ready(self._inputs), self._inputs.get("keys")

    def _grown(self, past: ir.Value | None, new: ir.Value) -> ir.Value:
        """All keys, or all values."""
        if self._sample.inner is not None:
            zero = self._writer.constant("zero", np.array(0, np.int8))
            one = self._writer.number(1.0)
            new = self._node("QuantizeLinear", [new, one, zero], _rows(new, self._sample.keys))
            new.type = ir.TensorType(ir.DataType.INT8)
        grown = self._node("Concat", [past, new], _rows(new, self._sample.total), axis=2)
        grown.type = new.type
        return grown

    def _converted(self, value: ir.Value) -> ir.Value:
        """Integers as floats."""
        if self._sample.inner is None:
            return value
        shape = _rows(value, self._sample.total)
        return self._node("DequantizeLinear", [value, self._writer.number(1.0)], shape)

    def _attention(self, inputs: list[ir.Value | None]) -> list[ir.Value]:
        sample, facts = self._sample, self._sample.facts
        while inputs[-1] is None:
            inputs = inputs[:-1]
        attributes: dict[str, int | float] = {"scale": facts.scale, "softcap": facts.cap}
        if facts.causal:
            attributes["is_causal"] = 1
        if facts.flat:
            attributes |= {"q_num_heads": facts.heads, "kv_num_heads": facts.groups}
        node = ir.node("Attention", inputs, attributes, num_outputs=3 if facts.kept else 1)
        self._graph.append(node)
        sizes = (facts.value_size, facts.size, facts.value_size)
        for output, size in zip(node.outputs, sizes, strict=False):
            output.type = ir.TensorType(ir.DataType.FLOAT)
            output.shape = ir.Shape((sample.batch, facts.groups, sample.total, size))
        shape = (sample.batch, facts.heads, sample.rows, facts.value_size)
        flat = (sample.batch, sample.rows, facts.heads * facts.value_size)
        node.outputs[0].shape = ir.Shape(flat if facts.flat else shape)
        return list(node.outputs)

    def _masks(self) -> None:
        sample = self._sample
        mask, narrow, meaning = sample.mask, sample.narrow, sample.meaning
        if mask is not None:
            kind = ir.DataType.BOOL if sample.boolean else ir.DataType.FLOAT
            # The operator wants a row for each query.
            self._input("mask", (*mask[:-2], sample.rows, sample.total), kind)
        if mask is not None or sample.facts.causal:
            plain = (1,) * (4 - len(narrow or ())) + (narrow or ())
            wide = (*plain[:2], sample.rows, sample.total)
            narrow = wide if sample.facts.causal or narrow is None else narrow
            self._input("narrow", narrow)
            self._input("whole", wide)
            if meaning.zero and mask is not None:
                self._input("alive", (*narrow[:-1], 1))
        if meaning.padding is not None:
            self._input("keys", (sample.batch, sample.total), ir.DataType.INT32)

    def _operand(self, index: int) -> ir.Value:
        sample, facts = self._sample, self._sample.facts
        heads = facts.heads if index == 0 else facts.groups
        size = facts.value_size if index == 2 else facts.size
        rows = sample.rows if index == 0 else sample.keys
        if not facts.flat and not sample.split[index]:
            return self._input(NAMES[index], (sample.batch, heads, rows, size))
        flat = self._flat(NAMES[index], rows, heads * size)
        if facts.flat:
            return flat
        shape = (sample.batch, rows, heads, size)
        target = self._writer.integers(0, 0, heads, size)
        apart = self._node("Reshape", [flat, target], shape)
        turned = (sample.batch, heads, rows, size)
        return self._node("Transpose", [apart], turned, perm=list(HEADS_INSIDE))

    def _flat(self, name: str, rows: int, width: int) -> ir.Value:
        sample, shape = self._sample, (self._sample.batch, rows, width)
        if not sample.k:
            return self._input(name, shape)
        source = self._input("activation", (sample.batch, rows, sample.k))
        value = self._node("MatMul", [source, self._weight(name, sample.k, width)], shape)
        if sample.biased:
            value = self._node("Add", [value, self._weight(f"{name}_bias", width)], shape)
        return value

    def _merged(self, result: ir.Value) -> ir.Value:
        sample, facts = self._sample, self._sample.facts
        width = facts.heads * facts.value_size
        shape = (sample.batch, sample.rows, facts.heads, facts.value_size)
        turned = self._node("Transpose", [result], shape, perm=list(HEADS_INSIDE))
        flat = (sample.batch, sample.rows, width)
        return self._node("Reshape", [turned, self._writer.integers(0, 0, width)], flat)

    def _weight(self, name: str, *shape: int) -> ir.Value:
        array = self._random.standard_normal(shape, np.float32)
        return add_initializer(self._graph, name, ir.tensor(array))

    def _input(
        self, name: str, shape: tuple[int, ...], kind: ir.DataType = ir.DataType.FLOAT
    ) -> ir.Value:
        if name not in self._inputs:
            value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(kind))
            self._graph.inputs.append(value)
            self._inputs[name] = value
        return self._inputs[name]

    def _node(
        self, operator: str, inputs: list[ir.Value | None], shape: tuple[int, ...],
        **attributes: int | list[int],
    ) -> ir.Value:  # fmt: skip
        node = ir.node(operator, inputs, attributes)
        self._graph.append(node)
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        node.outputs[0].shape = ir.Shape(shape)
        return node.outputs[0]


def _rows(value: ir.Value, total: int) -> tuple[int, ...]:
    assert value.shape is not None
    shape = [int(str(size)) for size in value.shape]
    return shape[0], shape[1], total, shape[3]
