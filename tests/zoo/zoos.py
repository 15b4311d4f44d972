"""Small zoos, and a main job that takes no time, for tests of what is around it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from samples import encoder

from burnish.driver import zoo
from burnish.driver.request import Request
from burnish.driver.result import Result
from burnish.optimizer.errors import BurnishError
from burnish.optimizer.model import load

BUDGET = 2_200_000_000
"""Bytes for two of the small models at a time."""


def tiny(path: Path, name: str = "tiny") -> Path:
    """A model of one node; its content differs by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]>
        {name} (float[n, 4] x) => (float[n, 4] y) {{ y = Relu (x) }}
    """
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def huge(path: Path, rows: int = 80_000_000) -> Path:
    """A model with four bytes of weights for each row, of which the disk has none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[rows])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="huge.data")
    ports = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [rows]) for name in "xy"
    ]
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "huge", ports[:1], ports[1:], [tensor])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    with path.with_name("huge.data").open("wb") as stream:
        stream.truncate(4 * rows)
    return path


def mixed(root: Path) -> Path:
    """Two encoders alike, a small model, three that cannot be converted, and options for them."""
    for name in ("one", "same"):
        (root / "encoders").mkdir(parents=True, exist_ok=True)
        onnx.save(encoder(), root / "encoders" / f"{name}.onnx")
    tiny(root / "small <b>.onnx")
    content = encoder(layers=1).SerializeToString()
    (root / "broken.onnx").write_bytes(content[: len(content) // 2])
    huge(root / "huge" / "huge.onnx")
    config = {"model_type": "bert"}
    (root / "empty").mkdir()
    (root / "empty" / "config.json").write_text(json.dumps(config))
    file = root / "zoo.yaml"
    file.write_text("options: {no-measure: true}\npatterns: {'encoders/*': {int8: true}}\n")
    return file


class Compiler:
    """Stands for the main job: copies the model, and says what it was asked for.

    Attributes:
        asked: the requests, in order.
        fails: by name of a model, the error that it gives.
    """

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.fails: dict[str, BurnishError | Exception] = {}

    def __call__(self, request: Request, say: Callable[[dict[str, Any]], None]) -> Result:
        self.asked.append(request)
        source, target = Path(request.model), Path(request.output or "")
        say({"stage": "copying"})
        if source.name in self.fails:
            raise self.fails[source.name]
        part = self._part(target)
        if source.is_dir():
            target.mkdir()
            (target / "manifest.json").write_text('{"burnish": "0"}')
            (target / "model.onnx").write_bytes((source / "model.safetensors").read_bytes())
            export = {"bytes": 100, "memory": {"compile_peak_rss_bytes": 7}}
            return Result({"export": export, "parts": {"model": part}}, target)
        target.write_bytes(source.read_bytes() + b"\x00made")
        target.with_name(f"{target.name}-0123456789abcdef.data").write_bytes(b"weights")
        given = {"bytes": source.stat().st_size, "sha256": load(source).sha256}
        return Result(part | {"input": given}, target)

    def _part(self, target: Path) -> dict[str, Any]:
        return {
            "passes": [{"name": "clean", "status": "kept"}],
            "recovered": {"attention": {"expected": 2, "found": 2}},
            "latency": {"speedup": 1.5, "ci95": [1.4, 1.6]},
            "fidelity": {"drop": 0.001, "metric": "1 - cosine", "feeds": "on made-up inputs"},
            "memory": {"compile_peak_rss_bytes": 5},
            "output": {"path": str(target)},
            "warnings": [],
        }


def convert(source: Path, output: Path, compiler: Compiler, **order: Any) -> dict[str, Any]:
    """A run in this process."""
    order = {"memory_limit": BUDGET, **order}
    whole = zoo.Order(str(source), str(output), **order)
    return zoo.convert(whole, compiler, lambda request, report: "", lambda event: None)


def by_name(facts: dict[str, Any]) -> dict[str, Any]:
    """The rows by name."""
    return {row["name"]: row for row in facts["members"]}


def artifacts(output: Path) -> dict[str, bytes]:
    """What a run has made, by path."""
    files = (file for file in output.rglob("*") if file.is_file())
    shown = (file for file in files if zoo.store.STATE not in file.parts)
    return {
        file.relative_to(output).as_posix(): file.read_bytes()
        for file in shown
        if not file.name.endswith(zoo.REPORT) and file.name not in (zoo.JSON, zoo.HTML)
    }
