"""An artifact that answers requests, opened on whatever node that is."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.runtimes.ray_cluster.files import Copy, Shipment
from burnish.runtimes.ray_cluster.staged_answers import open_staged
from burnish.runtimes.requests import Answerer, open_answerer


@dataclass(frozen=True)
class Opening:
    """How an artifact is opened.

    Attributes:
        shipment: its files.
        provider, threads, task: see `requests.open_answerer`.
        staged: whether it is a folder of stages, which become actors of their own.
    """

    shipment: Shipment
    provider: str
    threads: int
    task: str | None = None
    staged: bool = False

    def opened(self) -> tuple[Answerer, Copy]:
        """The artifact on this node, and its files there."""
        copy = self.shipment.here()
        threads = self.threads or 1
        if self.staged:
            return open_staged(copy.folder, provider=self.provider, threads=threads), copy
        made = open_answerer(copy.path, provider=self.provider, threads=threads, task=self.task)
        return made, copy
