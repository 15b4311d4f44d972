"""Caches in int8: what an artifact hands on and computes, which caches stay, and the ports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import make_checker, make_context, run_model
from samples import parse

from burnish.optimizer.caches import exposed, restored, rounded, signature, within
from burnish.optimizer.calibration import Calibration
from burnish.optimizer.contract import Feeds, Outcome, relative_l2
from burnish.optimizer.executor import Executor
from burnish.optimizer.signature import Signature
from burnish.passes.compress.kv_cache.kv_cache import KvCache
from burnish.passes.compress.kv_cache.scales import MARGIN

HEADS, GROUPS, SIZE = 4, 2, 8

DECODER = """
    <ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
    a (float[batch, new, 32] q, float[batch, new, 16] k, float[batch, new, 16] v,
       float[batch, 2, past, 8] past_key, float[batch, 2, past, 8] past_value)
    => (float[batch, new, 32] y, float[batch, 2, all, 8] present_key,
        float[batch, 2, all, 8] present_value)
    <int64[4] queries = {0, 0, 4, 8}, int64[4] apart = {0, 0, 2, 8}, int64[3] together = {0, 0, 32}>
    {
        q4 = Reshape (q, queries)
        qt = Transpose <perm = [0, 2, 1, 3]> (q4)
        k4 = Reshape (k, apart)
        kt = Transpose <perm = [0, 2, 1, 3]> (k4)
        v4 = Reshape (v, apart)
        vt = Transpose <perm = [0, 2, 1, 3]> (v4)
        %s
        mt = Transpose <perm = [0, 2, 1, 3]> (mixed)
        y = Reshape (mt, together)
    }
"""

PLAIN = (
    DECODER
    % """
        present_key = Concat <axis = 2> (past_key, kt)
        present_value = Concat <axis = -2> (past_value, vt)
        mixed = Attention (qt, present_key, present_value)
"""
)

GROUPED = """
    <ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
    a (float[batch, new, 32] q, float[batch, new, 16] k, float[batch, new, 16] v,
       float[batch, 2, past, 8] past_key, float[batch, 2, past, 8] past_value,
       int32[batch] last, int32 all)
    => (float[batch, new, 32] y, float[batch, 2, total, 8] present_key,
        float[batch, 2, total, 8] present_value)
    {
        y, present_key, present_value = com.microsoft.GroupQueryAttention
            <num_heads = 4, kv_num_heads = 2> (q, k, v, past_key, past_value, last, all)
    }
