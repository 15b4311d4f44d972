"""How a zoo gets on: bars on a terminal, lines elsewhere, nothing if quiet."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from burnish.commands import zoo_progress
from burnish.commands.zoo_progress import shown

ROW = {"name": "[b]a.onnx\x1b[2J", "status": "converted", "reason": ""}
FAILED = {"name": "b.onnx", "status": "failed", "reason": "it is cut off"}

EVENTS: list[dict[str, Any]] = [
    {"event": "waiting", "holder": "12"},
    {"event": "looking", "count": 1, "total": 3},
    {"event": "begun", "total": 3, "known": 1, "cost": {0: 1.0, 2: 3.0}},
    {"event": "finished", "index": 1, "row": {**ROW, "name": "known.onnx"}},
    {"event": "started", "index": 0, "name": ROW["name"]},
    {"event": "stage", "index": 0, "stage": "attention-form"},
    {"event": "finished", "index": 0, "row": ROW},
    {"event": "finished", "index": 2, "row": FAILED},
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, quiet: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120, color_system=None)
    monkeypatch.setattr(zoo_progress, "errors", console)
    monkeypatch.setattr(zoo_progress.sys, "stderr", Terminal() if terminal else io.StringIO())
    with shown(quiet) as tell:
        for event in EVENTS:
            tell(event)
            if terminal and hasattr(tell, "__self__"):
                tell.__self__._bars.refresh()
    return file.getvalue()


def test_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, terminal=False).splitlines() == [
        "waiting for another run on this folder (process 12)",
        "3 models, 1 of them known",
        "2 of 3: [b]a.onnx\\x1b[2J converted (about 1 min left)",
        "3 of 3: b.onnx failed: it is cut off",
    ]


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch, terminal=True)
    assert "[b]a.onnx\\x1b[2J" in text
    assert "attention-form" in text
    assert "zoo" in text and "0 of 3" in text and "2 of 3" in text
    assert "-:--:--" in text or "0:00" in text


def test_nothing_if_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, terminal=True, quiet=True) == ""
