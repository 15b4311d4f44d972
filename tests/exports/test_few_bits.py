"""Weights in blocks and short types on real exports: they are taken, and give numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from architectures import CASES, Case
from harness import made_up, make_checker, make_context, run_model
from test_exports import optimize, ports

from burnish.driver.plan import passes_for
from burnish.driver.request import Request
from burnish.optimizer import pipeline
from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import relative_l2
from burnish.optimizer.emulation import emulated
from burnish.optimizer.executor import Executor
from burnish.optimizer.model import load


@pytest.fixture(params=CASES, ids=str)
def path(request: pytest.FixtureRequest, exports: Callable[[Case], Path]) -> Path:
    return exports(request.param)


@pytest.mark.parametrize("case", [case for case in CASES if "cached" in case.name], ids=str)
def test_caches_in_int8(case: Case, exports: Callable[[Case], Path], executor: Executor) -> None:
    """Every cache is taken, and the integers give what their numbers give."""
    model = ir.from_proto(onnx.load(exports(case)))
    feeds = made_up(model)
    context = make_context(observe=Calibration(executor, executor.store(feeds)))
    passes = passes_for(Request("model.onnx", kv_cache="int8"))
    compiled = pipeline.run(model, passes, context, make_checker(executor, model).check)
    ports = compiled.ports
    assert len(ports.caches) == 4
    artifact = ports.exposed(compiled.model)
    given = run_model(artifact, [ports.given(feed) for feed in feeds], optimize=True)
    for feed, mine, theirs in zip(feeds, run_model(model, feeds), given, strict=True):
        for name, array in ports.taken(theirs, feed).items():
            assert 1e-4 < relative_l2(mine[name], array) < 0.05


def test_weights_in_blocks(path: Path) -> None:
    report = optimize(path, "--int4", "--max-drop", "0.5")
    output = path.with_name("model.int4.onnx")
    assert ports(path) == ports(output)
    step = next(item for item in report["passes"] if item["name"] == "weight-only")
    assert step["status"] == "kept", step["reason"]
    operators = {node.op_type for node in load(output).model.graph}
    assert "MatMulNBits" in operators


@pytest.mark.parametrize("dtype", [ir.DataType.FLOAT16, ir.DataType.BFLOAT16], ids=str)
def test_short_types(path: Path, executor: Executor, dtype: ir.DataType) -> None:
    """As it is written for a GPU; the processor vouches for the numbers."""
    model = ir.from_proto(onnx.load(path))
    feeds = made_up(model)
    assert feeds
    observe = Calibration(executor, executor.store(feeds))
    context = make_context(provider="cuda", observe=observe)
    wanted = {"fp16" if dtype is ir.DataType.FLOAT16 else "bf16": True}
    passes = passes_for(Request(str(path), provider="cuda", **wanted))
    compiled = pipeline.run(model, passes, context, make_checker(executor, model).check)
    step = compiled.steps[-1]
    assert (step.transform.name, step.status) == ("half-precision", "kept"), step.reason
    half = [node for node in compiled.model.graph if node.outputs[0].dtype is dtype]
    products = [node for node in half if node.op_type in ("MatMul", "Gemm", "FusedMatMul")]
    assert products
    after = emulated(compiled.model)
    for mine, theirs in zip(run_model(model, feeds), run_model(after, feeds), strict=True):
        for name, array in mine.items():
            if array.dtype.kind == "f":
                assert np.isfinite(theirs[name][np.isfinite(array)]).all()
