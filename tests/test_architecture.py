"""The shape of the code: rooms, sizes, and what every pass must come with."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from burnish.optimizer.contract import Pass, Phase
from burnish.passes import REGISTRY

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "burnish").rglob("*.py"))
HEADINGS = ("Before:", "After:", "Refuses when:", "Numerics:")

LONGEST_FILE = 300
LONGEST_FUNCTION = 50

LONG_FUNCTIONS = {
    "cli.py:main_job": "its parameters are the options of the command, a few lines each",
    "commands/run.py:run": "likewise",
}


def test_rooms() -> None:
    """The contracts of import-linter in pyproject.toml."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", REGISTRY, ids=lambda kind: kind.name)
def test_every_pass_is_documented(kind: type[Pass]) -> None:
    text = kind.__doc__ or ""
    places = [text.find(f"    {heading}\n") for heading in HEADINGS]
    assert min(places) > 0
    assert places == sorted(places)
    for first, second in zip(places, [*places[1:], len(text)], strict=True):
        assert len(text[first:second].split("\n", 1)[1].strip()) > 5


@pytest.mark.parametrize("kind", REGISTRY, ids=lambda kind: kind.name)
def test_every_pass_is_a_frozen_dataclass_with_golden_files(kind: type[Pass]) -> None:
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert {item.name for item in fields(kind)} == set(kind().options())
    folder = ROOT / "tests" / "passes" / kind.name
    for before in (cases := list(folder.glob("*.before.onnxtxt"))):
        assert before.with_name(before.name.replace(".before.", ".after.")).exists()
    assert cases


def test_registry_is_in_the_order_of_phases_and_names_are_unique() -> None:
    order = [list(Phase).index(kind.phase) for kind in REGISTRY]
    assert order == sorted(order)
    assert len({kind.name for kind in REGISTRY}) == len(REGISTRY)


def _place_of_name(name: str) -> tuple[bool, bool, str]:
    """Classes first, then what is not for everybody, as the linter has it."""
    return not name[0].isupper(), name[0] != "_", name


@pytest.mark.parametrize("name", ["burnish", "burnish.driver"])
def test_public_names_resolve(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__all__ == sorted(module.__all__, key=_place_of_name)
    for item in module.__all__:
        assert getattr(module, item) is not None


def _name(path: Path) -> str:
    return path.relative_to(ROOT / "burnish").as_posix()


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_files_are_short(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LONGEST_FILE


def _functions() -> Iterator[tuple[str, int]]:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield f"{_name(path)}:{node.name}", node.end_lineno - node.lineno + 1


def test_functions_are_short() -> None:
    long = {name for name, lines in _functions() if lines > LONGEST_FUNCTION}
    assert long == set(LONG_FUNCTIONS)


def test_modules_say_what_they_are() -> None:
    assert not [_name(path) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))]
