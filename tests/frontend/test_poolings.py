"""What a model of sentence-transformers says of its vectors, in the manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish.optimizer.frontend import companions
from burnish.optimizer.frontend.checkpoint import Checkpoint

KINDS = "sentence_transformers.models."


def told(path: Path, steps: list[str], **modes: bool) -> tuple[dict[str, Any], list[str]]:
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(
        json.dumps({f"pooling_mode_{name}": value for name, value in modes.items()})
    )
    modules = [{"type": KINDS + step, "path": f"1_{step}"} for step in steps]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    folder, warn = path / "out", list[str]()
    folder.mkdir()
    facts = companions.copied(Checkpoint(path, {}, (), False, False), folder, warn)
    assert (folder / "sentence_bert_config.json").exists()
    return facts["pooling"], warn


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("mean_tokens", "mean"), ("cls_token", "cls"), ("max_tokens", "max"), ("lasttoken", "last")],
)
def test_known_poolings(tmp_path: Path, mode: str, expected: str) -> None:
    modes = {"mean_tokens": False, "mean_sqrt_len_tokens": False} | {mode: True}
    pooling, warn = told(tmp_path, ["Transformer", "Pooling", "Normalize"], **modes)
    assert pooling == {"mode": expected, "normalize": True}
    assert not warn


@pytest.mark.parametrize(
    ("steps", "modes"),
    [
        (["Transformer", "Pooling", "Dense"], {"mean_tokens": True}),
        (["Transformer", "Pooling"], {"mean_tokens": True, "cls_token": True}),
        (["Transformer", "Pooling"], {"weightedmean_tokens": True}),
    ],
)
def test_others_are_said_and_not_taken_for_a_mean(
    tmp_path: Path, steps: list[str], modes: dict[str, bool]
) -> None:
    pooling, (warning,) = told(tmp_path, steps, **modes)
    assert pooling["mode"] not in companions.POOLINGS.values()
    assert pooling["mode"] in warning
