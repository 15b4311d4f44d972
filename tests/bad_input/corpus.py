"""Malformed and hostile model files, made from small models, with what each must lead to.

`python tests/bad_input/corpus.py` prints the table of docs/bad-input.md.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SEED = 20240917
INVALID, UNSAFE, LIMIT, STORAGE = 3, 4, 5, 7
ANY = frozenset({0, INVALID, UNSAFE, LIMIT, STORAGE})

Edit = Callable[[onnx.ModelProto], object]


@dataclass(frozen=True)
class Expected:
    """The exit codes that a category may have, and what its files hold."""

    codes: frozenset[int]
    holds: str
    time_limit: int = 60

    @classmethod
    def code(cls, code: int, holds: str, **settings: int) -> Expected:
        return cls(frozenset({code}), holds, **settings)

    @property
    def options(self) -> tuple[str, ...]:
        return ("--memory-limit", "2GB", "--time-limit", str(self.time_limit))

    @property
    def seconds(self) -> float:
        """Processor time that it may take: no other work on the machine adds to that."""
        return 60.0 if 0 in self.codes else 20.0


EXPECTED: dict[str, Expected] = {
    "valid": Expected.code(0, "The small models that all others are made from."),
    "hostile-text": Expected.code(
        0, "Control characters, escape codes, markup and very long texts in names and metadata."
    ),
    "odd-but-legal": Expected.code(
        0, "Unsorted nodes, empty dimensions, inputs handed through, unused or shared weights."
    ),
    "hub-cache": Expected.code(
        0, "The Hugging Face cache: `snapshots/<revision>/` with links into `blobs/`."
    ),
    "flips-in-weights": Expected.code(0, "One bit differs within the data of a weight."),
    "flips": Expected(ANY, "One bit differs anywhere: whatever it makes of the file."),
    "empty": Expected.code(INVALID, "A file without a byte."),
    "truncated": Expected.code(INVALID, "The first bytes of a model, up to all but the last."),
    "foreign": Expected.code(
        INVALID, "Text, HTML, images, archives, pickles, other model formats, random bytes."
    ),
    "lfs-pointer": Expected.code(INVALID, "A Git LFS pointer in place of the model."),
    "no-graph": Expected.code(INVALID, "A model message without a graph."),
    "no-output": Expected.code(INVALID, "A graph that gives nothing."),
    "cycle": Expected.code(INVALID, "Nodes that wait for each other, at any level."),
    "undefined": Expected.code(
        INVALID, "Values that nothing defines: lost initializers, misspelt inputs and outputs."
    ),
    "duplicate": Expected.code(INVALID, "Two definitions of one name."),
    "dimensions": Expected.code(INVALID, "Negative dimensions, and more elements than 64 bits."),
    "data-length": Expected.code(INVALID, "More or less data than the shape needs."),
    "data-type": Expected.code(INVALID, "Element types that do not exist."),
    "operator-set": Expected.code(INVALID, "No operator set, or one that was never published."),
    "operator": Expected.code(INVALID, "Operators and domains that nobody knows."),
    "type-mismatch": Expected.code(INVALID, "Operands whose element types do not go together."),
    "shape-mismatch": Expected.code(INVALID, "Operands whose shapes do not go together."),
    "port-type": Expected.code(
        INVALID, "Inputs without a type, or of a type that no values can be made up for."
    ),
    "unsupported": Expected.code(
        INVALID,
        "Legal but rare: sparse weights, constants of nodes in external data, file names that are "
        "not Unicode.",
    ),
    "nesting": Expected.code(INVALID, "Subgraphs and types nested thousands of levels deep."),
    "recursion": Expected.code(INVALID, "Functions that call themselves or each other."),
    "not-unicode": Expected.code(INVALID, "Names that are not UTF-8."),
    "external-numbers": Expected.code(
        INVALID, "External data with an offset or a length that is wrong, or past its end."
    ),
    "external-unsafe": Expected.code(
        UNSAFE,
        "External data that is absolute, above the folder, linked to a place outside, or no file.",
    ),
    "no-checkpoint": Expected.code(INVALID, "A folder that holds no checkpoint."),
    "not-a-file": Expected.code(UNSAFE, "A pipe or a device in place of the model."),
    "bomb": Expected.code(
        LIMIT, "A few bytes that ask for terabytes of memory or for hours of time.", time_limit=5
    ),
    "missing": Expected.code(STORAGE, "A model that is not there, or cannot be reached."),
    "external-missing": Expected.code(STORAGE, "External data that is not there."),
}


@dataclass(frozen=True)
class Case:
    """One file: `path` goes to the command line, `options` besides."""

    category: str
    name: str
    path: Path
    options: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.category}/{self.name}"


class Corpus:
    """Writes cases, each into a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cases: list[Case] = []

    def folder(self, category: str, name: str) -> Path:
        assert category in EXPECTED, category
        path = self.root / category / name
        path.mkdir(parents=True)
        return path

    def path(self, category: str, name: str, path: Path, *options: str) -> None:
        self.cases.append(Case(category, name, path, options))

    def bytes(self, category: str, name: str, content: bytes, *options: str) -> None:
        path = self.folder(category, name) / "model.onnx"
        path.write_bytes(content)
        self.path(category, name, path, *options)

    def model(self, category: str, name: str, model: onnx.ModelProto, *options: str) -> None:
        self.bytes(category, name, model.SerializeToString(), *options)

    def edited(self, category: str, name: str, model: onnx.ModelProto, edit: Edit) -> None:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        edit(copy)
        self.model(category, name, copy)


def build(root: Path) -> list[Case]:
    """Write every file below `root`."""
    corpus = Corpus(root)
    for write in (
        _valid, _hostile_text, _odd, _hub_cache, _flips, _bytes, _structure, _tensors, _operators,
        _mismatches, _ports, _nesting, _functions, _unicode, _external, _paths, _bombs,
    ):  # fmt: skip
        write(corpus)
    return corpus.cases


