"""The whole command with wrong passes among its own, as another distribution would add them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import made_up, run_model
from samples import encoder

from burnish.optimizer.contract import relative_l2

PLUGIN = ("MaskDropped", "OneWeightChanged", "OutputRenamed", "RaisesHalfWay", "OutOfMemory")

TESTS = Path(__file__).parents[1]


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """An environment in which a distribution named `wrong` registers passes."""
    home = tmp_path / "site"
    info = home / "wrong-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wrong\nVersion: 1.0\n")
    lines = [f"{name} = wrong_passes:{name}" for name in PLUGIN]
    (info / "entry_points.txt").write_text("[burnish.passes]\n" + "\n".join(lines) + "\n")
    path = os.pathsep.join(map(str, (home, TESTS, TESTS / "planted")))
    return os.environ | {"PYTHONPATH": path}


@pytest.mark.parametrize("options", [(), ("--int8",)], ids=["default", "int8"])
def test_the_command_goes_on_without_them(
    plugin: dict[str, str], tmp_path: Path, options: tuple[str, ...]
) -> None:
    source, target, report = (tmp_path / name for name in ("in.onnx", "out.onnx", "report.json"))
    onnx.save(encoder(), source)
    start = "from burnish.cli import main; main()"
    command = [sys.executable, "-c", start, str(source), "-o", str(target)]
    done = subprocess.run(
        [*command, "--json", str(report), "--no-measure", *options],
        env=plugin,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    steps = json.loads(report.read_text())["passes"]
    rejected = {step["name"]: step["reason"] for step in steps if step["status"] == "rejected"}
    assert set(rejected) == {
        "planted-mask-dropped",
        "planted-one-weight-changed",
        "planted-output-renamed",
        "planted-raises-half-way",
        "planted-out-of-memory",
    }, rejected
    assert all(rejected.values())
    before, after = ir.load(source), ir.load(target)
    feeds = made_up(before, seed=71)
    for mine, theirs in zip(run_model(before, feeds), run_model(after, feeds), strict=True):
        for name, array in mine.items():
            assert relative_l2(array, theirs[name]) < (0.1 if options else 1e-4)


def test_int8_that_breaks_every_place_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scales of another channel: no place keeps the promise of a lossy pass."""
    from burnish.driver import compilation
    from burnish.driver.request import Request
    from burnish.passes.compress.int8 import weights

    right = weights.channel_scales
    monkeypatch.setattr(weights, "channel_scales", lambda *args, **kw: np.roll(right(*args), 1))
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(_with_one_large_channel(), source)
    request = Request(str(source), str(target), int8=True, measure=False, max_drop=0.001)
    monkeypatch.setattr(compilation.tuner.Tuner, "__call__", _boldest)
    report = compilation.compile_model(
        vars(request) | {"staging": str(tmp_path)}, lambda event: None
    )
    step = next(step for step in report["passes"] if step["name"] == "int8")
    assert step["status"] != "kept"
    assert step["reason"]
    before, after = ir.load(source), ir.load(target)
    feeds = made_up(before, seed=71)
    for mine, theirs in zip(run_model(before, feeds), run_model(after, feeds), strict=True):
        assert relative_l2(mine["last_hidden_state"], theirs["last_hidden_state"]) < 1e-4


def _boldest(self: object, key: str, forms: dict[str, object], rule: str) -> object:
    from harness import last_form

    return last_form(key, forms, rule)


def _with_one_large_channel() -> onnx.ModelProto:
    message = encoder()
    for tensor in message.graph.initializer:
        if tensor.name.endswith("up.weight"):
            array = onnx.numpy_helper.to_array(tensor).copy()
            array[:, 3] *= 5
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return message
