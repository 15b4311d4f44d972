"""Models whose layers have different numbers of heads, through the options that come behind."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from generating import artifact, built, prompts
from harness import make_context, unsupervised
from samples import encoder
from test_cli import step
from test_plan import cluster

import burnish
from burnish import driver
from burnish.driver import Request
from burnish.optimizer import pipeline
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.channels.sites import HEADS, Site, find_sites
from burnish.optimizer.contract import Phase
from burnish.optimizer.saving import save
from burnish.passes import REGISTRY
from burnish.passes.compress.pruning.cutting import cut
from burnish.passes.compress.pruning.levels import widths

NEW = 5
ROWS = prompts((5, 9, 7))
LOSSY = {"int8", "static-int8", "weight-only", "half-precision", "kv-cache"}


def cut_unevenly(path: Path, *, whole_branches: bool) -> None:
    """Fewer heads in the first layer only, other channels in each, in place of the model."""
    model = ir.from_proto(onnx.load(path))
    passes = [kind() for kind in REGISTRY if kind.phase is Phase.RECOVER and not kind.asked]
    passes = [item for item in passes if item.name != "onnxsim"]
    sizes = {"batch": 2, "sequence": 16}
    context = make_context(sizes=sizes, shapes=shapes.infer(model, sizes))
    recovered = pipeline.run(model, passes, context, None).model
    shapes.annotate(recovered)
    sites = find_sites(recovered)[0]
    choice = {site.key: _some(site, place < 2, whole_branches) for place, site in enumerate(sites)}
    assert len({len(kept) for kept in choice.values()}) > 2
    save(cut(recovered, choice), path, external=False)


def _some(site: Site, first: bool, whole_branches: bool) -> tuple[int, ...]:
    """Half in the first layer; in others nothing or all heads, and more channels."""
    found = widths(site)
    width = found[len(found) // 2]
    if not first:
        width = site.units if site.kind == HEADS else found[1]
        width = 0 if whole_branches else width
    if not site.keys_stay:
        return tuple(range(site.units - width, site.units))
    members = np.arange(site.units).reshape(site.groups, site.shared)
    return tuple(members[:, : width // site.groups].reshape(-1).tolist())


def greedy(path: Path, row: Sequence[int]) -> list[int]:
    """What a decoder writes after a row, all of it run anew for each token."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ids = list(row)
    for _ in range(NEW):
        feed: dict[str, Any] = {
            "input_ids": np.array([ids]),
            "attention_mask": np.ones((1, len(ids)), np.int64),
            "logits_to_keep": np.array([len(ids) - 1]),
        }
        for port in session.get_inputs():
            if port.name not in feed:
                empty = [1, port.shape[1], 0, port.shape[3]]
                feed[port.name] = np.zeros(empty, np.float32)
        ids.append(int(session.run(None, feed)[0][0, -1].argmax()))
    return ids[len(row) :]


@pytest.fixture(scope="module", params=[False, True], ids=["narrow", "whole branches"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name = "whole" if request.param else "narrow"
    folder = artifact("llama", tmp_path_factory.mktemp(name), built("llama", 3))
    cut_unevenly(folder / "model.onnx", whole_branches=request.param)
    (folder / "texts.txt").write_text("the model reads the text\nand the text goes on\n" * 40)
    return folder


@pytest.fixture(scope="module")
def expected(decoder: Path) -> list[list[int]]:
    found = [greedy(decoder / "model.onnx", row) for row in ROWS]
    assert len({token for row in found for token in row}) > 3
    return found


def generated(folder: Path) -> list[list[int]]:
    with burnish.load(folder, task="text-generation", threads=1) as model:
        return [list(row) for row in model.generate(ids=ROWS, max_new_tokens=NEW).ids]


def optimized(folder: Path, target: Path, **options: Any) -> dict[str, Any]:
    shutil.copytree(folder, target)
    with unsupervised():
        report: dict[str, Any] = burnish.optimize(
            folder / "model.onnx", output=str(target / "model.onnx"), measure=False, force=True,
            max_drop=1.0, **options,
        ).report  # fmt: skip
    assert not [item["name"] for item in report["passes"] if item["status"] == "rejected"]
    return report


@pytest.mark.parametrize(
    ("options", "name"),
    [({}, "attention-form"), ({"kv_cache": "static"}, "static-cache"), ({"int8": True}, "int8"),
     ({"int8": True, "static": True}, "int8"), ({"int4": True}, "weight-only"),
     ({"fp16": True}, "half-precision"), ({"kv_cache": "int8"}, "kv-cache")],
    ids=["plain", "static-cache", "int8", "static", "int4", "fp16", "kv-int8"],
)  # fmt: skip
def test_a_decoder_generates(
    options: dict[str, Any], name: str, decoder: Path, expected: list[list[int]], tmp_path: Path
) -> None:
    """What does not lose writes the same tokens; what does, those of its own graph."""
    target = tmp_path / "artifact"
    data = {"data": str(decoder / "texts.txt"), "tokenizer": str(decoder / "tokenizer.json")}
    report = optimized(decoder, target, **options, **(data if options else {}))
    unread = name == "static-cache" and decoder.name.startswith("whole")
    if unread:  # the branch went, its cache's ports stay
        reasons = {item["reason"] for item in step(report, name)["refusals"]}
        assert reasons == {"it is as long as the past, and no cache"}
    elif options:
        assert step(report, name)["status"] == "kept"
    found = generated(target)
    if name not in LOSSY:
        assert found == expected
    elif options.get("static") or name == "weight-only":
        # Ranges of the others depend on what runs together, or their ports are no float32.
        assert found == [greedy(target / "model.onnx", row) for row in ROWS]
    assert all(len(row) == NEW for row in found)


def test_a_decoder_over_stages_and_ranks(
    decoder: Path, expected: list[list[int]], tmp_path: Path
) -> None:
    with unsupervised():
        request = Request(str(decoder / "model.onnx"))
        stages = driver.plan_stages(request, cluster(tmp_path), str(tmp_path / "stages"))
        ranks = driver.plan_stages(request, None, str(tmp_path / "ranks"), shards=2)
    assert stages["error"] <= 1e-5 and ranks["error"] <= 1e-5
    assert generated(tmp_path / "stages") == expected


@pytest.mark.parametrize("whole_branches", [False, True])
@pytest.mark.parametrize(
    ("options", "name"),
    [({"pack": True}, "pack"), ({"window": 6}, "window"), ({"int8": True}, "int8")],
    ids=["pack", "window", "int8"],
)
def test_an_encoder(
    options: dict[str, Any], name: str, whole_branches: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    onnx.save(encoder(layers=3, width=128, heads=4, vocabulary=512), folder / "model.onnx")
    cut_unevenly(folder / "model.onnx", whole_branches=whole_branches)
    report = optimized(folder, tmp_path / "artifact", **options)
    assert step(report, name)["status"] == "kept"
    if name == "pack":
        assert report["fidelity"]["drop"] < 1e-5
