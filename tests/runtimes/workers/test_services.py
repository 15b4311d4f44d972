"""What workers give together: joined feeds, several models, uneven workers, branches at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from serving import TAGGER, expected, feeds

import burnish
from burnish.optimizer.errors import BurnishError, UnsupportedModel, UsageError
from burnish.runtimes.replicas import Replicas
from burnish.runtimes.workers.jobs import Jobs
from burnish.runtimes.workers.joining import Joiner
from burnish.runtimes.workers.requests import Job, Port, Request, Route, Step, Task
from burnish.runtimes.workers.scheduling import Loads
from burnish.runtimes.workers.service import Limits, Service
from burnish.runtimes.workers.worker import READY, ThreadWorker, Worker


@pytest.fixture(params=["threads", "processes"])
def joining(request: pytest.FixtureRequest) -> Iterator[Service]:
    with burnish.load(TAGGER, threads=1, workers=request.param, batch=8) as service:
        yield service


def test_feeds_are_joined_and_split(joining: Service) -> None:
    """Of one row and of several, of all lengths, padded and not."""
    assert joining.joined == {"model": ""}
    given = feeds(60) + feeds(20, rows=3, seed=1)
    runs = joining.told()[0]["answers"]
    for right, (found,) in zip(expected(given), joining.map(given), strict=True):
        assert found.shape == right.shape
        np.testing.assert_allclose(found, right, atol=1e-5)
    assert joining.told()[0]["answers"] - runs < len(given) / 2


def test_one_bad_feed_among_joined_ones_spoils_no_other(joining: Service) -> None:
    given = feeds(16, longest=8)
    given[5] = {**given[5], "input_ids": given[5]["input_ids"] + 10**6}
    futures = [joining.submit(feed) for feed in given]
    right = expected([feed for place, feed in enumerate(given) if place != 5])
    with pytest.raises(UnsupportedModel, match="indices element out of data bounds"):
        futures.pop(5).result(60)
    for future, logits in zip(futures, right, strict=True):
        np.testing.assert_allclose(future.result(60)[0], logits, atol=1e-5)


def written(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> Path:
    weights = [helper.make_tensor("w", TensorProto.FLOAT, [4, 4], np.eye(4).ravel() * 0.5)]
    axes = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "g", inputs, outputs, [*weights, axes])
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def port(name: str, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def test_what_padding_would_change_is_joined_only_where_it_is_alike(tmp_path: Path) -> None:
    """A mean over all positions, which no mask hides."""
    path = written(
        tmp_path / "mean.onnx",
        [helper.make_node("ReduceMean", ["x", "one"], ["y"], keepdims=0)],
        [port("x", "batch", "sequence", 4)], [port("y", "batch", 4)],
    )  # fmt: skip
    random = np.random.default_rng(0)
    given = [{"x": random.standard_normal((1, 3 + i % 2, 4), np.float32)} for i in range(12)]
    with burnish.load(path, workers="threads", batch=4) as service:
        assert "only feeds of the same shape" in service.joined["model"]
        for feed, (found,) in zip(given, service.map(given), strict=True):
            np.testing.assert_allclose(found, feed["x"].mean(1), atol=1e-5)


def test_rows_that_change_each_other_are_not_joined(tmp_path: Path) -> None:
    """Int8 with the range of a whole run."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    ports = [port("x", "batch", 4)], [port("y", "batch", 4)]
    path = written(tmp_path / "ranges.onnx", nodes, *ports)
    with burnish.load(path, workers="threads", batch=4) as service:
        assert service.joined["model"] == "rows of one run are not what they are by themselves"
    path = written(tmp_path / "fixed.onnx", nodes[2:], [port("d", 2, 4)], [port("y", 2, 4)])
    with burnish.load(path, workers="threads", batch=4) as service:
        assert "do not share a first axis" in service.joined["model"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=6))
