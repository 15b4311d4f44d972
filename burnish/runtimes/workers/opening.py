"""Opening workers of either kind."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import UsageError
from burnish.runtimes.providers import PROVIDERS
from burnish.runtimes.workers.requests import Port, Route, Step
from burnish.runtimes.workers.worker import Models, ProcessWorker, ThreadWorker, Worker

THREADS, PROCESSES = "threads", "processes"


@dataclass(frozen=True)
class Opening:
    """How models are opened.

    Attributes:
        provider: see `providers.PROVIDERS`.
        threads: of each model; 0 for the runtime's own choice.
        workers: `THREADS` or `PROCESSES`.
    """

    provider: str = "cpu"
    threads: int = 0
    workers: str = THREADS

    def __post_init__(self) -> None:
        if self.workers not in (THREADS, PROCESSES):
            raise UsageError(f"workers are no {self.workers}", hint=f"{THREADS} or {PROCESSES}")
        if self.provider not in PROVIDERS:
            raise UsageError(f"provider {self.provider} is not known", hint=", ".join(PROVIDERS))

    def row(self, path: Path) -> dict[str, Any]:
        """What a worker is told of a model."""
        return {"path": str(path), "provider": self.provider, "threads": self.threads}


def open_workers(models: Mapping[str, Models], kind: str) -> list[Worker]:
    """Workers that are ready, with the models of each, by its name.

    Raises:
        UsageError: where a provider does not start here.
        UnsupportedModel: where it does not accept a model.
    """
    found: list[Worker] = []
    with contextlib.ExitStack() as opened:
        for name, rows in models.items():
            if kind == PROCESSES:
                process = ProcessWorker(name, rows)
                opened.callback(process.close)
                found.append(process)
                continue
            with contextlib.ExitStack() as sessions:
                runtimes = {}
                for key, row in rows.items():
                    open_session = PROVIDERS[row["provider"]].open
                    path, provider = Path(row["path"]), row["provider"]
                    session = open_session(path, provider=provider, threads=row["threads"])
                    sessions.callback(session.close)
                    runtimes[key] = session
                sessions.pop_all()
            explain = {key: PROVIDERS[row["provider"]].explain for key, row in rows.items()}
            thread = ThreadWorker(name, runtimes, explain)
            opened.callback(thread.close)
            found.append(thread)
        for worker in found:
            if isinstance(worker, ProcessWorker):
                worker.wait()
        opened.pop_all()
    return found


def route_of(worker: Worker, model: str) -> Route:
    """The way over a whole model."""
    facts = worker.facts()[model]
    inputs, outputs = (tuple(Port.of(port) for port in facts[key]) for key in ("inputs", "outputs"))
    names = [tuple(port.name for port in ports) for ports in (inputs, outputs)]
    return Route((Step(model, names[0], names[1]),), inputs, outputs)
