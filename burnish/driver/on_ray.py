"""`optimize run --ray`: data and texts over the nodes of a cluster."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from burnish import driver
from burnish.driver.inspection import facts_of, numbered
from burnish.driver.request import Request, request_from, validate_provider
from burnish.driver.running import BATCH, kind_of
from burnish.driver.workbench import Emit, open_model
from burnish.optimizer import report
from burnish.optimizer.artifact import graph_of
from burnish.optimizer.errors import UsageError
from burnish.runtimes import ray_cluster
from burnish.runtimes.arrays import read_arrays
from burnish.runtimes.stages import is_pipeline

TEXTS = 32
"""Texts of a request, where each is answered by itself."""


def made_feeds(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """In a sandboxed child: feeds of the user's data, as a local run makes them.

    Args:
        argument: a request's fields, and `folder`, where they are written.
        emit: told of nothing.
    """
    request = request_from(argument)
    with open_model(request, emit) as bench:
        data, description = bench.candidates()
        for index, feed in enumerate(data.feeds):
            bench.executor.write(Path(argument["folder"]) / str(index), feed)
        return {"count": len(data.feeds), "feeds": description}


def run(request: Request, address: str) -> dict[str, Any]:
    """Run a model on data over a cluster; what `inspection.run_model` tells.

    Args:
        request: names the model and its data.
        address: of the cluster.
    """
    if not request.data:
        raise UsageError("a cluster is for data", hint="--data FILE")
    _admit(request)
    graph = graph_of(request.model)
    with tempfile.TemporaryDirectory(prefix="burnish-") as folder:
        argument = asdict(request) | {"model": graph, "folder": folder}
        told = driver._supervised("burnish.driver.on_ray:made_feeds", argument, request, None)
        feeds = [read_arrays(Path(folder, str(index))) for index in range(told["count"])]
    found = ray_cluster.part("batches").run(
        Path(graph), feeds, address=address, provider=request.provider, threads=request.threads
    )
    runs = []
    for index, (feed, outputs) in enumerate(zip(feeds, found, strict=True)):
        arrays = {"inputs": feed, "outputs": outputs}
        runs.append(
            {
                kind: {name: facts_of(array) for name, array in items.items()}
                for kind, items in arrays.items()
            }
        )
        if request.output:
            np.savez(numbered(Path(request.output), index, len(feeds)), **outputs)
    return {"schema": report.SCHEMA, "feeds": told["feeds"], "runs": runs}


def _admit(request: Request) -> None:
    validate_provider(request, auto=False)
    if is_pipeline(Path(request.model)):
        raise UsageError("stages of a plan are run in Python", hint="burnish.load(FOLDER, ray=...)")


def run_artifact(request: Request, argument: dict[str, Any], address: str) -> dict[str, Any]:
    """Answer or go on from texts over a cluster; much of what `running.run_artifact` tells.

    Args:
        request: names the artifact, its task, the provider and threads.
        argument: `texts`, `context`, `chat`, `language` and `settings`; see there.
        address: of the cluster.
    """
    _admit(request)
    if argument["images"]:
        raise UsageError("images are not sent to a cluster", hint="a run without --ray")
    task, writes = kind_of(Path(request.model), request.task)
    own: dict[str, Any] = {}
    if writes:
        own = {"chat": argument["chat"], "language": argument["language"], **argument["settings"]}
    elif argument["context"]:
        own = {"context": argument["context"]}
    texts, size = argument["texts"], BATCH if writes else TEXTS
    requests = [
        {"texts": texts[start : start + size], **own} for start in range(0, len(texts), size)
    ]
    begin = time.monotonic()
    found = ray_cluster.part("batches").answered(
        Path(request.model), requests, address=address, provider=request.provider,
        threads=request.threads, task=task or None,
    )  # fmt: skip
    told: dict[str, Any] = {"schema": report.SCHEMA, "task": found[0]["task"] if found else task}
    notes = list(dict.fromkeys(note for item in found for note in item["notes"]))
    if writes:
        rows = [row for item in found for row in item["texts"]]
        seconds = time.monotonic() - begin
        return told | {"texts": rows, "notes": notes, "seconds": {"all": seconds}}
    answers = [answer for item in found for answer in item["answers"]]
    return told | {"inputs": texts, "answers": answers, "notes": notes}