def test_what_is_joined_is_split_as_it_was(shapes: list[tuple[int, int]]) -> None:
    joiner = Joiner(8, {"x": (1,), "m": (1,), "n": ()}, {"x": (1,), "n": ()})
    random = np.random.default_rng(0)
    made = [
        {
            "x": random.standard_normal((rows, length, 2)),
            "m": np.ones((rows, length), np.int64),
            "n": random.standard_normal((rows, 3)),
        }
        for rows, length in shapes
    ]
    joined = joiner.join(made)
    assert joined["m"].sum() == sum(rows * length for rows, length in shapes)
    parts = joiner.split(made, {name: joined[name] for name in ("x", "n")})
    for feed, part in zip(made, parts, strict=True):
        np.testing.assert_array_equal(part["x"], feed["x"])
        np.testing.assert_array_equal(part["n"], feed["n"])


def test_several_models_over_the_same_workers(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    half = written(tmp_path / "half.onnx", nodes, [port("x", "n", 4)], [port("y", "n", 4)])
    tags, rows = feeds(20), [{"x": np.full((2, 4), i, np.float32)} for i in range(20)]
    models = {"tags": TAGGER, "half": half}
    with burnish.load(models, replicas=2, threads=1, workers="processes") as service:
        futures = [
            service.submit(feed, model=name)
            for pair in zip(tags, rows, strict=True)
            for name, feed in zip(models, pair, strict=True)
        ]
        found = [future.result(60)[0] for future in futures]
        for mine, theirs in zip(found[::2], expected(tags), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5)
        for index, half_of in enumerate(found[1::2]):
            assert (half_of == index / 2).all()
        assert all(row["healthy"] for row in service.health(deadline=60.0))
        with pytest.raises(UsageError, match="there are several models"):
            service.run(None, tags[0])
        with pytest.raises(UsageError, match="there is no model x"):
            service.run(None, tags[0], model="x")
    with pytest.raises(UsageError, match="there is no model to run"):
        burnish.load({})


def test_feeds_that_do_not_go_with_the_model() -> None:
    with burnish.load(TAGGER, threads=1, workers="threads") as service:
        feed = feeds(1)[0]
        with pytest.raises(UsageError, match="input attention_mask is missing"):
            service.submit({"input_ids": feed["input_ids"]})
        with pytest.raises(UsageError, match="there is no input more"):
            service.submit({**feed, "more": feed["input_ids"]})
        with pytest.raises(UsageError, match="there is no output hidden"):
            service.submit(feed, ["hidden"])
        assert service.run(["logits"], feed)[0].shape[-1] == 7


class Timed:
    """A runtime that says when it begins, and waits for another one."""

    def __init__(self, name: str, meeting: threading.Barrier) -> None:
        self.name, self.meeting = name, meeting

    def run(self, names: Any, feed: Any) -> list[Any]:
        self.meeting.wait(60)
        return [feed[f"{self.name}_in"] + 1]

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name=f"{self.name}_in")]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name=f"{self.name}_out")]

    def fallen(self) -> list[Any]:
        return []

    def close(self) -> None:
        pass


def test_branches_of_one_feed_run_at_once() -> None:
    """Two stages that do not need each other: each waits until the other has begun."""
    meeting = threading.Barrier(2)
    workers = [ThreadWorker(name, {name: Timed(name, meeting)}) for name in ("text", "image")]
    steps = tuple(Step(name, (f"{name}_in",), (f"{name}_out",)) for name in ("text", "image"))
    ports = [tuple(Port(f"{name}_{end}") for name in ("text", "image")) for end in ("in", "out")]
    with Service(workers, {"model": Route(steps, *ports)}, Limits()) as service:
        feed = {"text_in": np.ones(1), "image_in": np.zeros(1)}
        assert [item.tolist() for item in service.run(None, feed)] == [[2.0], [1.0]]


def test_steps_that_nobody_needs_are_left_out() -> None:
    steps = (Step("a", ("x",), ("p", "q")), Step("b", ("p",), ("y",)), Step("c", ("q",), ("z",)))
    route = Route(steps, (Port("x"),), (Port("y"), Port("z")))
    assert route.needed(("z",)) == {0: ("q",), 2: ("z",)}
    assert route.needed(("y", "z")) == {0: ("p", "q"), 1: ("y",), 2: ("z",)}


