"""Caches of a fixed capacity: what they answer, and which models cannot have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from harness import make_context, run_model, unsupervised

import burnish
from burnish.optimizer.contract import Outcome, relative_l2
from burnish.optimizer.static_caches import FILLING, LAYOUT, given, taken
from burnish.passes.lower.attention.static_cache import LowerStaticCache

TEXT = (Path(__file__).parent / "padded.before.onnxtxt").read_text()
INSIDE = (
    TEXT.replace("  new_k = Concat <axis = 2> (old_k, kt)\n", "")
    .replace("  new_v = Concat <axis = -2> (old_v, vt)\n", "")
    .replace("z = Attention (q, new_k, new_v, mask)",
             "z, new_k, new_v = Attention (q, kt, vt, mask, old_k, old_v)")
)  # fmt: skip
SINGLE = TEXT.replace("few = {0, 0, 2, 8}", "few = {0, 0, 1, 8}").replace("2, p, 8]", "1, p, 8]")
SINGLE = SINGLE.replace("2, t, 8]", "1, t, 8]").replace("s, 16]", "s, 8]")
ALL = TEXT.replace("few = {0, 0, 2, 8}", "few = {0, 0, 4, 8}").replace("2, p, 8]", "4, p, 8]")
ALL = ALL.replace("2, t, 8]", "4, t, 8]").replace("s, 16]", "s, 32]")


def applied(text: str) -> tuple[ir.Model, Outcome]:
    model = ir.from_proto(onnx.parser.parse_model(text))
    return model, LowerStaticCache().apply(model, make_context())


def saved(text: str, folder: Path) -> Path:
    onnx.save(onnx.parser.parse_model(text), folder / "model.onnx")
    return folder / "model.onnx"


def compiled(path: Path, **options: Any) -> dict[str, Any]:
    with unsupervised():
        report = burnish.optimize(path, kv_cache="static", measure=False, **options).report
    return json.loads(json.dumps(report))


@pytest.mark.parametrize("text", [TEXT, INSIDE, SINGLE, ALL], ids=["apart", "in", "one", "all"])
@pytest.mark.parametrize("past", [0, 5])
def test_unused_positions_count_for_nothing(text: str, past: int, tmp_path: Path) -> None:
    """A text in two parts, in buffers whose rest is filled, as in one run of the input model."""
    path = saved(text, tmp_path)
    report = compiled(path)
    step = next(item for item in report["passes"] if item["name"] == "static-cache")
    assert (step["status"], step["detail"]) == ("kept", "2 caches")
    assert report["fidelity"]["outputs"]["new_k"]["rel_l2"] < 1e-6
    before = onnxruntime.InferenceSession(path)
    after = onnxruntime.InferenceSession(report["output"]["path"])
    assert after.get_modelmeta().custom_metadata_map[LAYOUT[0]] == LAYOUT[1]
    assert after.get_outputs()[1].shape[2] == "s"
    random, groups = np.random.default_rng(0), before.get_inputs()[3].shape[1]
    new, width = 3, before.get_inputs()[1].shape[2]
    feed = {"x": random.standard_normal((2, new, 32))} | {
        name: random.standard_normal((2, new, width)) for name in ("k", "v")
    }
    old = {name: random.standard_normal((2, groups, past, 8)) for name in ("old_k", "old_v")}
    feed, old = ({k: v.astype(np.float32) for k, v in part.items()} for part in (feed, old))
    mask = np.ones((2, past + new), np.int64)
    mask[0, : min(past, 2)] = 0
    expected = before.run(None, {**feed, **old, "padding": mask})
    room = [[0, 0], [0, 0], [0, 4], [0, 0]]
    buffers = {name: np.pad(value, room, constant_values=1e3) for name, value in old.items()}
    wide = np.insert(mask, [past] * 4, 0, axis=1)
    found = after.run(None, {**feed, **buffers, "padding": wide})
    assert relative_l2(expected[0], found[0]) < 1e-6
    for whole, own in zip(expected[1:], found[1:], strict=True):
        np.testing.assert_array_equal(whole[:, :, past:], own)


def test_within_a_compilation_outputs_are_the_callers() -> None:
    model, outcome = applied(TEXT)
    assert [item.new for item in outcome.static] == ["kt", "vt"]
    feeds = {
        "x": np.ones((1, 2, 32), np.float32), "k": np.ones((1, 2, 16), np.float32),
        "v": np.ones((1, 2, 16), np.float32), "padding": np.ones((1, 5), np.int64),
        "old_k": np.ones((1, 2, 3, 8), np.float32), "old_v": np.ones((1, 2, 3, 8), np.float32),
    }  # fmt: skip
    assert run_model(model, [feeds])[0]["new_k"].shape == (1, 2, 5, 8)


def windowed(text: str) -> str:
    return text.replace(
        "mask = And (limit, keys)",
        "least = Sub (rowed, three)  near = GreaterOrEqual (columns, least)"
        "  both = And (limit, near)  mask = And (both, keys)",
    ).replace("int64 step = {1}", "int64 step = {1}, int64 three = {3}")


def without_padding(text: str) -> str:
    return text.replace("mask = And (limit, keys)", "mask = Identity (limit)")


def counted(text: str) -> str:
    """Positions are those from the end of the past on, whatever of it is used."""
    return text.replace(
        "z = Attention (q,", "place = Cast <to = 1> (rowed)  turned = Add (q, place)"
        "  z = Attention (turned,"
    )  # fmt: skip


def read_elsewhere(text: str) -> str:
    more = "mean = ReduceMean <keepdims = 0> (old_v)  y = Add (part, mean)"
    return text.replace("y = Reshape (zt, merged)", f"part = Reshape (zt, merged)  {more}")


def of_one_value(text: str) -> str:
    return text.replace("(old_v, vt)", "(old_v, kt)")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (windowed, "window"),
        (without_padding, "no padding that could hide unused positions"),
        (counted, "positions are counted by the length of the past"),
        (read_elsewhere, "it reads a past as well"),
        (of_one_value, "two ports cannot be one value"),
    ],
)
def test_left_alone(change: Callable[[str], str], reason: str) -> None:
    model, outcome = applied(change(TEXT))
    assert outcome.rewrites == 0
    assert any(reason in item.reason for item in outcome.refusals), outcome.refusals
    assert not any(node.op_type == "Softmax" for node in model.graph)


def test_checks_fill_what_is_unused() -> None:
    _, outcome = applied(TEXT)
    past = {name: np.zeros((1, 2, 3, 8), np.float32) for name in ("old_k", "old_v")}
    made = given({**past, "padding": np.ones((1, 5), np.int64)}, outcome.static)
    assert made["old_k"].shape == (1, 2, 6, 8)
    assert (made["old_k"][:, :, 3:] == FILLING).all()
    assert made["padding"].tolist() == [[1, 1, 1, 0, 0, 0, 1, 1]]
    new = {name: np.ones((1, 2, 2, 8), np.float32) for name in ("new_k", "new_v")}
    assert taken(new, past, outcome.static)["new_v"].sum() == 2 * 2 * 8