"""

RANDOM = np.random.default_rng(0)

OUTLYING = np.where(np.arange(SIZE) == 3, 30.0, 1.0)
"""One channel of each head is far larger than the others."""


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def a_feed(batch: int, new: int, past: int) -> dict[str, np.ndarray]:
    """Keys with a large channel, as trained decoders have them."""
    wide = np.tile(OUTLYING, GROUPS)
    caches = [normal(batch, GROUPS, past, SIZE) for _ in range(2)]
    return {
        "q": normal(batch, new, HEADS * SIZE),
        "k": (normal(batch, new, GROUPS * SIZE) * wide).astype(np.float32),
        "v": normal(batch, new, GROUPS * SIZE),
        "past_key": (caches[0] * OUTLYING).astype(np.float32),
        "past_value": caches[1],
        "last": np.full(batch, past + new - 1, np.int32),
        "all": np.array(past + new, np.int32),
    }


SEEN = [a_feed(2, 6, 0), a_feed(1, 3, 5), a_feed(2, 1, 7)]


def quantized(
    model: ir.Model, executor: Executor, feeds: Sequence[Feeds] = SEEN, **options: Any
) -> tuple[ir.Model, Outcome]:
    names = {value.name for value in model.graph.inputs}
    taken = [{key: item[key] for key in item if key in names} for item in feeds]
    observe = Calibration(executor, executor.store(taken))
    after = model.clone()
    return after, KvCache(**options).apply(after, make_context(observe=observe))


def split(array: np.ndarray, heads: int) -> np.ndarray:
    return array.reshape(*array.shape[:2], heads, SIZE).transpose(0, 2, 1, 3)


def mixed(feed: Feeds, keys: np.ndarray, values: np.ndarray, *, causal: bool) -> np.ndarray:
    """The attention in numpy, on whole caches."""
    query = split(feed["q"], HEADS).astype(np.float64)
    keys, values = (np.repeat(item, HEADS // GROUPS, axis=1) for item in (keys, values))
    scores = query @ keys.swapaxes(2, 3) / np.sqrt(SIZE)
    rows, columns = scores.shape[2:]
    if causal:
        scores = np.where(np.tri(rows, columns, columns - rows, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    result = (weights @ values).transpose(0, 2, 1, 3)
    return result.reshape(*result.shape[:2], -1).astype(np.float32)


@pytest.mark.parametrize(("text", "causal"), [(PLAIN, False), (GROUPED, True)])
@pytest.mark.parametrize("optimize", [False, True])
def test_an_artifact_hands_integers_on(
    executor: Executor, text: str, causal: bool, optimize: bool
) -> None:
    """Old positions stay bit by bit, new ones are rounded once, and all of them are mixed."""
    model = parse(text)
    after, outcome = quantized(model, executor)
    assert (outcome.rewrites, outcome.refusals) == (2, ())
    artifact = exposed(after, outcome.caches)
    for port in (*artifact.graph.inputs, *artifact.graph.outputs):
        kind = ir.DataType.INT8 if "_" in (port.name or "") else None
        assert kind is None or port.dtype is kind
    assert not signature(Signature.of(model), outcome.caches).difference(Signature.of(artifact))
    if text is PLAIN:
        onnx.checker.check_model(ir.to_proto(artifact), full_check=True)
    keys, values = (item.scale for item in outcome.caches)
    past = {name: np.zeros((1, GROUPS, 0, SIZE), np.int8) for name in ("past_key", "past_value")}
    for new in (4, 1, 1, 3):
        length = past["past_key"].shape[2]
        feed = a_feed(1, new, length) | past
        found = run_model(artifact, [feed], optimize=optimize)[0]
        grown = {}
        for name, scale, source in (("key", keys, feed["k"]), ("value", values, feed["v"])):
            nearest = np.clip(np.rint(split(source, GROUPS) / scale), -128, 127).astype(np.int8)
            grown[name] = np.concatenate([past[f"past_{name}"], nearest], axis=2)
            np.testing.assert_array_equal(found[f"present_{name}"], grown[name])
        exact = mixed(feed, grown["key"] * keys, grown["value"] * values, causal=causal)
        assert relative_l2(exact, found["y"]) < 1e-5
        past = {f"past_{name}": found[f"present_{name}"] for name in ("key", "value")}


@pytest.mark.parametrize("text", [PLAIN, GROUPED])
def test_the_loss_is_that_of_rounding(executor: Executor, text: str) -> None:
    """Each channel by a scale of its own: the large one costs the others nothing."""
    model = parse(text)
    after, outcome = quantized(model, executor)
    feed = SEEN[1]
    exact, inside = (run_model(item, [feed])[0] for item in (model, after))
    artifact = exposed(after, outcome.caches)
    given = run_model(artifact, [rounded(feed, outcome.caches)])[0]
    assert given["present_key"].dtype == np.int8
    for name, array in restored(given, outcome.caches).items():
        np.testing.assert_array_equal(array, inside[name])
        assert 1e-4 < relative_l2(exact[name], inside[name]) < 0.02
    small = [channel for channel in range(SIZE) if channel != 3]
    error = relative_l2(exact["present_key"][..., small], inside["present_key"][..., small])
    assert error < 0.02


def test_scales_are_the_ranges_of_channels(executor: Executor) -> None:
    _, outcome = quantized(parse(PLAIN), executor)
    held = [np.concatenate([item["past_key"], split(item["k"], GROUPS)], axis=2) for item in SEEN]
    peaks = np.max([np.abs(item).max(axis=(0, 2)) for item in held], axis=0)
    np.testing.assert_allclose(
        outcome.caches[0].scale[:, 0], np.maximum(peaks, peaks.max() / 256) * MARGIN / 127, 1e-6
    )


def test_what_was_never_that_large_is_cut(executor: Executor) -> None:
    after, outcome = quantized(parse(PLAIN), executor)
    feed = SEEN[1] | {"k": SEEN[1]["k"] * 100}
    cache = outcome.caches[0]
    found = run_model(after, [feed])[0]["present_key"]
    limits = -128 * cache.scale, 127 * cache.scale
    assert (found >= limits[0] - 1e-4).all()
    assert (found <= limits[1] + 1e-4).all()
    assert np.isfinite(found).all()


def test_whoever_else_reads_a_cache_gets_its_numbers(executor: Executor) -> None:
    model = parse(
        DECODER
        % """
        present_key = Concat <axis = 2> (past_key, kt)
        present_value = Concat <axis = 2> (past_value, vt)
        axis = Constant <value_ints = [2]> ()
        keys = Unsqueeze (present_key, axis)
        twice = Concat <axis = 2> (keys, keys)
        shape = Constant <value_ints = [0, 4, -1, 8]> ()
        wide = Reshape (twice, shape)
        more = Unsqueeze (present_value, axis)
        both = Concat <axis = 2> (more, more)
        rest = Reshape (both, shape)
        mixed = Attention (qt, wide, rest)
        """
    )
    after, outcome = quantized(model, executor)
    assert outcome.rewrites == 2
    exact, inside = (run_model(item, [SEEN[2]])[0]["y"] for item in (model, after))
    assert 1e-4 < relative_l2(exact, inside) < 0.02


REFUSED = {
    "Mul reads it as well": PLAIN.replace(
        "kt = Transpose", "other = Mul (past_key, past_key) kt = Transpose"
    ),
    "its heads or their size are not known": PLAIN.replace(
        "float[batch, 2, past, 8] past_key", "float[batch, 2, past, size] past_key"
    ),
    "MultiHeadAttention takes no integers, and grows the cache itself": GROUPED.replace(
        "GroupQueryAttention", "MultiHeadAttention"
    )
    .replace("kv_num_heads = 2", "unidirectional = 1")
    .replace("v, past_key, past_value, last, all)", "v, , , , past_key, past_value)"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refused(executor: Executor, reason: str) -> None:
    model = parse(REFUSED[reason])
    after = model.clone()
    outcome = KvCache().apply(after, make_context())
    assert reason in {item.reason for item in outcome.refusals}
    assert "past_key" in {item.node for item in outcome.refusals if item.reason == reason}


def test_what_was_not_seen_or_is_kept_stays(executor: Executor) -> None:
    model = parse(PLAIN)
    outcome = KvCache().apply(model.clone(), make_context())
    assert outcome.rewrites == 0
    assert {item.reason for item in outcome.refusals} == {
        "nothing was seen of it, or what is no number"
    }
    infinite = [SEEN[1] | {"k": SEEN[1]["k"] * np.inf}]
    _, outcome = quantized(model, executor, infinite)
    assert [cache.past for cache in outcome.caches] == ["past_value"]
    _, outcome = quantized(model, executor, keep=("present_value",))
    assert [cache.past for cache in outcome.caches] == ["past_key"]
    _, outcome = quantized(parse(GROUPED), executor, keep=("present_value",))
    assert not outcome.caches
    assert "for both of its caches or for none" in outcome.refusals[1].reason


def test_earlier_models_have_no_caches(executor: Executor) -> None:
    model = parse(PLAIN)
    after, outcome = quantized(model, executor)
    assert within(outcome.caches, model) == []
    assert exposed(model, []) is model
    assert within(outcome.caches, after) == list(outcome.caches)


def test_a_wrong_scale_is_found(executor: Executor) -> None:
    """The check of the pass knows nothing of integers, and needs not to."""
    model = parse(PLAIN)
    check = make_checker(executor, model).check
    after, _ = quantized(model, executor)
    assert not check(model, after, KvCache.promise).problem
    scale = next(
        value
        for name, value in after.graph.initializers.items()
        if name.startswith("scale") and value.uses()
    )
    assert scale.const_value is not None
    scale.const_value = ir.tensor(scale.const_value.numpy() * 2, name=scale.name)
    assert "promised lossy" in check(model, after, KvCache.promise).problem
