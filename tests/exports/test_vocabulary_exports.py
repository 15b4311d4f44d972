"""Tokens are cut out of real exports, and what is left gives what it gave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from architectures import CASES, Case
from harness import made_up, make_context, run_model

from burnish.driver.plan import passes_for
from burnish.driver.request import Request
from burnish.optimizer import pipeline
from burnish.optimizer.contract import Phase, relative_l2
from burnish.optimizer.executor import Executor
from burnish.optimizer.roles import Role, slots
from burnish.optimizer.undefined import cleared
from burnish.optimizer.verify import Checker
from burnish.passes.compress.vocabulary.vocabulary import Vocabulary

CUT = [
    case for case in CASES
    if (case.name, case.exporter) in {
        ("bert-eager", "torchscript"), ("llama-tied", "dynamo"), ("gpt2", "dynamo"),
        ("llama-cached", "torchscript"), ("t5-decoder", "torchscript"),
    }
]  # fmt: skip

SLOW = {"onnxsim", "raise-opset"}
"""Passes that start a process, and change nothing of what matters here."""


def _tokens(model: ir.Model) -> int:
    return max((slot.bound for slot in slots(model) if slot.role is Role.IDS), default=0)


@pytest.mark.parametrize("case", CUT, ids=str)
def test_tokens_are_cut(case: Case, exports: Callable[[Case], Path], executor: Executor) -> None:
    model = ir.from_proto(onnx.load(exports(case)))
    rows = _tokens(model)
    random = np.random.default_rng(0)
    kept = tuple(sorted({0, 1, 2, 3, *random.choice(rows, rows // 3, replace=False).tolist()}))
    feeds = made_up(model, allowed=kept)
    early = [
        item for item in passes_for(Request("model.onnx", measure=False))
        if item.phase is Phase.RECOVER and item.name not in SLOW
    ]  # fmt: skip
    context = make_context(sizes={"batch": 2, "sequence": 16})
    recovered = pipeline.run(model, early, context, None).model
    check = Checker(executor, executor.store(feeds)).check
    compiled = pipeline.run(recovered, [Vocabulary(kept)], context, check)
    (step,) = compiled.steps
    assert step.status == "kept", (step.reason, step.outcome.refusals)
    ports = compiled.ports
    assert ports.renumbering is not None
    assert len(ports.renumbering.outputs) == _heads(model, rows)
    given = run_model(ports.exposed(compiled.model), [ports.given(feed) for feed in feeds])
    for feed, mine, theirs in zip(feeds, run_model(model, feeds), given, strict=True):
        wanted, taken = cleared(mine, feed, compiled.undefined), ports.taken(theirs, feed)
        for name, array in wanted.items():
            assert relative_l2(array, taken[name]) <= 1e-6


def _heads(model: ir.Model, rows: int) -> int:
    outputs = model.graph.outputs
    return sum(bool(value.shape) and value.shape[-1] == rows for value in outputs)
