"""The five laws of every registered pass, on random graphs.

1. The result is legal. 2. The signature is unchanged. 3. The outputs stay within the promise.
4. A second run rewrites nothing. 5. No rewrites means that nothing at all changed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import onnx
import onnx_ir as ir
import pytest
from graphs import PLACES, build, models
from harness import last_form, made_up, make_context, run_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from windowed import stage

from burnish.optimizer.contract import Array, Feeds, Kind, Pass, relative_l2
from burnish.optimizer.regions import identical
from burnish.optimizer.signature import Signature
from burnish.optimizer.undefined import cleared
from burnish.passes import REGISTRY
from burnish.passes.recover.inline_functions import InlineFunctions
from burnish.passes.recover.raise_opset import RaiseOpset
from burnish.passes.restructure.moves.compose_moves import ComposeMoves
from burnish.passes.restructure.spectral.spectral import Spectral

CONTEXT = make_context(last_form)

CONTEXTS = {"half-precision": make_context(last_form, provider="cuda")}
"""Of passes that find nothing to do for a processor here, by their names."""

WHOLE = {Kind.EXACT: 0.0, Kind.ROUNDING: 2e-4, Kind.LOSSY: 0.25}
"""Bounds on a whole graph's outputs, through which a region's error may grow."""

SLOW = {"onnxsim", "raise-opset"}
"""Passes that start a process for each run."""


@dataclass(frozen=True)
class Sample:
    """A model as the passes before some pass leave it, what it is fed with and what it gives."""

    model: ir.Model
    feeds: list[Feeds]
    outputs: list[dict[str, Array]]


@functools.cache
def sample(message: bytes, earlier: tuple[type[Pass], ...]) -> Sample:
    """The sample of a serialized model; most passes are tried on the same ones."""
    model = ir.from_proto(onnx.ModelProto.FromString(message))
    for kind in earlier:
        kind().apply(model, CONTEXT)
    feeds = made_up(model)
    return Sample(model, feeds, run_model(model, feeds))


def hold(kind: type[Pass], message: onnx.ModelProto) -> int:
    """Check the laws on the model as the passes before leave it; the number of rewrites."""
    index = REGISTRY.index(kind)
    makers = (InlineFunctions, RaiseOpset, Spectral)
    earlier = [item for item in makers if REGISTRY.index(item) < index]
    known = sample(message.SerializeToString(deterministic=True), tuple(earlier))
    before = known.model.clone()
    after = known.model.clone()
    context = CONTEXTS.get(kind.name, CONTEXT)
    outcome = kind().apply(after, context)
    assert not Signature.of(before).difference(Signature.of(after))
    if outcome.rewrites == 0:
        assert identical(before, after)
        assert text(before) == text(after)
        return 0
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    runs = zip(known.feeds, known.outputs, run_model(after, known.feeds), strict=True)
    for feed, mine, theirs in runs:
        for name, array in cleared(mine, feed, outcome.undefined).items():
            assert relative_l2(array, theirs[name]) <= WHOLE[kind.promise.kind], name
    once = after.clone()
    again = kind().apply(after, context)
    assert again.rewrites == 0, again.detail
    assert identical(once, after)
    return outcome.rewrites


def text(model: ir.Model) -> str:
    """The model as text, without what inference found out about values inside."""
    message = ir.to_proto(model)
    del message.graph.value_info[:]
    return onnx.printer.to_text(message)


@pytest.mark.parametrize("kind", REGISTRY, ids=lambda kind: kind.name)
def test_laws_hold_on_random_graphs(kind: type[Pass]) -> None:
    @settings(
        max_examples=4 if kind.name in SLOW else 10,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(message=models())
    def check(message: onnx.ModelProto) -> None:
        hold(kind, message)

    check()


@pytest.mark.parametrize("opset", [11, 17, 23])
@pytest.mark.parametrize("kind", REGISTRY, ids=lambda kind: kind.name)
def test_laws_hold_on_a_graph_of_everything(kind: type[Pass], opset: int) -> None:
    rewrites = hold(kind, build(0, opset, list(range(len(PLACES)))))
    inapplicable = {
        "raise-opset": opset >= 23,
        "nan-guard": opset < 13,  # the softmax is written with its axis counted from the front
        "attention": opset < 13,
        "attention-form": True,  # nothing is recovered yet
        "fast-gelu": opset < 20,  # nothing is recovered yet, and Gelu came with operator set 20
        "norm-form": opset < 17,  # LayerNormalization came with operator set 17
        "spectral": opset < 17,  # DFT came with operator set 17
        "sink-selection": True,  # all tokens are outputs here
        "flat-transpose": True,  # shapes of inner values are not written here
        "hoist-constants": True,  # nothing is expanded here
        "compose-moves": True,  # the length of a sequence is open here
        "low-rank": True,  # all weights are too small
        "rotary": True,  # there are none
        "kv-cache": True,  # there are none
        "static-cache": True,  # there are none
        "window": True,  # nothing is recovered yet
        "vocabulary": True,  # no tokens are named that are to be kept
        "static-int8": True,  # there is no data of the user
        "weight-masks": True,  # likewise
        "prune": True,  # likewise
        "onnxsim": opset >= 23,  # it makes more nodes here than it removes
    }
    assert (rewrites == 0) == inapplicable.get(kind.name, False)


@pytest.mark.parametrize("flat", [False, True])
def test_laws_hold_on_windows(flat: bool) -> None:
    assert hold(ComposeMoves, stage(0, 1, 0, flat=flat)) > 0


def test_strategies_make_models_that_run() -> None:
    @settings(max_examples=15, deadline=None, derandomize=True, database=None)
    @given(message=models(), seed=st.integers(0, 99))
    def check(message: onnx.ModelProto, seed: int) -> None:
        model = ir.from_proto(message)
        assert len(run_model(model, made_up(model, seed))) >= 5

    check()
