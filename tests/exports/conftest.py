"""Exports that all tests of the folder share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from architectures import Case, export

Exports = Callable[[Case], Path]


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """The file of a case, exported where it has not been before."""
    folder = tmp_path_factory.mktemp("exports")

    def exported(case: Case) -> Path:
        path = folder / str(case) / "model.onnx"
        if not path.exists():
            path.parent.mkdir()
            export(case, path)
        return path

    return exported
