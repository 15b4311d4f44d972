"""Workers that die, hang or are late: one right answer or one clear error for each request."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from harness import unsupervised
from serving import TAGGER, descriptors, expected, feeds, gone, pids, until

import burnish
from burnish import driver
from burnish.driver import Request
from burnish.optimizer.errors import (
    BurnishError,
    DeadlineExceeded,
    Overloaded,
    UsageError,
    WorkerFailed,
)
from burnish.runtimes.replicas import Replicas
from burnish.runtimes.workers import dispatcher
from burnish.runtimes.workers.service import Limits, Service
from burnish.runtimes.workers.worker import ProcessWorker


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tagger in two stages."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "cluster.yaml").write_text("devices: [{count: 2, flops: 1G, bandwidth: 1G}]\n")
    with unsupervised():
        driver.plan_stages(
            Request(str(TAGGER)), str(folder / "cluster.yaml"), str(folder / "stages")
        )
    return folder / "stages"


@pytest.fixture(params=["replicas", "pipeline"])
def service(request: pytest.FixtureRequest, stages: Path) -> Iterator[Service]:
    path, count = (TAGGER, 2) if request.param == "replicas" else (stages, 1)
    with burnish.load(path, threads=1, replicas=count, workers="processes") as opened:
        yield opened


def strike(service: Service, place: int, name: str) -> None:
    """Send a signal to a worker that is ready, and wait until that has been noticed."""
    until(lambda: all(row["state"] == "ready" for row in service.told()))
    pid = pids(service)[place]
    os.kill(pid, getattr(signal, name))
    until(lambda: pids(service)[place] != pid)


def test_every_request_is_answered_once_while_workers_are_killed(service: Service) -> None:
    given = feeds(800)
    told: list[int] = []
    futures = [service.submit(feed) for feed in given[:500]]
    for place, future in enumerate(futures):
        future.add_done_callback(lambda _, place=place: told.append(place))
    for place, name in ((0, "SIGKILL"), (1, "SIGKILL"), (0, "SIGSTOP"), (1, "SIGKILL")):
        strike(service, place, name)
    futures += [service.submit(feed) for feed in given[500:]]
    for future, right in zip(futures, expected(given), strict=True):
        np.testing.assert_allclose(future.result(120)[0], right, atol=1e-5)
    assert sorted(told) == list(range(500))
    assert sum(row["restarts"] for row in service.told()) == 4
    assert all(row["healthy"] for row in service.health(deadline=60.0))


def test_nothing_is_left(stages: Path) -> None:
    before, shared = descriptors(), sorted(os.listdir("/dev/shm"))
    service = burnish.load(stages, threads=1, workers="processes")
    strike(service, 0, "SIGKILL")
    service.run(None, feeds(1)[0])
    started = pids(service)
    service.close()
    service.close()
    assert all(map(gone, started))
    assert descriptors() == before
    assert sorted(os.listdir("/dev/shm")) == shared
    with pytest.raises(BurnishError, match="has been closed"):
        service.run(None, feeds(1)[0])


def test_requests_without_an_answer_get_an_error_at_the_end() -> None:
    service = burnish.load(TAGGER, threads=1, replicas=1, workers="processes")
    os.kill(pids(service)[0], signal.SIGSTOP)
    futures = [service.submit(feed) for feed in feeds(5)]
    service.close()
    for future in futures:
        with pytest.raises(BurnishError, match="has been closed"):
            future.result(60)


def test_what_is_asked_while_it_is_closed_gets_an_answer_or_an_error_too() -> None:
    for _ in range(20):
        service = Replicas([Stuck("go"), Stuck("go")])
        futures: list[Any] = []

        def ask(service: Service = service, futures: list[Any] = futures) -> None:
            with contextlib.suppress(BurnishError):
                while True:
                    futures.append(service.submit({"x": np.ones(1)}))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        service.close()
        for thread in threads:
            thread.join()
        assert not wait(futures, 60).not_done


def test_one_that_does_not_start_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: ProcessWorker) -> None:
        raise OSError(errno.EAGAIN, "no more processes")

    with burnish.load(TAGGER, threads=1, workers="processes", restarts=3) as service:
        monkeypatch.setattr(ProcessWorker, "reopen", fail)
        os.kill(pids(service)[0], signal.SIGKILL)
        with pytest.raises(WorkerFailed, match=r"did not start: .*no more processes"):
            service.run(None, feeds(1)[0])
            until(lambda: len(service.workers[0].lost) > 3)
            service.run(None, feeds(1)[0])


def test_one_that_is_lost_too_often_is_given_up() -> None:
    with burnish.load(TAGGER, threads=1, workers="processes", restarts=1) as service:
        strike(service, 0, "SIGKILL")
        until(lambda: service.told()[0]["state"] == "ready")
        os.kill(pids(service)[0], signal.SIGKILL)
        until(lambda: service.told()[0]["state"] == "down")
        with pytest.raises(WorkerFailed, match="replica 1 was lost 2 times within a minute"):
            service.run(None, feeds(1)[0])
        (row,) = service.health()
        assert not row["healthy"] and "was lost 2 times" in row["error"]


class Stuck:
    """A runtime that answers when it is let."""

    def __init__(self, go: str = "") -> None:
        self.go, self.runs = threading.Event(), 0
        if go:
            self.go.set()

    def run(self, names: Any, feed: Mapping[str, Any]) -> list[Any]:
        self.runs += 1
        self.go.wait()
        return [feed["x"]]

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="x", type="tensor(float)", shape=["n"])]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="y", type="tensor(float)", shape=["n"])]

    def fallen(self) -> None:
        return None

    def close(self) -> None:
        self.go.set()


def test_a_deadline_ends_the_wait_and_a_late_answer_counts_for_nothing() -> None:
    stuck = Stuck()
    with Replicas([stuck]) as service:
        late, waiting = service.submit({"x": np.ones(1)}, deadline=0.2), []
        waiting = [service.submit({"x": np.ones(1)}, deadline=0.2) for _ in range(3)]
        for future in (late, *waiting):
            with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.2 s"):
                future.result(60)
        stuck.go.set()
        assert service.run(None, {"x": np.ones(1)}, deadline=60.0)[0].tolist() == [1.0]
    assert stuck.runs <= 3  # what had not begun at its deadline was not begun after it


def test_what_takes_long_is_tried_on_another_worker() -> None:
    stuck, free = Stuck(), Stuck()
    free.go.set()
    with Replicas([stuck, free]) as service:
        found = [service.run(None, {"x": np.ones(1)}, deadline=6.0) for _ in range(2)]
        stuck.go.set()
    assert [item[0].tolist() for item in found] == [[1.0], [1.0]]
    assert stuck.runs == 1 and free.runs == 2


def test_a_worker_that_hangs_at_a_deadline_is_started_anew(service: Service) -> None:
    """Its pulse goes on, so that only the deadline tells."""
    for worker in service.workers:
        worker.process.hangs = lambda: False  # type: ignore[attr-defined]
    before = pids(service)
    for pid in before:
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(DeadlineExceeded):
        service.run(None, feeds(1)[0], deadline=1.0)
    until(lambda: pids(service)[0] != before[0])
    service.workers[-1].process.hangs = lambda: True  # type: ignore[attr-defined]
    (right,) = expected(feeds(1))
    np.testing.assert_allclose(service.run(None, feeds(1)[0], deadline=60.0)[0], right, atol=1e-5)


def test_one_that_is_stuck_at_what_should_be_short_is_started_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatcher, "STUCK", 1.0)
    (feed,), (right,) = feeds(1), expected(feeds(1))
    with burnish.load(TAGGER, threads=1, workers="processes") as service:
        service.run(None, feed)
        worker = service.workers[0]
        worker.paces = dict.fromkeys(worker.paces, 1e-6)
        worker.process.hangs = lambda: False
        os.kill(pids(service)[0], signal.SIGSTOP)
        np.testing.assert_allclose(service.run(None, feed)[0], right, atol=1e-5)
        assert service.told()[0]["lost"] == "replica 1 gave no answer"


def test_more_than_there_is_room_for_is_refused_at_once() -> None:
    stuck = Stuck()
    with Replicas([stuck], Limits(capacity=10)) as service:
        futures, refused = [], 0
        for _ in range(40):
            try:
                futures.append(service.submit({"x": np.ones(1)}))
            except Overloaded as error:
                refused += 1
                assert error.exit_code == 5 and "10 requests wait already" in error.message
        assert 10 <= len(futures) <= 12 and refused == 40 - len(futures)
        stuck.go.set()
        assert all(future.result(60)[0].tolist() == [1.0] for future in futures)
        assert len(list(service.map({"x": np.ones(1)} for _ in range(100)))) == 100


def test_limits_that_mean_nothing() -> None:
    with pytest.raises(UsageError, match="capacity of 0 is too few"):
        burnish.load(TAGGER, replicas=2, capacity=0)
    with pytest.raises(UsageError, match="workers are no actors"):
        burnish.load(TAGGER, replicas=2, workers="actors")
    with pytest.raises(UsageError, match="has one worker"):
        burnish.load(TAGGER.parent, replicas=2)
    with pytest.raises(UsageError, match="capacty is no option") as stop:
        burnish.load(TAGGER, capacty=1)  # type: ignore[call-arg]
    assert stop.value.hint == "capacity"


def test_one_that_was_cancelled_is_not_run() -> None:
    stuck = Stuck()
    with Replicas([stuck]) as service:
        futures = [service.submit({"x": np.ones(1)}) for _ in range(6)]
        assert [future.cancel() for future in futures[3:]] == [True] * 3
        stuck.go.set()
        wait(futures[:3], 60)
    assert stuck.runs == 3


INTERRUPTED = """
    import sys
    sys.path[:0] = [{here!r}, {tests!r}]
    from serving import TAGGER, feeds, pids
    import burnish
    service = burnish.load(TAGGER, threads=1, replicas=2, workers={workers!r})
    print(*pids(service), flush=True)
    given = feeds(50)
    while True:
        for _ in service.map(given):
            pass
"""


@pytest.mark.parametrize("workers", ["processes", "threads"])
def test_an_interrupt_leaves_nothing(workers: str) -> None:
    """To the whole group, twice, as impatient people do."""
    here = Path(__file__).parent
    code = INTERRUPTED.format(here=str(here), tests=str(here.parents[1]), workers=workers)
    shared = sorted(os.listdir("/dev/shm"))
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # Where the tests run in the background of a shell, interrupts are ignored, by heritage.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert parent.stdout is not None
    try:
        started = [int(word) for word in parent.stdout.readline().split() if word != "None"]
        assert len(started) == (2 if workers == "processes" else 0)
        time.sleep(0.3)
        os.killpg(parent.pid, signal.SIGINT)
        time.sleep(0.02)
        os.killpg(parent.pid, signal.SIGINT)
        _, told = parent.communicate(timeout=60)
    finally:
        parent.kill()
    assert parent.returncode in (-signal.SIGINT, 1, 130), told
    assert "KeyboardInterrupt" in told
    until(lambda: all(map(gone, started)))
    assert sorted(os.listdir("/dev/shm")) == shared
