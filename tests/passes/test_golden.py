"""Before and after each pass, as ONNX text: `pytest --update-golden` writes the after files anew.

A case is a pair of files in the folder of the pass: CASE.before.onnxtxt, CASE.after.onnxtxt. One
whose name ends in -cuda is rewritten for that provider; in one whose name ends in -seen, what
values were on made-up feeds is known; where it ends in -data, these count as the user's.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from harness import last_form, made_up, make_context, run_model

from burnish.optimizer.activations import Activations
from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import Pass, relative_l2
from burnish.optimizer.executor import Executor
from burnish.optimizer.undefined import cleared
from burnish.passes import REGISTRY
from burnish.passes.compress.vocabulary.vocabulary import Vocabulary

HERE = Path(__file__).parent
CASES = sorted(HERE.glob("*/*.before.onnxtxt"))
PASSES: dict[str, type[Pass]] = {kind.name: kind for kind in REGISTRY}
CHOSEN: dict[str, Pass] = {Vocabulary.name: Vocabulary((0, 2, 3, 5))}
"""Passes that do nothing by their default options."""


def _load(path: Path) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(path.read_text()))


def _text(model: ir.Model) -> str:
    """The model as text, with weights but without the names and types of what is inside."""
    message = ir.to_proto(model)
    del message.graph.value_info[:]
    for node in message.graph.node:
        node.ClearField("name")
    text = onnx.printer.to_text(message)
    return "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


@pytest.mark.parametrize("before", CASES, ids=lambda path: f"{path.parent.name}-{path.stem[:-7]}")
def test_golden(before: Path, executor: Executor, update_golden: bool) -> None:
    model = _load(before)
    original = model.clone()
    provider = "cuda" if before.name.endswith("-cuda.before.onnxtxt") else "cpu"
    transform = CHOSEN.get(before.parent.name) or PASSES[before.parent.name]()
    allowed = transform.kept if isinstance(transform, Vocabulary) else ()
    feeds = made_up(original, allowed=allowed)
    real = before.name.endswith("-data.before.onnxtxt")
    seen = real or before.name.endswith("-seen.before.onnxtxt")
    observe = Calibration(executor, executor.store(feeds), real=real) if seen else None
    activations = Activations(executor, executor.store(feeds)) if real else None
    # Weights that no processor's products saturate with, so that a file holds and runs on all.
    known = {"observe": observe, "activations": activations, "saturating": True}
    context = make_context(last_form, provider=provider, **known)
    outcome = transform.apply(model, context)

    assert outcome.rewrites > 0
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    after = before.with_name(before.name.replace(".before.", ".after."))
    if update_golden:
        after.write_text(_text(model))
    assert _text(model) == after.read_text()

    bound = transform.promise.rel_l2
    pairs = zip(run_model(original, feeds), run_model(model, feeds), strict=True)
    for feed, (mine, theirs) in zip(feeds, pairs, strict=True):
        for name, array in cleared(mine, feed, outcome.undefined).items():
            assert relative_l2(array, theirs[name]) <= min(bound, 0.05)


@pytest.mark.parametrize("name", sorted(PASSES))
def test_every_pass_has_a_case(name: str) -> None:
    assert any(path.parent.name == name for path in CASES)


def test_every_case_has_a_pass() -> None:
    assert {path.parent.name for path in CASES} <= set(PASSES)
