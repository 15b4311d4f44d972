"""A zoo against an earlier one: what is worse, what is not, what is no report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from burnish.driver.zoo.since import compared, earlier
from burnish.optimizer.errors import BurnishError, StorageError, UsageError


def row(name: str = "a", **changed: Any) -> dict[str, Any]:
    usual = {
        "name": name, "status": "converted", "reason": "", "size_ratio": 0.25, "speedup": 2.0,
        "ci95": [1.9, 2.1], "drop": 0.002,
    }  # fmt: skip
    return usual | changed


FAILED = {"status": "failed", "size_ratio": None, "speedup": None, "ci95": None, "drop": None}


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({}, []),
        ({"size_ratio": 0.2524}, []),
        ({"size_ratio": 0.26}, ["size"]),
        ({"size_ratio": 0.2}, []),
        ({"speedup": 1.85, "ci95": [1.7, 1.95]}, []),
        ({"speedup": 1.6, "ci95": [1.5, 1.7]}, ["speed"]),
        ({"speedup": 1.7, "ci95": [1.2, 2.2]}, []),
        ({"speedup": 3.0, "ci95": [2.9, 3.1]}, []),
        ({"speedup": None, "ci95": None}, []),
        ({"drop": 0.0025}, []),
        ({"drop": 0.0101}, ["fidelity"]),
        ({"drop": 0.0}, []),
        ({"status": "missed"}, ["status"]),
        (FAILED, ["status"]),
        ({"size_ratio": 0.5, "speedup": 1.0, "ci95": [0.9, 1.1], "drop": 0.5},
         ["size", "speed", "fidelity"]),
    ],
)  # fmt: skip
def test_what_is_worse(changed: dict[str, Any], what: list[str]) -> None:
    found = compared({"a": row()}, [row(**changed)])
    assert [item["what"] for item in found["regressions"]] == what


def test_a_failure_that_was_one_is_no_regression() -> None:
    assert not compared({"a": row(**FAILED)}, [row(**FAILED)])["regressions"]
    assert not compared({"a": row(**FAILED)}, [row()])["regressions"]
    assert not compared({"a": row(status="missed")}, [row(status="missed")])["regressions"]


def test_what_cannot_be_compared_is_noted() -> None:
    found = compared({"a": row(), "gone": row("gone")}, [row(speedup=None), row("new")])
    assert not found["regressions"]
    assert found["notes"] == [
        "a was timed, and is not this time", "new is new", "gone is no longer there",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", '{"schema": 1}', '{"schema": 2, "members": []}',
        '{"schema": 1, "members": [{}]}', '{"schema": 1, "members": 5}',
        json.dumps({"schema": 1, "members": [row(speedup="fast")]}),
        json.dumps({"schema": 1, "members": [row(ci95="wide")]}),
        json.dumps({"schema": 1, "members": [row(name=5)]}),
        "[" * 200_000, "\ud800".encode(errors="surrogatepass"),
    ],
)  # fmt: skip
def test_what_is_no_report(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "zoo.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError):
        earlier(path)


def test_a_report_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as raised:
        earlier(tmp_path / "zoo.json")
    assert isinstance(raised.value, BurnishError)
    assert "no such file" in raised.value.message
