"""A zoo on a Ray cluster: each compilation is a task on a node that has the memory for it.

Everything else stays where the zoo was begun: members, notes, reports. Nodes see the output folder
and the models at the same paths, and are alike, since what is known of a model's form is known of a
kind of processor.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from burnish import __version__
from burnish.driver.request import Request
from burnish.driver.result import Result
from burnish.optimizer import sandbox, tuner
from burnish.optimizer.errors import StorageError, UsageError
from burnish.optimizer.turns import in_turn_with, wake_left
from burnish.runtimes import ray_cluster

Compile = Callable[[Request, Callable[[dict[str, Any]], None]], Result]


@dataclass(frozen=True)
class Power:
    """What a zoo is compiled with.

    Attributes:
        optimize: the main job, wherever it is done.
        places: jobs at a time.
        budget: bytes that they may need together.
        largest: bytes that one of them may need.
        stop: ends what `optimize` does elsewhere.
    """

    optimize: Compile
    places: int
    budget: int
    largest: int
    stop: Callable[[], None]


@contextlib.contextmanager
def power(
    address: str | None, optimize: Compile, places: int, limit: int | None, shared: Path
) -> Iterator[Power]:
    """This machine, or a cluster.

    Args:
        address: of a Ray cluster; None for this machine.
        optimize: the main job; on a cluster it is sent by its name.
        places: jobs at a time; 0 for one per core.
        limit: bytes for all of them; None for what is free.
        shared: a folder that all nodes have to see.

    Raises:
        UsageError: there is no such cluster, or its nodes are not alike.
    """
    if address is None:
        budget = limit or sandbox.default_memory()
        count = places or len(os.sched_getaffinity(0))
        yield Power(optimize, count, budget, budget, lambda: None)
        return
    tasks = ray_cluster.part("tasks").Tasks(address)
    try:
        _admit(tasks.on_every_node(look, str(shared.absolute())))
        budget = min(tasks.memory, limit or tasks.memory)
        compiled = functools.partial(_sent, tasks, optimize, shared)
        count = min(places or tasks.places, tasks.places)
        yield Power(compiled, count, budget, min(budget, tasks.largest), tasks.stop)
    finally:
        tasks.close()


def _sent(
    tasks: Any, optimize: Compile, shared: Path, request: Request, _: Callable[..., None]
) -> Result:
    """The main job, on some node."""
    report, path = tasks.call(
        compiled, optimize, request, os.getcwd(), str(shared), memory=request.memory_limit or 0
    )
    return Result(report, path)


def compiled(
    optimize: Compile, request: Request, here: str, shared: str
) -> tuple[dict[str, Any], Path | None]:
    """On a node: the main job, in turn with the others of that machine.

    Args:
        optimize: the main job.
        request: its paths start at `here`.
        here: the folder that the zoo was begun in.
        shared: the folder that all nodes see.
    """
    with contextlib.chdir(here if os.path.isdir(here) else "."):
        if not os.path.isdir(shared):
            raise _unseen(shared)
        turn = _turn(os.path.abspath(shared))
        try:
            with in_turn_with(turn):
                result = optimize(replace(request, turn=str(turn)), lambda event: None)
        finally:
            wake_left(turn)
    return result.report, result.path


def _turn(shared: str) -> Path:
    """What compilations of one zoo share on one machine."""
    folder: Path = ray_cluster.part("files").own_folder()
    return folder / f"turn-{hashlib.sha256(shared.encode()).hexdigest()[:16]}"


def look(shared: str) -> dict[str, Any]:
    """On a node: what has to be the same on all."""
    return {
        "Burnish": __version__,
        "processor": tuner.processor()[0],
        "folder": os.path.isdir(shared),
    }


def _admit(found: dict[str, dict[str, Any]]) -> None:
    here = {"Burnish": __version__, "processor": tuner.processor()[0]}
    for node, told in found.items():
        if not told["folder"]:
            raise UsageError(
                f"the node {node} does not see the output folder",
                hint="-o on a file system that all nodes share",
            )
        for what, value in here.items():
            if told[what] != value:
                raise UsageError(f"the node {node} has {what} {told[what]}, and this one {value}")


def _unseen(folder: str) -> StorageError:
    return StorageError(f"a node does not see {folder}", hint="a file system that all nodes share")
