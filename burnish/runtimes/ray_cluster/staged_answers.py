"""Stages of a plan that answer requests: actors, with requests under way in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from burnish.optimizer.errors import BurnishError
from burnish.runtimes.arrays import Array
from burnish.runtimes.ray_cluster.actors import submitted
from burnish.runtimes.ray_cluster.connection import LOCAL, Connection
from burnish.runtimes.ray_cluster.stages import RayPipeline
from burnish.runtimes.requests.arrays import ArrayAnswers, Asked, plain
from burnish.runtimes.requests.interface import Answers
from burnish.runtimes.tasks.ports import Opened


class StagedAnswers(ArrayAnswers):
    """See `requests.interface.Answerer`.

    Args:
        stages: closed with this.
        opened: the same, as an opened model.
        samples: made-up inputs, or none.
    """

    def __init__(
        self, stages: RayPipeline, opened: Opened, samples: Sequence[dict[str, Array]]
    ) -> None:
        super().__init__(opened, samples)
        self._stages = stages

    def answer(self, requests: Sequence[Asked]) -> Answers:
        def submit(asked: Asked) -> Future[list[Array]]:
            return self._stages.submit(asked.feed, asked.outputs)

        futures = [submitted(submit, item) for item in requests]
        answers: Answers = []
        for asked, future in zip(requests, futures, strict=True):
            try:
                found = zip(asked.outputs, future.result(), strict=True)
            except BurnishError as error:
                answers.append(error)
            except Exception as error:  # the bindings raise types of their own
                answers.append(self._opened.explained(error))
            else:
                answers.append({"outputs": {name: plain(array) for name, array in found}})
        return answers


def open_staged(folder: Path, *, provider: str, threads: int) -> StagedAnswers:
    """A folder of stages as actors of the cluster that this process is connected to."""
    stages = RayPipeline(folder, Connection(LOCAL), provider=provider, threads=threads)
    opened = Opened(stages, provider)
    sample = {name: _ones(opened, name) for name in opened.inputs}
    try:
        opened.run(opened.outputs, sample)
    except BurnishError:
        return StagedAnswers(stages, opened, [])
    return StagedAnswers(stages, opened, [sample])


def _ones(opened: Opened, name: str) -> Any:
    return opened.cast(name, np.ones([size or 1 for size in opened.fixed(name)]))
