"""Running and checking models in tests, as the driver's workbench does."""

from __future__ import annotations

import contextlib
import importlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from burnish import driver
from burnish.driver.workbench import EXECUTOR
from burnish.optimizer import feeds, roles
from burnish.optimizer.contract import Choice, Context, Feeds
from burnish.optimizer.executor import Executor
from burnish.optimizer.sandbox import Limits
from burnish.optimizer.standing import Standing
from burnish.optimizer.verify import Checker
from burnish.runtimes.arrays import read_arrays, write_arrays
from burnish.runtimes.targets import NATIVE, target_of
from burnish.runtimes.work import execute

LIMITS = Limits(memory=4 << 30, wall=60.0)


def ruled(key: str, forms: Any, rule: str) -> Choice:
    """A chooser that measures nothing."""
    return Choice(rule, 1.0, False)


def last_form(key: str, forms: Any, rule: str) -> Choice:
    """A chooser that takes the boldest form, so that small models are rewritten too."""
    return Choice(list(forms)[-1], 1.0, False)


def choosing(form: str) -> Any:
    """A chooser that takes a form where there is such a one, else leaves the place as it is."""
    return lambda key, forms, rule: Choice(form if form in forms else next(iter(forms)), 1.0, False)


def make_context(choose: Any = ruled, **settings: Any) -> Context:
    """What a pass may know: eight rows of 128 tokens, on the processor at hand."""
    sizes = settings.pop("sizes", {"batch": 8, "sequence": 128})
    provider = settings.pop("provider", "cpu")
    settings.setdefault("saturating", target_of(NATIVE).saturating)
    return Context(provider, LIMITS, sizes, choose, **settings)


def make_executor(scratch: Path, *, child: bool = False) -> Executor:
    """An executor; in a sandboxed child as in production, or (faster) in this process."""

    def call(argument: dict[str, Any]) -> dict[str, Any]:
        argument |= {"threads": 1}
        if not child:
            return execute(argument, lambda event: None)
        with Standing(EXECUTOR, LIMITS) as worker:
            return worker.ask(argument)

    return Executor(scratch, call, read_arrays, write_arrays)


@contextlib.contextmanager
def unsupervised() -> Iterator[None]:
    """Jobs of the command run in this process, where an interpreter and its imports are there.

    Models and libraries still run in children of their own.
    """

    def work(target: str, argument: dict[str, Any], request: Any, progress: Any) -> dict[str, Any]:
        module, function = target.split(":")
        limits = request.limits
        argument |= {"memory_limit": limits.memory, "time_limit": limits.wall}
        done = getattr(importlib.import_module(module), function)
        report = json.loads(json.dumps(done(argument, progress or (lambda event: None))))
        report.setdefault("memory", {})["compile_peak_rss_bytes"] = 0  # nobody has watched
        return report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "_supervised", work)
        yield


def made_up(model: ir.Model, seed: int = 0, *, allowed: tuple[int, ...] = ()) -> list[Feeds]:
    """The feeds that a compilation tries, without those that the model does not accept.

    With `allowed`, inputs of ids have only these.
    """
    slots = roles.slots(model)
    if allowed:
        ids = roles.Role.IDS
        slots = [replace(slot, allowed=allowed) if slot.role is ids else slot for slot in slots]
    return [feed for _, feed in feeds.trials(slots, seed, {}) if _runs(model, feed)]


def _runs(model: ir.Model, feed: Feeds) -> bool:
    try:
        run_model(model, [feed])
    except Exception:  # the binding raises a type of its own per status code
        return False
    return True


def make_checker(executor: Executor, model: ir.Model, *, seed: int = 0) -> Checker:
    """A checker with the feeds that a compilation would use."""
    return Checker(executor, executor.store(made_up(model, seed)))


def loaded_operators(model: ir.Model) -> list[str]:
    """The operators that run, after all that ONNX Runtime does to a model when it loads it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/loaded.onnx"
        onnxruntime.InferenceSession(
            ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        loaded = onnx.load(options.optimized_model_filepath)
    return [node.op_type for node in loaded.graph.node]


def run_model(
    model: ir.Model, inputs: Sequence[Feeds], *, optimize: bool = False
) -> list[dict[str, np.ndarray]]:
    """Outputs by feed, straight from ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    wanted = {item.name for item in session.get_inputs()}
    return [
        dict(
            zip(
                names,
                session.run(names, {key: feed[key] for key in feed if key in wanted}),
                strict=True,
            )
        )
        for feed in inputs
    ]