def test_the_worker_that_is_done_first_is_chosen() -> None:
    route = Route((Step("m", ("x",), ("y",)),), (Port("x"),), (Port("y"),))
    jobs = Jobs({"m": route}, {}, shared=False)
    for size in (10, 10, 10, 10, 30):
        jobs.add(Request("m", {"x": np.ones(size)}, ("y",)))
    while jobs.admit():
        pass
    fast, slow = Worker("fast", frozenset("m")), Worker("slow", frozenset("m"))
    fast.paces["m"], slow.paces["m"] = 1.0, 2.5
    fast.state = slow.state = READY
    loads = Loads([fast, slow], 0.0)
    chosen = [loads.choose(job, "m") for job, _ in jobs.ready]
    # Ends: fast at 10 and 20, slow at 25, fast at 30; 60 is before 100.
    assert [worker.name for worker in chosen if worker] == ["fast", "fast", "slow", "fast", "fast"]
    slow.state = fast.state = "down"
    assert Loads([fast, slow], 0.0).choose(jobs.ready[0][0], "m") is None


def test_a_worker_that_was_slow_once_is_tried_again() -> None:
    """A stalled machine makes it look slow; while it is idle, that is forgotten."""
    job = Job(0, [Request("m", {"x": np.ones(10)}, ("y",))], 10.0, {0: ("y",)})
    fast, slow = Worker("fast", frozenset("m")), Worker("slow", frozenset("m"))
    fast.state = slow.state = READY
    fast.paces["m"], slow.paces["m"] = 1.0, 1.0
    slow.take(Task(0, job, 0, "m", ("y",)), 0.0)
    slow.finish(1e6)
    assert 1.0 < slow.paces["m"] < 2.0
    slow.paces["m"] = 100.0
    fast.take(Task(1, job, 0, "m", ("y",)), 1e6)
    for later, name in ((0.0, "fast"), (60.0, "slow")):
        chosen = Loads([fast, slow], 1e6 + later).choose(job, "m")
        assert chosen is not None and chosen.name == name


class Slow:
    """A runtime that takes its time for each element."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.done = seconds, 0

    def run(self, names: Any, feed: Any) -> list[Any]:
        time.sleep(self.seconds * feed["x"].size)
        self.done += feed["x"].size
        return [feed["x"]]

    get_inputs = lambda self: [SimpleNamespace(name="x")]  # noqa: E731
    get_outputs = lambda self: [SimpleNamespace(name="y")]  # noqa: E731
    fallen = lambda self: []  # noqa: E731
    close = lambda self: None  # noqa: E731


def test_uneven_workers_get_uneven_loads() -> None:
    fast, slow = Slow(0.001), Slow(0.004)
    sizes = np.random.default_rng(0).integers(1, 20, 80)
    with Replicas([fast, slow]) as service:
        futures = [service.submit({"x": np.ones(size)}) for size in sizes]
        for future in futures:
            future.result(60)
    assert fast.done + slow.done == sizes.sum()
    assert fast.done > 2 * slow.done


def test_health_of_ports_that_tell_nothing() -> None:
    with Replicas([Slow(0.0)]) as service:
        (row,) = service.health()
        assert not row["healthy"] and "no feed is made up" in row["error"]
        (row,) = service.health({"model": {"x": np.ones(2)}})
        assert row["healthy"] and row["seconds"] >= 0 and row["answers"] == 1


def test_a_runtime_that_raises_what_it_likes() -> None:
    class Broken(Slow):
        def run(self, names: Any, feed: Any) -> list[Any]:
            raise KeyError("oh")

    with Replicas([Broken(0.0)]) as service, pytest.raises(KeyError, match="oh"):
        service.run(None, {"x": np.ones(1)})
    with pytest.raises(BurnishError, match="closed"):
        service.run(None, {"x": np.ones(1)})
