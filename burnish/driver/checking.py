"""The job of the gate, inside its sandboxed child: two models compared, and timed in rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from burnish.driver.inspection import compare_models, fitted
from burnish.driver.request import request_from
from burnish.driver.workbench import Emit, Workbench, open_model
from burnish.optimizer import report, rounds, tuner
from burnish.optimizer.errors import UsageError, about
from burnish.optimizer.measure import Entrant
from burnish.optimizer.model import load
from burnish.optimizer.rounds import Ratio, Round
from burnish.runtimes.providers import versions

SECONDS = 60.0
"""Time after which a ratio is taken as it is, where no interval has settled it.

A baseline has twice as long: what it does not know, no later run can make good.
"""

NARROW = 0.01
"""Half-width at which measuring on would say nothing new; so does a third of the baseline's."""


def examine(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Facts about `other` beside the request's model, as the report of the main job has them.

    `argument` also holds `compare` (whether answers are compared; else only times are taken),
    `recorded` (the baseline's ratio of times, with its interval of 95 %, or null) and `bound`.
    """
    request = request_from(argument)
    facts = compare_models(argument, emit) if argument["compare"] else {}
    with open_model(request, emit) as bench, about(Path(argument["other"])):
        name, _ = tuner.processor()
        installed, threads = versions(request.provider), request.threads_used
        other = load(Path(argument["other"])).model
        facts["target"] = report.target_facts(request.provider, name, threads, installed, other)
        facts["latency"] = _latency(bench, argument) if request.measure else None
    return facts


def _latency(bench: Workbench, argument: dict[str, Any]) -> dict[str, Any]:
    """Time both models, until it is clear on which side of the bound their ratio lies."""
    bench.settle()
    if bench.untimed:
        raise UsageError(bench.untimed)
    if bench.request.pack:
        bench.candidates()  # they say how much of a batch is padding
    entrants: dict[str, Entrant] = {}
    feed = bench.timing_feed()
    for name, path in (("input", bench.loaded.path), ("artifact", Path(argument["other"]))):
        folder = bench.executor.store([fitted(feed, load(path).model)])[0]
        entrants[name] = Entrant(path.absolute(), folder)
    recorded = argument["recorded"] and rounds.widened(Ratio(*argument["recorded"]))

    def changed(taken: Sequence[Round]) -> Ratio:
        now = rounds.ratio(taken, rounds.SURE)
        return rounds.change(now, recorded) if recorded else now

    def settled(taken: Sequence[Round]) -> bool:
        found = changed(taken)
        if recorded and found.at_most(argument["bound"]) is not None:
            return True
        known = recorded.half_width if recorded else 0.0
        return rounds.ratio(taken, rounds.SURE).half_width <= max(NARROW, known / 3)

    bench.emit({"stage": "timing"})
    seconds = SECONDS if recorded else 2 * SECONDS
    contest = partial(bench.contest, undisturbed=True)
    taken = rounds.measured(contest, entrants, settled, seconds)
    facts = report.latency_facts(rounds.timing(taken), bench.sizes())
    return facts | {
        "inputs": {name: list(array.shape) for name, array in feed.items()},
        "rounds": len(taken),
        "change": asdict(changed(taken)) if recorded else None,
    }
