"""Settings: the model's own, with arguments winning; what is not done is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish.optimizer.errors import InvalidModel, UsageError
from burnish.runtimes.generate.settings import DEFAULT_NEW_TOKENS, Settings, context_of, read


def written(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_arguments_win_over_the_models_own(tmp_path: Path) -> None:
    own = {"eos_token_id": [2, 5], "num_beams": 4, "early_stopping": True, "max_length": 128}
    settings, notes = read(written(tmp_path, generation_config=own))
    assert settings.eos_token_id == (2, 5) and settings.early_stopping == "true" and not notes
    changed = settings.override(num_beams=2, eos_token_id=7, length_penalty=None)
    assert (changed.num_beams, changed.eos_token_id, changed.length_penalty) == (2, (7,), 1.0)
    assert settings.length_after(100) == 128
    assert settings.length_after(200) == 200 + DEFAULT_NEW_TOKENS
    assert settings.override(max_new_tokens=3).length_after(200) == 203


def test_older_checkpoints_have_their_settings_in_their_configuration(tmp_path: Path) -> None:
    config = {"eos_token_id": 3, "forced_bos_token_id": 1, "temperature": 0.5}
    settings, _ = read(written(tmp_path, config=config))
    assert (settings.pad, settings.forced_bos_token_id, settings.temperature) == (3, 1, 0.5)
    settings, _ = read(written(tmp_path, generation_config={"pad_token_id": 0}))
    assert settings == Settings(pad_token_id=0)


def test_what_is_not_done_is_said(tmp_path: Path) -> None:
    own = {"typical_p": 0.5, "guidance_scale": 1.0, "penalty_alpha": None, "top_h": 0.3}
    _, notes = read(written(tmp_path, generation_config=own))
    assert notes == [
        "generation_config.json asks for typical_p, which is not done",
        "generation_config.json asks for top_h, which is not done",
    ]
    settings, notes = read(written(tmp_path, generation_config={"do_sample": True, "num_beams": 2}))
    assert not settings.do_sample and "beams that are drawn" in notes[0]


@pytest.mark.parametrize(
    ("options", "drawn"),
    [({"top_p": 0.9}, True), ({"temperature": 0}, False), ({"num_beams": 3}, False), ({}, True)],
)
def test_what_asks_for_drawn_tokens(options: dict[str, Any], drawn: bool) -> None:
    own = Settings(do_sample=not (options.get("top_p")))
    assert own.override(**options).do_sample is drawn


def test_drawn_tokens_are_asked_for_in_place_of_beams() -> None:
    assert Settings(num_beams=4).override(temperature=0.5).num_beams == 1
    assert Settings(num_beams=4).override(temperature=0).num_beams == 4


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"top_p": 0.0}, "top_p 0.0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"num_beams": 2, "temperature": 0.5}, "beams are not drawn"),
        ({"num_beams": 2, "speculate": 3}, "beams are not guessed ahead"),
        ({"early_stopping": "sometimes"}, "early_stopping is sometimes"),
        ({"warmth": 1}, "warmth is no setting"),
        ({"top_k": "many"}, "top_k='many' is no setting"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Settings().override(**options)


def test_files_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="eos_token_id='two'"):
        read(written(tmp_path, generation_config={"eos_token_id": "two"}))
    with pytest.raises(InvalidModel, match="holds no JSON object"):
        read(written(tmp_path, generation_config=[1]))


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"n_positions": 1024}, 1024),
        ({"n_positions": 512, "relative_attention_num_buckets": 32}, 0),
        ({"text_config": {"max_position_embeddings": 77}}, 77),
        ({}, 0),
    ],
)
def test_positions_that_a_model_has(tmp_path: Path, config: dict[str, Any], size: int) -> None:
    assert context_of(written(tmp_path, config=config)) == size