def float_input(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def int_input(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, shape)


def weight(name: str, *shape: int) -> onnx.TensorProto:
    values = np.random.default_rng(len(name) + sum(shape)).standard_normal(shape)
    return numpy_helper.from_array(values.astype(np.float32), name)


def ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    **fields: Any,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "small", inputs, outputs, weights)
    fields.setdefault("opset_imports", [helper.make_opsetid("", 17)])
    return helper.make_model(graph, ir_version=8, producer_name="corpus", **fields)


def perceptron() -> onnx.ModelProto:
    node = helper.make_node
    return model_of(
        [
            node("MatMul", ["x", "w1"], ["product"], "first"),
            node("Add", ["product", "b1"], ["sum"], "bias"),
            node("Relu", ["sum"], ["positive"], "relu"),
            node("MatMul", ["positive", "w2"], ["y"], "second"),
        ],
        [float_input("x", "batch", 8)],
        [float_input("y", "batch", 4)],
        [weight("w1", 8, 16), weight("b1", 16), weight("w2", 16, 4)],
    )


def attention() -> onnx.ModelProto:
    node = helper.make_node
    return model_of(
        [
            node("Gather", ["table", "input_ids"], ["embedded"], "embed"),
            node("MatMul", ["embedded", "query"], ["q"]),
            node("MatMul", ["embedded", "key"], ["k"]),
            node("MatMul", ["embedded", "value"], ["v"]),
            node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
            node("MatMul", ["q", "kt"], ["scores"]),
            node("Softmax", ["scores"], ["shares"], axis=-1),
            node("MatMul", ["shares", "v"], ["y"]),
        ],
        [int_input("input_ids", "batch", "sequence")],
        [float_input("y", "batch", "sequence", 8)],
        [weight("table", 32, 8), weight("query", 8, 8), weight("key", 8, 8), weight("value", 8, 8)],
    )


def branches() -> onnx.ModelProto:
    node = helper.make_node

    def branch(operator: str) -> onnx.GraphProto:
        return helper.make_graph(
            [node(operator, ["x"], [f"{operator}_out"])],
            operator,
            [],
            [float_input(f"{operator}_out", "batch", 8)],
        )

    return model_of(
        [
            node("ReduceSum", ["x"], ["total"], keepdims=0),
            node("Greater", ["total", "zero"], ["flag"]),
            node("If", ["flag"], ["y"], then_branch=branch("Relu"), else_branch=branch("Neg")),
        ],
        [float_input("x", "batch", 8)],
        [float_input("y", "batch", 8)],
        [numpy_helper.from_array(np.array(0, np.float32), "zero")],
    )


def loop(trips: int = 3, operator: str = "Add") -> onnx.ModelProto:
    node = helper.make_node
    body = helper.make_graph(
        [
            node("Identity", ["going"], ["goes_on"]),
            node(operator, ["state", "step"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            float_input("state", "batch", 8),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            float_input("next", "batch", 8),
        ],
    )
    return model_of(
        [node("Loop", ["trips", "true", "x"], ["y"], body=body)],
        [float_input("x", "batch", 8)],
        [float_input("y", "batch", 8)],
        [
            numpy_helper.from_array(np.array(trips, np.int64), "trips"),
            numpy_helper.from_array(np.array(True), "true"),
            weight("step", 8),
        ],
    )


LOCAL = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]


def function(name: str, *nodes: onnx.NodeProto) -> onnx.FunctionProto:
    """A function of the domain `local` from `a` to `b`."""
    return helper.make_function("local", name, ["a"], ["b"], nodes, LOCAL)


def functional() -> onnx.ModelProto:
    node = helper.make_node
    double = function("Double", node("Add", ["a", "a"], ["b"]))
    return model_of(
        [node("Double", ["x"], ["y"], domain="local")],
        [float_input("x", "batch", 8)],
        [float_input("y", "batch", 8)],
        functions=[double],
        opset_imports=LOCAL,
    )


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "perceptron": perceptron,
    "attention": attention,
    "branches": branches,
    "loop": loop,
    "function": functional,
}


def with_external(**entries: str) -> onnx.ModelProto:
    """The perceptron with w1 in `weights.data`, or with other entries than that."""
    model = perceptron()
    tensor = model.graph.initializer[0]
    del tensor.external_data[:]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.data", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return model


def external_data() -> bytes:
    return perceptron().graph.initializer[0].raw_data


def unary(operator: str = "Relu", **attributes: Any) -> onnx.ModelProto:
    return model_of(
        [helper.make_node(operator, ["x"], ["y"], **attributes)],
        [float_input("x", "batch", 8)],
        [float_input("y", "batch", 8)],
    )


def _valid(corpus: Corpus) -> None:
    for name, make in MODELS.items():
        corpus.model("valid", name, make(), "--int8")
    path = corpus.folder("valid", "external") / "model.onnx"
    path.write_bytes(with_external().SerializeToString())
    (path.parent / "weights.data").write_bytes(external_data())
    corpus.path("valid", "external", path, "--int8")


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
    values = (*model.graph.input, *model.graph.output, *model.graph.initializer)
    for value in values:
        if value.name == old:
            value.name = new


TEXTS = {
    "escape": "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "controls": "a\tb\r\nc\x00\x01\x7f\x9b2J",
    "right-to-left": "model\u202egpj.exe\u2066\ufeff",
    "markup": "[bold red]x[/] [link=file:///etc]y[/link] {0} %s \\",
    "emoji": "\U0001f600 \u4e2d\u6587",
    "long": "n" * 100_000,
}


NOT_UNICODE = os.fsdecode(b"\xff\xfe.onnx")


def _hostile_text(corpus: Corpus) -> None:
    for name, text in TEXTS.items():
        model = perceptron()
        for value in ("x", "y", "w1", "product"):
            _rename(model, value, value + text)
        model.graph.node[0].name = model.graph.name = model.producer_name = text
        corpus.model("hostile-text", f"names-{name}", model, "--int8")
    model = perceptron()
    model.doc_string = model.graph.doc_string = TEXTS["escape"]
    for key, text in TEXTS.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key + TEXTS["escape"], text
    corpus.model("hostile-text", "metadata", model)
    model = perceptron()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = TEXTS["escape"]
    corpus.model("hostile-text", "dimension", model)


