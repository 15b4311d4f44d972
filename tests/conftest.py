"""Fixtures that all tests share, and the option `--update-golden`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir
import pytest
from harness import make_context, make_executor
from samples import encoder

from burnish.optimizer.contract import Context
from burnish.optimizer.executor import Executor


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the .after.onnxtxt files anew instead of comparing with them",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tests that run side by side take one thread each: more would wait for each other."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's tuning record."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture
def context() -> Context:
    return make_context()


@pytest.fixture
def executor(tmp_path: Path) -> Executor:
    """Runs models in this process, which is faster and enough for models that do no harm."""
    return make_executor(tmp_path / "scratch")


@pytest.fixture
def sandboxed(tmp_path: Path) -> Executor:
    """Runs models in a child with limits, as a compilation does."""
    return make_executor(tmp_path / "scratch", child=True)


@pytest.fixture
def bert() -> ir.Model:
    """Two encoder layers with everything that a BERT has; see `samples.encoder`."""
    return ir.from_proto(encoder())
