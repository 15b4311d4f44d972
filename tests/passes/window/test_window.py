"""`window`: which keys are left to a query, and which attentions stay as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from harness import make_context, run_model
from samples import parse

from burnish.optimizer.analysis.masks import Masks
from burnish.optimizer.contract import relative_l2
from burnish.passes.compress.window import Window

BOTH = (Path(__file__).parent / "both_sides.before.onnxtxt").read_text()
CAUSAL = (Path(__file__).parent / "causal.before.onnxtxt").read_text()
TWICE = BOTH.replace("  y = Attention", "  x = Attention <q_num_heads = 4, kv_num_heads = 4> "
                     "(q, k, v, keys)\n  y = Attention").replace("(q, k, v, keys)\n}",
                                                                 "(x, k, v, keys)\n}")  # fmt: skip


def feed(length: int, *, padded: bool) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(length)
    found: dict[str, np.ndarray] = {
        name: generator.standard_normal((2, length, 32), np.float32) for name in "qkv"
    }
    mask = np.ones((2, length), np.int64)
    mask[1, length // 2 :] = 0
    return found | ({"attention_mask": mask} if padded else {})


def expected(inputs: dict[str, np.ndarray], near: np.ndarray) -> np.ndarray:
    """Attention in numpy; queries without keys give zero."""
    batch, length, _ = inputs["q"].shape
    q, k, v = (inputs[name].reshape(batch, length, 4, 8).transpose(0, 2, 1, 3) for name in "qkv")
    scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(np.float32(8))
    seen = near[None, None] & inputs.get(
        "attention_mask", np.ones((batch, length), np.int64)
    ).astype(bool).reshape(batch, 1, 1, length)
    weights = np.where(seen, np.exp(scores - scores.max(-1, keepdims=True)), 0)
    weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-30)
    return np.asarray((weights @ v).transpose(0, 2, 1, 3).reshape(batch, length, 32))


@pytest.mark.parametrize("length", [1, 5, 9, 30])
@pytest.mark.parametrize("tokens", [0, 3])
@pytest.mark.parametrize("text", [BOTH, CAUSAL], ids=["both sides", "causal"])
def test_leaves_the_keys_around(text: str, tokens: int, length: int) -> None:
    model = parse(text)
    assert Window(8, tokens).apply(model, make_context()).rewrites == 1
    distance = np.arange(length)[None] - np.arange(length)[:, None]
    causal = text is CAUSAL
    near = (distance >= -7) & (distance <= 0) if causal else np.abs(distance) <= 4
    near |= (np.arange(length) < tokens)[None] | (np.arange(length) < tokens)[:, None]
    near &= (distance <= 0) | (not causal)
    inputs = feed(length, padded=not causal)
    result = run_model(model, [inputs])[0]["y"]
    assert relative_l2(expected(inputs, near), result) < 1e-6


def test_is_proven_to_be_a_window() -> None:
    model = parse(BOTH)
    Window(8).apply(model, make_context())
    node = next(node for node in model.graph if node.op_type == "Attention")
    assert node.inputs[3] is not None
    assert (
        str(Masks().of(node.inputs[3])) == "window(left=4, right=4) & key_padding(attention_mask)"
    )


def test_names_and_numbers_spare_attentions() -> None:
    for window in (Window(8, layers=(1,)), Window(8, keep=("x",))):
        model = parse(TWICE)
        outcome = window.apply(model, make_context())
        assert outcome.rewrites == 1
        assert [item.node for item in outcome.refusals] == ["Attention x"]
        assert outcome.times.keys() == {"y"}


def test_another_sequence_is_refused() -> None:
    model = parse(BOTH.replace("sequence, 32] k", "source, 32] k").replace(
        "sequence, 32] v", "source, 32] v").replace("sequence] att", "source] att"))  # fmt: skip
    outcome = Window(8).apply(model, make_context())
    assert outcome.rewrites == 0
    assert "different sequences" in outcome.refusals[0].reason


def test_narrower_windows_stay() -> None:
    model = parse(BOTH)
    assert Window(8).apply(model, make_context()).rewrites == 1
    assert "it has a window of 9 keys" in Window(8).apply(model, make_context()).refusals[0].reason
    assert Window(4).apply(model, make_context()).rewrites == 1


def test_without_attention_there_is_nothing_to_do() -> None:
    call = CAUSAL[CAUSAL.index("Attention <") : CAUSAL.index("\n}")]
    model = parse(CAUSAL.replace(call, "Add (q, k)"))
    assert Window().apply(model, make_context()).detail == "there is none"