def _odd(corpus: Corpus) -> None:
    def reverse(model: onnx.ModelProto) -> None:
        nodes = list(model.graph.node)[::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    corpus.edited("odd-but-legal", "reversed", attention(), reverse)
    chain = [helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(1200)]
    ports = [float_input("v0", "batch", 8)], [float_input("v1200", "batch", 8)]
    corpus.model("odd-but-legal", "reversed-chain", model_of(chain[::-1], *ports))
    corpus.model(
        "odd-but-legal",
        "handed-through",
        model_of([], [float_input("x", 1)], [float_input("x", 1)]),
    )
    constant = model_of(
        [helper.make_node("Identity", ["w1"], ["y"])],
        [],
        [float_input("y", 8, 16)],
        [weight("w1", 8, 16)],
    )
    corpus.model("odd-but-legal", "no-inputs", constant)
    unused = perceptron()
    unused.graph.initializer.append(weight("unused", 64, 64))
    unused.graph.node.append(helper.make_node("Exp", ["x"], ["nobody"]))
    corpus.model("odd-but-legal", "unused", unused)
    empty = perceptron()
    empty.graph.initializer.append(
        helper.make_tensor("nothing", TensorProto.FLOAT, [0, 5], b"", raw=True)
    )
    corpus.model("odd-but-legal", "empty-weight", empty)
    listed = perceptron()
    listed.graph.input.extend([float_input("w1", 8, 16), float_input("w2", 16, 4)])
    corpus.model("odd-but-legal", "weights-as-inputs", listed)
    nameless = perceptron()
    for node in nameless.graph.node:
        node.ClearField("name")
    nameless.graph.ClearField("name")
    nameless.ClearField("producer_name")
    nameless.graph.name = "g"
    corpus.model("odd-but-legal", "nameless", nameless)
    twice = perceptron()
    twice.graph.output.append(twice.graph.output[0])
    corpus.model("odd-but-legal", "output-twice", twice)
    declared = perceptron()
    declared.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    corpus.model("odd-but-legal", "wrongly-declared-size", declared)
    inner, late = branches(), helper.make_node("Exp", ["x"], ["late"])
    inner.graph.node[2].attribute[0].g.node[0].input[0] = "late"
    inner.graph.node.append(late)
    corpus.model("odd-but-legal", "branch-takes-unsorted", inner)
    shadow = branches()
    branch = shadow.graph.node[2].attribute[0].g
    branch.node[0].output[0] = branch.output[0].name = "later"
    shadow.graph.node.append(helper.make_node("Neg", ["y"], ["later"]))
    corpus.model("odd-but-legal", "shadowed-name", shadow)
    unknown = perceptron()
    unknown.opset_import.add(domain="nobody.uses.this", version=7)
    corpus.model("odd-but-legal", "unused-domain", unknown)
    typed = perceptron()
    del typed.graph.initializer[0].dims[:]
    typed.graph.initializer[0].CopyFrom(
        helper.make_tensor("w1", TensorProto.FLOAT, [8, 16], [0.5] * 128)
    )
    corpus.model("odd-but-legal", "data-in-fields", typed)
    text = model_of(
        [helper.make_node("Identity", ["text"], ["out"]), helper.make_node("Relu", ["x"], ["y"])],
        [float_input("x", 2)],
        [float_input("y", 2), helper.make_tensor_value_info("out", TensorProto.STRING, [2])],
        [helper.make_tensor("text", TensorProto.STRING, [2], [b"a", "\u00e9\u4e2d".encode()])],
    )
    corpus.model("odd-but-legal", "strings", text)
    trailing = perceptron().SerializeToString() + _field(9999, b"from the future")
    corpus.bytes("odd-but-legal", "unknown-field", trailing)
    corpus.model("odd-but-legal", "nested-10", _nested_if(10))


def _hub_cache(corpus: Corpus) -> None:
    for name, make, folder in (
        ("one-file", perceptron, ""),
        ("with-data", with_external, ""),
        ("with-data-in-subfolder", with_external, "onnx"),
    ):
        root = corpus.folder("hub-cache", name) / "models--someone--model"
        blobs, snapshot = root / "blobs", root / "snapshots" / "0123abcd" / folder
        blobs.mkdir(parents=True)
        snapshot.mkdir(parents=True)
        up = os.path.relpath(blobs, snapshot)
        (blobs / "aaaa").write_bytes(make().SerializeToString())
        (snapshot / "model.onnx").symlink_to(f"{up}/aaaa")
        if make is with_external:
            (blobs / "bbbb").write_bytes(external_data())
            (snapshot / "weights.data").symlink_to(f"{up}/bbbb")
        corpus.path("hub-cache", name, snapshot / "model.onnx")


def _flip(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _flips(corpus: Corpus) -> None:
    chance = random.Random(SEED)
    content = perceptron().SerializeToString()
    start = content.index(external_data())
    for index in range(3):
        bit = chance.randrange(start * 8, (start + len(external_data())) * 8)
        corpus.bytes("flips-in-weights", str(index), _flip(content, bit))
    for name, make in MODELS.items():
        content = make().SerializeToString()
        skip = content.find(external_data()) if name == "perceptron" else len(content)
        for index in range(3):
            bit = chance.randrange(0, max(skip, 1) * 8)
            corpus.bytes("flips", f"{name}-{index}", _flip(content, bit))


def _bytes(corpus: Corpus) -> None:
    chance = random.Random(SEED)
    corpus.bytes("empty", "empty", b"")
    for name in ("perceptron", "attention"):
        content = MODELS[name]().SerializeToString()
        lengths = {2, 16, len(content) // 2, len(content) - 9, len(content) - 1}
        lengths |= {chance.randrange(len(content)) for _ in range(2)}
        for length in sorted(lengths):
            corpus.bytes("truncated", f"{name}-{length}", content[:length])
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("model.onnx", perceptron().SerializeToString())
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    foreign = {
        "text": b"This is not a model.\n" * 20,
        "html": b"<!DOCTYPE html>\n<html><body>404: Not Found</body></html>\n",
        "json": json.dumps({"ir_version": 8, "graph": {"node": []}}).encode(),
        "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\x06\0\0\0",
        "zip": archive.getvalue(),
        "gzip": gzip.compress(perceptron().SerializeToString(), mtime=0),
        "pickle": pickle.dumps({"weights": list(range(100))}),
        "hostile-pickle": b"cos\nsystem\n(S'exit 99'\ntR.",
        "safetensors": len(header).to_bytes(8, "little") + header + b"\0\0\0\0",
        "gguf": b"GGUF\x03\0\0\0" + bytes(64),
        "elf": b"\x7fELF\x02\x01\x01" + bytes(57),
        "zeros": bytes(4096),
        "base64": b"CAgSBmNvcnB1czqWBgo=",
        "twice": perceptron().SerializeToString() * 2,
    }
    for index in range(4):
        foreign[f"random-{index}"] = chance.randbytes(10 ** (index + 1))
    for name, content in foreign.items():
        corpus.bytes("foreign", name, content)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32
    corpus.bytes("lfs-pointer", "complete", pointer + b"\nsize 12345\n")
    corpus.bytes("lfs-pointer", "cut", pointer[:45])


def _structure(corpus: Corpus) -> None:
    model, node = perceptron(), helper.make_node

    corpus.edited("no-graph", "cleared", model, lambda m: m.ClearField("graph"))
    corpus.bytes("no-graph", "version-only", _field(1, 8))
    corpus.edited("no-output", "none-listed", model, lambda m: m.graph.ClearField("output"))
    corpus.edited("no-output", "empty-graph", model, lambda m: m.graph.Clear())
    corpus.edited("no-output", "unnamed", model, lambda m: m.graph.output.add())

    def itself(m: onnx.ModelProto) -> None:
        m.graph.node[2].input[0] = "positive"

    def pair(m: onnx.ModelProto) -> None:
        m.graph.node[0].input[0] = "positive"

    def around(m: onnx.ModelProto) -> None:
        m.graph.node[0].input[0] = "y"

    def below(m: onnx.ModelProto) -> None:
        branch = m.graph.node[2].attribute[0].g
        branch.node[0].input[0] = branch.node[0].output[0]

    def within(m: onnx.ModelProto) -> None:
        m.functions[0].node[0].input[0] = m.functions[0].node[0].output[0]

    def captured(m: onnx.ModelProto) -> None:
        m.graph.node[2].attribute[0].g.node[0].input[0] = "y"

    def captured_later(m: onnx.ModelProto) -> None:
        m.graph.node[2].attribute[0].g.node[0].input[0] = "after"
        m.graph.node.append(node("Neg", ["y"], ["after"]))

    corpus.edited("cycle", "itself", model, itself)
    corpus.edited("cycle", "pair", model, pair)
    corpus.edited("cycle", "whole-graph", model, around)
    corpus.edited("cycle", "in-branch", branches(), below)
    corpus.edited("cycle", "in-function", functional(), within)
    corpus.edited("cycle", "branch-takes-own-result", branches(), captured)
    corpus.edited("cycle", "branch-takes-later-result", branches(), captured_later)
    ring = [node("Neg", [f"v{i}"], [f"v{(i + 1) % 3000}"]) for i in range(3000)]
    ring.append(node("Relu", ["v7"], ["y"]))
    ports = [float_input("x", 1)], [float_input("y", 1)]
    corpus.model("cycle", "ring-of-3000", model_of(ring, *ports))

    def inner(m: onnx.ModelProto) -> None:
        m.graph.node[2].attribute[0].g.node[0].input[0] = "ghost"

    def inner_output(m: onnx.ModelProto) -> None:
        m.graph.node[2].attribute[1].g.output[0].name = "ghost"

    def in_function(m: onnx.ModelProto) -> None:
        m.functions[0].node[0].input[0] = "ghost"

    def function_output(m: onnx.ModelProto) -> None:
        m.functions[0].output[0] = "ghost"

    corpus.edited("undefined", "lost-weight", model, lambda m: m.graph.initializer.pop())
    corpus.edited("undefined", "lost-weights", model, lambda m: m.graph.ClearField("initializer"))
    corpus.edited("undefined", "lost-input", model, lambda m: m.graph.ClearField("input"))
    corpus.edited("undefined", "lost-node", model, lambda m: m.graph.node.pop(1))
    corpus.edited(
        "undefined", "output", model, lambda m: m.graph.output.append(float_input("ghost", 1))
    )
    corpus.edited("undefined", "in-branch", branches(), inner)
    corpus.edited("undefined", "branch-output", branches(), inner_output)
    corpus.edited("undefined", "in-function", functional(), in_function)
    corpus.edited("undefined", "function-output", functional(), function_output)

    def same_output(m: onnx.ModelProto) -> None:
        m.graph.node[1].output[0] = "product"
        m.graph.node[2].input[0] = "product"

    def produced_weight(m: onnx.ModelProto) -> None:
        m.graph.node[1].output[0] = "w2"

    corpus.edited("duplicate", "input", model, lambda m: m.graph.input.append(m.graph.input[0]))
    corpus.edited(
        "duplicate", "weight", model, lambda m: m.graph.initializer.append(m.graph.initializer[0])
    )
    corpus.edited("duplicate", "value", model, same_output)
    corpus.edited("duplicate", "value-and-weight", model, produced_weight)
    corpus.edited("duplicate", "node", model, lambda m: m.graph.node.append(m.graph.node[0]))
    corpus.edited(
        "duplicate", "node-name", model, lambda m: setattr(m.graph.node[1], "name", "first")
    )
    corpus.edited(
        "duplicate", "function", functional(), lambda m: m.functions.append(m.functions[0])
    )


def _tensors(corpus: Corpus) -> None:
    model = perceptron()

    def dims(*sizes: int) -> Edit:
        def edit(m: onnx.ModelProto) -> None:
            del m.graph.initializer[0].dims[:]
            m.graph.initializer[0].dims.extend(sizes)

        return edit

    for name, sizes in {
        "minus-one": (-1, 16), "both-negative": (-8, -16), "least": (-(2**63), 16),
        "overflow": (2**32, 2**32), "overflow-to-zero": (2**40, 2**40, 2**40), "most": (2**63 - 1,),
        "huge-and-zero": (2**62, 0),
    }.items():  # fmt: skip
        corpus.edited("dimensions", name, model, dims(*sizes))

    def port(size: int) -> Edit:
        def edit(m: onnx.ModelProto) -> None:
            m.graph.input[0].type.tensor_type.shape.dim[1].dim_value = size

        return edit

    corpus.edited("dimensions", "negative-input", model, port(-8))
    corpus.edited("dimensions", "huge-input", model, port(2**60))
    for name, sizes in {
        "more": (8, 17),
        "less": (8, 15),
        "scalar": (),
        "many": (1000,) * 3,
    }.items():
        corpus.edited("data-length", f"shape-needs-{name}", model, dims(*sizes))

    def raw(content: bytes) -> Edit:
        return lambda m: setattr(m.graph.initializer[0], "raw_data", content)

    corpus.edited("data-length", "no-bytes", model, raw(b""))
    corpus.edited("data-length", "one-byte-more", model, raw(bytes(513)))
    corpus.edited(
        "data-length", "no-data", model, lambda m: m.graph.initializer[0].ClearField("raw_data")
    )

    def field(name: str, values: list[Any], kind: int) -> Edit:
        def edit(m: onnx.ModelProto) -> None:
            m.graph.initializer[0].ClearField("raw_data")
            m.graph.initializer[0].data_type = kind
            getattr(m.graph.initializer[0], name).extend(values)

        return edit

    corpus.edited("data-length", "too-few-floats", model, field("float_data", [1.0] * 127, 1))
    corpus.edited("data-length", "floats-of-double", model, field("float_data", [1.0] * 128, 11))
    corpus.edited("data-length", "too-few-strings", model, field("string_data", [b"a"], 8))

    def attribute(m: onnx.ModelProto) -> None:
        value = helper.make_tensor("t", TensorProto.FLOAT, [4], bytes(16), raw=True)
        value.raw_data = bytes(3)
        m.graph.node.append(helper.make_node("Constant", [], ["constant"], value=value))

    def sparse(m: onnx.ModelProto) -> None:
        entry = m.graph.sparse_initializer.add(dims=[10])
        entry.values.CopyFrom(weight("sparse", 2))
        entry.indices.CopyFrom(ints("indices", 1, 4))
        m.graph.node.append(helper.make_node("Identity", ["sparse"], ["dense"]))

    corpus.edited("data-length", "in-attribute", model, attribute)
    corpus.edited("unsupported", "sparse-weight", model, sparse)
    constant = perceptron()
    constant.graph.node.append(
        helper.make_node("Constant", [], ["hidden"], value=_outside_tensor("weights.data"))
    )
    corpus.model("unsupported", "constant-in-external-data", constant)
    (corpus.cases[-1].path.parent / "weights.data").write_bytes(external_data())
    for kind in (-1, 0, 99, 2**31 - 1):
        corpus.edited(
            "data-type",
            f"weight-{kind}",
            model,
            lambda m, kind=kind: setattr(m.graph.initializer[0], "data_type", kind),
        )
        corpus.edited(
            "data-type",
            f"input-{kind}",
            model,
            lambda m, kind=kind: setattr(m.graph.input[0].type.tensor_type, "elem_type", kind),
        )


def _operators(corpus: Corpus) -> None:
    model = perceptron()

    def version(number: int) -> Edit:
        return lambda m: setattr(m.opset_import[0], "version", number)

    for number in (0, -1, 999, 2**63 - 1):
        corpus.edited("operator-set", str(number), model, version(number))
    corpus.edited("operator-set", "none", model, lambda m: m.ClearField("opset_import"))
    corpus.edited(
        "operator-set",
        "other-only",
        model,
        lambda m: setattr(m.opset_import[0], "domain", "ai.onnx.ml"),
    )
    corpus.edited(
        "operator-set", "no-version", model, lambda m: m.opset_import[0].ClearField("version")
    )
    corpus.edited(
        "operator-set", "twice", model, lambda m: m.opset_import.add(domain="", version=11)
    )

    def operator(name: str, domain: str = "", *, imported: bool = True) -> Edit:
        def edit(m: onnx.ModelProto) -> None:
            m.graph.node[2].op_type, m.graph.node[2].domain = name, domain
            if domain and imported:
                m.opset_import.add(domain=domain, version=1)

        return edit

    corpus.edited("operator", "unknown", model, operator("Frobnicate"))
    corpus.edited("operator", "empty", model, operator(""))
    corpus.edited("operator", "case", model, operator("relu"))
    corpus.edited("operator", "escape-codes", model, operator("\x1b[2J\x1b]0;owned\x07"))
    corpus.edited("operator", "long", model, operator("R" * 100_000))
    corpus.edited("operator", "unknown-domain", model, operator("Relu", "no.such.domain"))
    corpus.edited(
        "operator", "domain-not-imported", model, operator("Gelu", "com.microsoft", imported=False)
    )
    corpus.edited("operator", "unknown-contrib", model, operator("Frobnicate", "com.microsoft"))
    corpus.edited("operator", "newer-than-set", model, operator("Gelu"))
    corpus.model("operator", "unknown-attribute", unary("Relu", colour=3))
    untyped = unary("LeakyRelu", alpha=0.5)
    untyped.graph.node[0].attribute[0].ClearField("type")
    corpus.model("operator", "attribute-without-type", untyped)
    corpus.model("operator", "attribute-type", unary("LeakyRelu", alpha="steep"))
    corpus.edited(
        "operator", "too-many-inputs", model, lambda m: m.graph.node[2].input.extend(["x"] * 9)
    )
    corpus.edited("operator", "no-inputs", model, lambda m: m.graph.node[2].ClearField("input"))


def _mismatches(corpus: Corpus) -> None:
    def binary(operator: str, kinds: tuple[int, int, int], *shapes: tuple[int, ...]) -> Any:
        return model_of(
            [helper.make_node(operator, ["a", "b"], ["y"])],
            [
                helper.make_tensor_value_info("a", kinds[0], shapes[0]),
                helper.make_tensor_value_info("b", kinds[1], shapes[1]),
            ],
            [helper.make_tensor_value_info("y", kinds[2], shapes[2])],
        )

    real, whole, truth = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
    two = ((2, 2),) * 3
    for name, operator, kinds in (
        ("integer-times-float", "MatMul", (whole, real, real)),
        ("bool-plus-float", "Add", (truth, real, real)),
        ("product-of-bools", "MatMul", (truth, truth, truth)),
        ("wrong-result", "Add", (real, real, whole)),
        ("float-index", "Gather", (real, real, real)),
    ):
        corpus.model("type-mismatch", name, binary(operator, kinds, *two))
    wrong = perceptron()
    wrong.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((8, 16)), "w1"))
    corpus.model("type-mismatch", "double-weight", wrong)
    floats = (real, real, real)
    for name, operator, shapes in (
        ("inner-size", "MatMul", ((2, 3), (4, 5), (2, 5))),
        ("broadcast", "Add", ((2, 3), (4, 3), (2, 3))),
        ("scalar-product", "MatMul", ((), (4, 5), (5,))),
    ):
        corpus.model("shape-mismatch", name, binary(operator, floats, *shapes))
    lost = perceptron()
    lost.graph.initializer[0].dims[:] = [16, 8]
    corpus.model("shape-mismatch", "weight", lost)
    corpus.model("shape-mismatch", "axis", unary("Softmax", axis=7))
    corpus.model("shape-mismatch", "permutation", unary("Transpose", perm=[0, 0]))
    shape = unary()
    shape.graph.node[0].CopyFrom(helper.make_node("Reshape", ["x", "to"], ["y"]))
    shape.graph.initializer.append(ints("to", 7, 11))
    corpus.model("shape-mismatch", "reshape", shape)


def _ports(corpus: Corpus) -> None:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    kinds = {
        "sequence": helper.make_sequence_type_proto(tensor),
        "optional": helper.make_optional_type_proto(tensor),
        "map": helper.make_map_type_proto(
            TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
        ),
        "sparse": helper.make_sparse_tensor_type_proto(TensorProto.FLOAT, [2]),
        "string": helper.make_tensor_type_proto(TensorProto.STRING, [2]),
        "open-rank": helper.make_tensor_type_proto(TensorProto.FLOAT, None),
        "none": onnx.TypeProto(),
        "hollow-sequence": onnx.TypeProto(sequence_type=onnx.TypeProto.Sequence()),
        "hollow-tensor": onnx.TypeProto(tensor_type=onnx.TypeProto.Tensor()),
    }
    for name, kind in kinds.items():
        model = model_of(
            [helper.make_node("Identity", ["strange"], ["y"])],
            [helper.make_value_info("strange", kind)],
            [helper.make_value_info("y", kind)],
        )
        corpus.model("port-type", name, model)
    untyped = perceptron()
    untyped.graph.input[0].ClearField("type")
    corpus.model("port-type", "input-without-type", untyped)
    untyped = perceptron()
    untyped.graph.output[0].ClearField("type")
    corpus.model("port-type", "output-without-type", untyped)


def _varint(number: int) -> bytes:
    content = bytearray()
    while number > 0x7F:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    content.append(number)
    return bytes(content)


def _field(number: int, content: bytes | str | int) -> bytes:
    """One protobuf field on the wire: a length and bytes, or a number."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    content = content.encode() if isinstance(content, str) else content
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _wrap(graph: bytes) -> bytes:
    """A model around the bytes of a graph."""
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 17))


def _deep_subgraphs(depth: int) -> bytes:
    graph = b""
    for level in range(depth):
        attribute = _field(1, "then_branch") + _field(6, graph) + _field(20, 5)
        node = _field(1, "c") + _field(2, f"v{level}") + _field(4, "If") + _field(5, attribute)
        graph = _field(1, node) + _field(2, "deep") + _field(12, _field(1, f"v{level}"))
    return _wrap(graph)


def _deep_type(depth: int) -> bytes:
    kind = _field(1, _field(1, 1))
    for _ in range(depth):
        kind = _field(4, _field(1, kind))
    port = _field(1, "x") + _field(2, kind)
    return _wrap(_field(2, "deep") + _field(11, port) + _field(12, port))


def _nested_if(depth: int) -> onnx.ModelProto:
    node = helper.make_node
    graph = helper.make_graph([node("Relu", ["x"], ["o"])], "g", [], [float_input("o", "batch", 8)])
    for level in range(depth):
        other = helper.make_graph(
            [node("Neg", ["x"], [f"n{level}"])], "g", [], [float_input(f"n{level}", "batch", 8)]
        )
        inner = node("If", ["flag"], [f"o{level}"], then_branch=graph, else_branch=other)
        graph = helper.make_graph([inner], "g", [], [float_input(f"o{level}", "batch", 8)])
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    return model_of(list(graph.node), [float_input("x", "batch", 8), flag], list(graph.output))


def _nesting(corpus: Corpus) -> None:
    for depth in (40, 1_000, 10_000):
        corpus.bytes("nesting", f"subgraphs-{depth}", _deep_subgraphs(depth))
        corpus.bytes("nesting", f"types-{depth}", _deep_type(depth))


def _functions(corpus: Corpus) -> None:
    node = helper.make_node
    rings = {
        "itself": {"Double": "Double"},
        "pair": {"Double": "Other", "Other": "Double"},
        "three": {"Double": "Second", "Second": "Third", "Third": "Double"},
        "later": {"Double": "Second", "Second": "Third", "Third": "Second"},
    }
    for name, calls in rings.items():
        model = functional()
        del model.functions[:]
        for caller, called in calls.items():
            model.functions.append(function(caller, node(called, ["a"], ["b"], domain="local")))
        corpus.model("recursion", name, model)
    model = functional()
    branch = helper.make_graph(
        [node("Double", ["a"], ["r"], domain="local")], "branch", [], [float_input("r", "batch", 8)]
    )
    body = node("If", ["flag"], ["b"], then_branch=branch, else_branch=branch)
    flag = node("Constant", [], ["flag"], value=numpy_helper.from_array(np.array(True)))
    model.functions[0].CopyFrom(function("Double", flag, body))
    corpus.model("recursion", "through-branch", model)
    model = functional()
    del model.functions[:]
    for level in range(2000):
        target = f"F{(level + 1) % 2000}"
        model.functions.append(function(f"F{level}", node(target, ["a"], ["b"], domain="local")))
    corpus.model("recursion", "ring-of-2000", model)


def _unicode(corpus: Corpus) -> None:
    model = perceptron()
    _rename(model, "product", "pro@@uct")
    model.graph.node[0].name = "no@@"
    model.graph.name = "gra@@"
    model.producer_name = "cor@@us"
    content = model.SerializeToString()
    for name, marked in (("value", b"pro@@uct"), ("node", b"no@@"), ("graph", b"gra@@")):
        broken = marked.replace(b"@@", b"\xff\xfe")
        corpus.bytes("not-unicode", name, content.replace(marked, broken))
    ports = perceptron()
    for port, name in (("x", "inp@@t"), ("y", "out@@t"), ("w1", "wei@@t")):
        _rename(ports, port, name)
        marked = name.encode()
        content = ports.SerializeToString().replace(marked, marked.replace(b"@@", b"\xed\xa0"))
        corpus.bytes("not-unicode", name.replace("@@", ""), content)
    operator = perceptron().SerializeToString().replace(b"Relu", b"R\xff\xfeu")
    corpus.bytes("not-unicode", "operator", operator)
    symbol = perceptron().SerializeToString().replace(b"batch", b"b\xff\xc0ch")
    corpus.bytes("not-unicode", "dimension", symbol)
    noted = perceptron()
    noted.metadata_props.add(key="key", value="te@@t")
    content = noted.SerializeToString().replace(b"te@@t", b"te\xc3\x28t")
    corpus.bytes("not-unicode", "metadata", content)


def _external(corpus: Corpus) -> None:
    data = external_data()

    def write(category: str, name: str, model: onnx.ModelProto, content: bytes | None) -> Path:
        path = corpus.folder(category, name) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        if content is not None:
            (path.parent / "weights.data").write_bytes(content)
        corpus.path(category, name, path)
        return path.parent

    for name, entries in {
        "negative-offset": {"offset": "-4"},
        "offset-past-end": {"offset": "513"},
        "offset-overflow": {"offset": str(2**64)},
        "offset-is-a-word": {"offset": "four"},
        "length-is-a-word": {"length": "0x200"},
        "offset-without-end": {"offset": "9" * 5000},
        "negative-length": {"length": "-1"},
        "length-too-small": {"length": "4"},
        "length-too-large": {"length": str(2**62)},
    }.items():
        write("external-numbers", name, with_external(**entries), data)
    twice = with_external()
    twice.graph.initializer[0].external_data.add(key="location", value="other.data")
    write("external-numbers", "two-locations", twice, data)
    write("external-numbers", "too-short", with_external(), data[:-1])
    write("external-numbers", "empty", with_external(), b"")

    outside = corpus.root / "outside.data"
    outside.write_bytes(data)
    for name, location in {
        "absolute": str(outside),
        "passwd": "/etc/passwd",
        "above": "../../outside.data",
        "above-from-below": "sub/../../../outside.data",
        "above-and-back": "../above-and-back/weights.data",
        "backslashes": "..\\..\\outside.data",
        "drive": "C:\\weights.data",
        "nothing": "",
        "nul": "weights.data\0.txt",
        "itself-folder": ".",
    }.items():
        write("external-unsafe", name, with_external(location=location), data)
    for name, target in {
        "link-outside": str(outside), "link-relative": "../../outside.data",
        "link-zero": "/dev/zero", "link-random": "/dev/urandom", "link-proc": "/proc/self/environ",
    }.items():  # fmt: skip
        folder = write("external-unsafe", name, with_external(), None)
        (folder / "weights.data").symlink_to(target)
    folder = write("external-unsafe", "hard-link", with_external(), None)
    os.link(outside, folder / "weights.data")
    folder = write("external-unsafe", "folder", with_external(), None)
    (folder / "weights.data").mkdir()
    folder = write("external-unsafe", "pipe", with_external(), None)
    os.mkfifo(folder / "weights.data")
    folder = write("external-unsafe", "linked-folder", with_external(location="sub/passwd"), None)
    (folder / "sub").symlink_to("/etc")
    # A folder that only calls itself a cache: its blobs lie elsewhere.
    folder = write("external-unsafe", "false-cache", with_external(), None)
    blobs = folder / "snapshots" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "aaaa").symlink_to(outside)
    (folder / "weights.data").symlink_to("snapshots/blobs/aaaa")
    inside = functional()
    inside.functions[0].node.insert(
        0, helper.make_node("Constant", [], ["hidden"], value=_outside_tensor(str(outside)))
    )
    corpus.model("external-unsafe", "in-function", inside)
    inner = branches()
    inner.graph.node[2].attribute[0].g.initializer.append(_outside_tensor(str(outside)))
    corpus.model("external-unsafe", "in-branch", inner)
    constant = perceptron()
    constant.graph.node.append(
        helper.make_node("Constant", [], ["hidden"], value=_outside_tensor("/etc/passwd"))
    )
    corpus.model("external-unsafe", "in-attribute", constant)

    write("external-missing", "file", with_external(), None)
    write("external-missing", "folder", with_external(location="sub/weights.data"), data)
    write("external-missing", "long-name", with_external(location="n" * 5000), data)
    folder = write("external-missing", "dangling", with_external(), None)
    (folder / "weights.data").symlink_to("nowhere")
    folder = write("external-missing", "endless-link", with_external(), None)
    (folder / "weights.data").symlink_to("weights.data")


def _outside_tensor(location: str) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="outside", data_type=TensorProto.FLOAT, dims=[8, 16])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def _paths(corpus: Corpus) -> None:
    def place(category: str, name: str) -> Path:
        return corpus.folder(category, name) / "model.onnx"

    path = place("no-checkpoint", "folder")
    path.mkdir()
    corpus.path("no-checkpoint", "folder", path)
    path = place("not-a-file", "pipe")
    os.mkfifo(path)
    corpus.path("not-a-file", "pipe", path)
    for device in ("zero", "null", "urandom"):
        corpus.path("not-a-file", device, Path("/dev") / device)
        path = place("not-a-file", f"link-to-{device}")
        path.symlink_to(f"/dev/{device}")
        corpus.path("not-a-file", f"link-to-{device}", path)
    corpus.path("missing", "file", place("missing", "file"))
    corpus.path("missing", "folder", place("missing", "folder") / "sub" / "model.onnx")
    path = place("missing", "below-a-file")
    path.write_bytes(perceptron().SerializeToString())
    corpus.path("missing", "below-a-file", path / "model.onnx")
    path = place("missing", "dangling-link")
    path.symlink_to("nowhere.onnx")
    corpus.path("missing", "dangling-link", path)
    path = place("missing", "endless-link")
    path.symlink_to("model.onnx")
    corpus.path("missing", "endless-link", path)
    corpus.path("missing", "long-name", place("missing", "long-name").with_name("n" * 300))
    corpus.path("missing", "escape-codes", place("missing", "escape-codes").with_name("\x1b[31m"))
    corpus.path("missing", "not-unicode", place("missing", "not-unicode").with_name(NOT_UNICODE))
    for category, name, file in (
        ("hostile-text", "file-name", "\x1b[31m.onnx"),
        ("unsupported", "file-name-not-unicode", NOT_UNICODE),
    ):
        path = place(category, name).with_name(file)
        path.write_bytes(perceptron().SerializeToString())
        corpus.path(category, name, path)


def _bombs(corpus: Corpus) -> None:
    node = helper.make_node
    result = [float_input("y")]

    def growing(name: str, nodes: Iterator[onnx.NodeProto], *weights: onnx.TensorProto) -> None:
        last = [*nodes]
        last.append(node("ReduceSum", [last[-1].output[0]], ["total"], keepdims=0))
        last.append(node("Add", ["total", "x"], ["y"]))
        corpus.model("bomb", name, model_of(last, [float_input("x")], result, weights))

    huge = ints("huge", 1 << 20, 1 << 20)
    growing("constant-of-shape", iter([node("ConstantOfShape", ["huge"], ["big"])]), huge)
    growing(
        "constant-of-computed-shape",
        iter(
            [
                node("Mul", ["thousand", "thousand"], ["million"]),
                node("Mul", ["million", "million"], ["shape"]),
                node("ConstantOfShape", ["shape"], ["big"]),
            ]
        ),
        ints("thousand", 1024),
    )
    one = numpy_helper.from_array(np.ones((1, 1), np.float32), "one")
    growing("expand", iter([node("Expand", ["one", "huge"], ["big"])]), one, huge)
    growing(
        "tile", iter([node("Tile", ["one", "large"], ["big"])]), one, ints("large", 30_000, 30_000)
    )
    growing(
        "pad",
        iter([node("Pad", ["one", "pads"], ["big"])]),
        one,
        ints("pads", 0, 0, 1 << 20, 1 << 20),
    )
    limits = [
        numpy_helper.from_array(np.array(v, np.float64), n)
        for n, v in (("start", 0), ("limit", 1e13), ("delta", 1))
    ]
    growing(
        "range",
        iter(
            [
                node("Range", ["start", "limit", "delta"], ["wide"]),
                node("Cast", ["wide"], ["big"], to=1),
            ]
        ),
        *limits,
    )
    doubling = (node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=0) for i in range(45))
    growing("doubling", doubling, numpy_helper.from_array(np.ones((1, 1), np.float32), "c0"))
    corpus.model("bomb", "endless-loop", loop(trips=2**62))
    below, above = loop(trips=2**62), loop(trips=2**62)
    below.graph.node[0].attribute[0].g.node[1].CopyFrom(node("Neg", ["state"], ["next"]))
    corpus.model("bomb", "endless-loop-without-weights", below)
    grown = above.graph.node[0].attribute[0].g
    grown.node[1].CopyFrom(node("Concat", ["state", "state"], ["next"], axis=0))
    for value in (grown.input[2], grown.output[1], above.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = f"rows_{value.name}"
    corpus.model("bomb", "growing-loop", above)
    model = functional()
    del model.functions[:]
    for level in range(40):
        called = f"F{level + 1}"
        body = [
            node(called, ["a"], ["h"], domain="local"),
            node(called, ["h"], ["b"], domain="local"),
        ]
        model.functions.append(function("Double" if level == 0 else f"F{level}", *body))
    model.functions.append(function("F40", node("Neg", ["a"], ["b"])))
    corpus.model("bomb", "doubling-functions", model)


def documentation() -> str:
    """The table of docs/bad-input.md."""
    lines = ["| files | exit code | what they hold |", "|---|---|---|"]
    for category, expected in EXPECTED.items():
        codes = ", ".join(str(code) for code in sorted(expected.codes))
        lines.append(f"| {category} | {codes} | {expected.holds} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(documentation(), end="")
