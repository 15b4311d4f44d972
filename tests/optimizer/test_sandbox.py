from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from burnish.optimizer import sandbox
from burnish.optimizer.errors import BurnishError, InvalidModel, ResourceLimit, UnsafeInput
from burnish.optimizer.sandbox import Limits, Worker, call

LIMITS = Limits(memory=1 << 30, wall=60)


@pytest.fixture(autouse=True)
def targets_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def run(target: str, limits: Limits = LIMITS, **argument: Any) -> dict[str, Any]:
    return call(f"sandbox_targets:{target}", argument, limits)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


def test_result_comes_back_from_another_process() -> None:
    argument = {"text": "\x1b[0m \udcff \u4e2d", "numbers": [1, 2.5, None], "nested": {"a": True}}
    result = run("echo", **argument)
    assert result["got"] == argument
    assert result["pid"] != os.getpid()


def test_events_come_in_order_before_the_result() -> None:
    seen: list[dict[str, Any]] = []
    result = call("sandbox_targets:count", {"to": 5}, LIMITS, seen.append)
    assert seen == [{"number": number} for number in range(5)]
    assert result == {"sum": 10}


def test_orders_are_answered_one_by_one() -> None:
    with Worker("sandbox_targets:answer", {}, LIMITS) as worker:
        assert worker.ask({"order": 1}) == {"echo": '{"order": 1}'}
        assert worker.ask({"order": 2}) == {"echo": '{"order": 2}'}


def test_order_to_a_child_that_died_raises() -> None:
    with (
        Worker("sandbox_targets:crash", {"signal": "SIGSEGV"}, LIMITS) as worker,
        pytest.raises(InvalidModel, match="SIGSEGV"),
    ):
        worker.ask({"order": 1})


def test_printed_text_is_no_answer() -> None:
    assert run("chatter") == {"forged": False}


def test_half_an_answer_is_none() -> None:
    with pytest.raises(InvalidModel, match="exit code 3"):
        run("tear")


def test_error_keeps_kind_and_text() -> None:
    with pytest.raises(UnsafeInput) as caught:
        run("refuse")
    line = caught.value.line("m.onnx")
    assert line == "error: m.onnx: it reaches outside (tensor w); try another"
    assert caught.value.exit_code == 4


def test_unexpected_exception_is_an_internal_error_with_its_trace() -> None:
    with pytest.raises(BurnishError, match="internal error: KeyError: 'key'") as caught:
        run("fail")
    assert "--debug" in caught.value.hint
    assert any("Traceback" in note for note in caught.value.__notes__)


def test_unknown_target_is_an_internal_error() -> None:
    with pytest.raises(BurnishError, match="internal error: AttributeError"):
        run("nothing_of_that_name")


def test_endless_recursion_is_an_invalid_model() -> None:
    with pytest.raises(InvalidModel, match="nested too deeply"):
        run("recurse")


@pytest.mark.parametrize("code", [0, 3])
def test_exit_without_an_answer_is_an_error(code: int) -> None:
    with pytest.raises(InvalidModel, match=f"exit code {code}"):
        run("leave", code=code)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGFPE"])
def test_crash_is_an_invalid_model(name: str) -> None:
    with pytest.raises(
        InvalidModel, match=f"native code died while working on it: {name}"
    ) as error:
        run("crash", signal=name)
    assert error.value.place == "last words"


def test_killed_from_outside_counts_as_memory() -> None:
    with pytest.raises(ResourceLimit, match="memory"):
        run("crash", signal="SIGKILL")


def test_single_large_allocation_is_refused() -> None:
    with pytest.raises(ResourceLimit, match="memory limit"):
        run("allocate", Limits(memory=300 << 20, wall=60), bytes=1 << 40)


def test_allocation_within_the_limit_is_granted() -> None:
    assert run("allocate", bytes=1 << 20) == {"size": 1 << 20}


def test_memory_counts_over_the_tree_of_processes() -> None:
    limits = Limits(memory=200_000_000, wall=60)
    argument = {"children": 4, "each": 80_000_000}
    with Worker("sandbox_targets:grow", argument, limits) as worker:
        with pytest.raises(ResourceLimit, match=r"limit of 0\.2 GB"):
            worker.result()
        assert worker.peak_memory > limits.memory


def test_files_in_the_current_folder_are_no_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "re", "onnx", "ctypes", "burnish"):
        (tmp_path / f"{name}.py").write_text(f"open('{name}.executed', 'w')\nraise ImportError\n")
    monkeypatch.chdir(tmp_path)
    assert run("allocate", bytes=1 << 20) == {"size": 1 << 20}
    assert not list(tmp_path.glob("*.executed"))


def test_wall_limit_ends_a_sleeper() -> None:
    with pytest.raises(ResourceLimit, match="not finished after 1 s") as caught:
        run("sleep", Limits(memory=1 << 30, wall=1))
    assert "--time-limit" in caught.value.hint


def test_processor_limit_ends_a_spinner() -> None:
    with pytest.raises(ResourceLimit, match="processor time"):
        run("spin", Limits(memory=1 << 30, wall=60, processor=1))


def test_leaving_the_context_ends_the_child() -> None:
    with Worker("sandbox_targets:sleep", {}, LIMITS) as worker:
        pid = next(worker.events())["event"]["pid"]
        assert pid == worker.pid
        assert alive(pid)
    assert gone(pid)


def test_limit_ends_children_of_the_child() -> None:
    seen: list[dict[str, Any]] = []
    with pytest.raises(ResourceLimit):
        call("sandbox_targets:nested", {}, Limits(memory=1 << 30, wall=5), seen.append)
    assert gone(seen[0]["pid"])


def test_child_dies_with_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = (
        "from burnish.optimizer.sandbox import Limits, Worker\n"
        "worker = Worker('sandbox_targets:sleep', {}, Limits(1 << 30, 600))\n"
        "print(next(worker.events())['event']['pid'], flush=True)\n"
        "import time; time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    assert gone(pid)


@pytest.mark.parametrize("wait", [False, True])
def test_temporary_files_go_with_the_child(wait: bool) -> None:
    with Worker("sandbox_targets:litter", {"wait": wait}, LIMITS) as worker:
        folder = Path(next(worker.events())["event"]["folder"])
    assert not folder.exists()
    assert not folder.parent.exists()


def test_default_memory_is_within_the_machine() -> None:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < sandbox.default_memory() < pages
