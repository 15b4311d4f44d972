"""The Python interface: typed, documented, logged, and told of as it goes."""

from __future__ import annotations

import inspect
import logging
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from harness import unsupervised
from test_cli import small

import burnish
from burnish.driver import Request
from burnish.driver.narration import narrated, record


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return small(tmp_path / "model.onnx", 17, 64)


@pytest.mark.parametrize("name", burnish.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    item = getattr(burnish, name)
    if name == "__version__":
        assert item.count(".") == 2
        return
    if typing.get_origin(item) is not None:  # a type of functions
        return
    text = inspect.getdoc(item) or ""
    assert len(text.splitlines()[0]) > 10
    if inspect.isfunction(item):
        hints = typing.get_type_hints(item)
        parameters = inspect.signature(item).parameters
        assert set(parameters) | {"return"} <= set(hints) | {"options"}
        assert "Args:" in text
        for parameter in parameters:
            assert f"{parameter}:" in text or f"{parameter} " in text, parameter
    if inspect.isclass(item):
        members = [m for m in vars(item).values() if inspect.isfunction(m)]
        assert all(inspect.getdoc(m) for m in members if not m.__name__.startswith("_"))


def test_options_are_those_of_a_request() -> None:
    """But for what the driver itself fills in, and the report's own file."""
    ours = set(burnish.Options.__annotations__)
    theirs = {field.name for field in fields(Request)} - {
        "model", "vocabulary", "json", "html", "turn",
    }  # fmt: skip
    assert ours == theirs


def test_an_option_that_there_is_not(model: Path) -> None:
    with pytest.raises(burnish.BurnishError) as stop:
        burnish.optimize(model, in8=True)  # type: ignore[call-arg]
    assert (stop.value.exit_code, stop.value.hint) == (2, "int8")


def test_progress_and_the_log(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    told: list[dict[str, Any]] = []
    with unsupervised(), caplog.at_level(logging.DEBUG, "burnish"):
        result = burnish.optimize(model, progress=told.append, int8=True, measure=False)
    assert result.path is not None and result.path.exists()
    stages = [event["stage"] for event in told]
    assert "checking the input" in stages


def test_what_is_raised_by_progress_ends_the_work(model: Path) -> None:
    def stop(event: dict[str, Any]) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        burnish.optimize(model, progress=stop, measure=False)
    assert [file.name for file in model.parent.iterdir()] == ["model.onnx"]


def test_the_log_has_stages_passes_and_warnings(caplog: pytest.LogCaptureFixture) -> None:
    refusal = {"node": "n1", "reason": "it is too small"}
    step = {"name": "int8", "status": "kept", "rewrites": 2, "reason": "", "refusals": [refusal]}
    seen: list[dict[str, Any]] = []
    with caplog.at_level(logging.DEBUG, "burnish"):
        narrated(seen.append)({"stage": "checking the input"})
        narrated(None)({"row": 0, "text": "Once"})
        record({"passes": [step], "warnings": ["the data is small"]})
        record({"passes": ["int8"]})
    assert seen == [{"stage": "checking the input"}]
    lines = [(item.levelname, item.getMessage()) for item in caplog.records]
    assert lines == [
        ("INFO", "checking the input"),
        ("INFO", "int8 kept, 2 places"),
        ("DEBUG", "int8 left n1: it is too small"),
        ("WARNING", "the data is small"),
    ]
    assert {item.name for item in caplog.records} == {"burnish"}


def test_the_library_is_silent_by_itself() -> None:
    logger = logging.getLogger("burnish")
    assert any(isinstance(handler, logging.NullHandler) for handler in logger.handlers)
    assert logger.level == logging.NOTSET
