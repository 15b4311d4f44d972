"""One worker process: what it gives, how it fails, and that it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime
import pytest

from burnish.optimizer.errors import (
    BurnishError,
    DeadlineExceeded,
    UnsupportedModel,
    UsageError,
    WorkerFailed,
)
from burnish.runtimes.workers.memory import Region, end, get, put
from burnish.runtimes.workers.process import Process
from burnish.runtimes.workers.sessions import TARGET

TAGGER = Path(__file__).parents[3] / "examples" / "tagger" / "model.onnx"
ORDER = {"model": "m", "outputs": None}
ECHO = "test_processes:Echo"


class Echo:
    """Gives back what it is given; an order may be to wait, or to fail."""

    def __init__(self, argument: dict[str, Any], shared: Mapping[str, Region]) -> None:
        self.facts = {"told": argument["told"], "shared": bytes(shared["s"].view(4)[:4]).decode()}

    def answer(
        self, order: dict[str, Any], arrays: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Mapping[str, Any]]:
        time.sleep(order.get("sleep", 0.0))
        if order.get("fail") == "ours":
            raise UsageError("no", hint="yes")
        if order.get("fail") == "bug":
            raise KeyError("nobody knows")
        if order.get("fail") == "death":
            print("last words", flush=True)
            os._exit(9)
        return {"order": order}, arrays


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    roots = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(roots))
    region = Region()
    region.view(4)[:4] = b"hello"[:4]
    with Process(ECHO, {"told": [1, "x"]}, shared={"s": region}, name="echo") as process:
        assert process.ready() == {"told": [1, "x"], "shared": "hell"}
        yield process
    region.close()


def model(path: Path = TAGGER) -> dict[str, Any]:
    return {"models": {"m": {"path": str(path), "provider": "cpu", "threads": 1}}}


def feed(rows: int = 2, length: int = 32) -> dict[str, Any]:
    ids = np.arange(rows * length).reshape(rows, length)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def test_arrays_of_every_type_cross(echo: Process) -> None:
    """Also empty ones, scalars, texts, and more than there was room for before."""
    random = np.random.default_rng(0)
    big = random.standard_normal((3, 1 << 16)).astype(np.float32)
    given = {
        "f": big, "t": big.T, "h": big[:1, :5].astype(np.float16), "n": np.zeros((0, 4), np.int64),
        "s": np.array(3.5), "b": np.array([True, False]), "i": np.arange(5, dtype=np.int8),
        "x": np.array([["a", "\u00e4\n"]], object), "bf": np.ones(3, ml_dtypes.bfloat16),
    }  # fmt: skip
    for scale in (1, 2, 1):
        given["f"] = np.tile(big, (scale, scale))
        facts, found = echo.ask({"k": scale}, given)
        assert facts == {"order": {"k": scale}}
        assert list(found) == list(given)
        for name, array in given.items():
            assert found[name].dtype == array.dtype
            np.testing.assert_array_equal(found[name], array)


def test_regions_hold_arrays_where_they_begin_aligned() -> None:
    region = Region()
    entries = put({"a": np.ones(3, np.int8), "b": np.ones(3)}, region)
    entries += put({"c": np.arange(1 << 17)}, region, end(entries))
    assert [entry.start % 64 for entry in entries] == [0, 0, 0]
    found = get(entries, {region.number: region})
    region.close()
    assert found["c"].sum() == (1 << 17) * ((1 << 17) - 1) // 2 and found["a"].tolist() == [1] * 3


def test_a_region_cannot_be_made_shorter() -> None:
    region = Region()
    region.view(1)
    with pytest.raises(PermissionError):
        os.ftruncate(region.descriptor, 0)
    region.close()
    region.close()


def test_a_model_gives_what_a_session_gives() -> None:
    expected = onnxruntime.InferenceSession(TAGGER).run(None, feed())[0]
    with Process(TARGET, model()) as process:
        facts = process.ready()["m"]
        assert [port["name"] for port in facts["inputs"]] == ["input_ids", "attention_mask"]
        assert facts["outputs"][0]["shape"] == ["batch", "sequence", 7]
        np.testing.assert_allclose(process.ask(ORDER, feed())[1]["logits"], expected, atol=1e-6)
        with pytest.raises(UnsupportedModel, match="Unexpected input data type"):
            process.ask(ORDER, {**feed(), "input_ids": np.ones((2, 32), np.float32)})
        assert process.ask(ORDER, feed(1, 5))[1]["logits"].shape == (1, 5, 7)


def test_a_model_that_does_not_open(tmp_path: Path) -> None:
    with Process(TARGET, model(tmp_path / "none.onnx")) as process:
        with pytest.raises(UnsupportedModel, match="does not accept it"):
            process.ready()
        assert not Path(f"/proc/{process.pid}").exists()


def test_errors_cross_as_what_they_are(echo: Process) -> None:
    with pytest.raises(UsageError, match="no") as stop:
        echo.ask({"fail": "ours"}, {})
    assert stop.value.hint == "yes"
    with pytest.raises(BurnishError, match="internal error: KeyError"):
        echo.ask({"fail": "bug"}, {})
    assert echo.ask({}, {}) == ({"order": {}}, {})


def test_death_is_told_with_last_words(echo: Process) -> None:
    with pytest.raises(WorkerFailed, match="echo died: exit code 9") as stop:
        echo.ask({"fail": "death"}, {})
    assert stop.value.place == "last words"
    with pytest.raises(WorkerFailed):
        echo.ask({}, {})


def test_a_killed_one_is_told(echo: Process) -> None:
    os.kill(echo.pid, signal.SIGKILL)
    with pytest.raises(WorkerFailed, match="SIGKILL"):
        echo.ask({}, {})


def test_a_stopped_one_hangs(echo: Process) -> None:
    os.kill(echo.pid, signal.SIGSTOP)
    with pytest.raises(WorkerFailed, match="echo hangs"):
        echo.ask({}, {})
    assert not Path(f"/proc/{echo.pid}").exists()


def test_a_deadline_is_kept(echo: Process) -> None:
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.3 s"):
        echo.ask({"sleep": 60.0}, {}, deadline=0.3)
    assert time.monotonic() - start < 30
    assert not Path(f"/proc/{echo.pid}").exists()


PARENT = """
    import os, signal, sys, time
    sys.path.insert(0, {here!r})
    from test_processes import TARGET, model
    from burnish.runtimes.workers.process import Process
    process = Process(TARGET, model())
    process.ready()
    os.kill(process.pid, signal.{signal})
    print(process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("name", ["SIGCONT", "SIGSTOP"])
def test_a_child_ends_with_its_parent(name: str) -> None:
    """Whether it waits for orders or is stopped."""
    code = textwrap.dedent(PARENT.format(here=str(Path(__file__).parent), signal=name))
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    gone = time.monotonic() + 60
    while Path(f"/proc/{child}").exists():
        status = Path(f"/proc/{child}/status").read_text()
        if "State:\tZ" in status:  # nobody here reaps what has lost its parent
            break
        assert time.monotonic() < gone
        time.sleep(0.02)
