"""Task metrics of artifacts on annotated examples, inside their sandboxed child."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from burnish.driver.exams import Exam, exam_for, located
from burnish.driver.request import Request, request_from
from burnish.optimizer import annotated, report
from burnish.optimizer.annotated import Example
from burnish.optimizer.errors import UsageError, about
from burnish.optimizer.frontend.tasks import named
from burnish.optimizer.metrics.judges import JUDGES, LABELS, SPANS, Judge
from burnish.optimizer.metrics.scores import Scores
from burnish.runtimes.tasks import folder as folders
from burnish.runtimes.tasks.entities import TokenClassification
from burnish.runtimes.tasks.folder import CONFIG, TOKENIZER
from burnish.runtimes.tasks.opening import open_task, told_task
from burnish.runtimes.tasks.texts import TextsCut

Emit = Callable[[dict[str, Any]], None]

NONE = "(none)"
"""The group of examples without one, where others have one."""

MOST = 5
"""Labels that a note names."""

ALL = "all"
"""Stands for the examples of every group."""


def evaluate_artifacts(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Scores of an artifact, and of the one that it is held against, by group.

    Args:
        argument: a request, whose data is annotated, and `against`, a path or None.
        emit: told of each model.
    """
    request, against = request_from(argument), argument["against"]
    paths = [Path(path) for path in (against, request.model) if path]
    notes: list[str] = []
    evaluated = []
    for path in paths:
        emit({"stage": f"answering with {path}"})
        beside = _beside(path, paths, notes)
        evaluated.append(_evaluated(path, beside, request, notes))
    first = evaluated[0]
    if any(one["task"] != first["task"] for one in evaluated):
        raise UsageError(f"{paths[0]} is for {first['task']}, and not so {paths[-1]}")
    judge = JUDGES[first["judge"]]
    facts = {
        "schema": report.SCHEMA,
        "task": first["task"],
        "data": request.data,
        "groups": first["groups"],
        "metric": judge.headline,
        "lower": judge.lower,
        "models": [{"path": one["path"], "scores": one["scores"]} for one in evaluated],
        "warnings": notes,
    }
    return facts | {"drop": _drop(judge, facts["models"]) if against else None}


def _beside(path: Path, paths: Sequence[Path], notes: list[str]) -> Path | None:
    """Where the tokenizer and labels of a file are, if not beside it: with the other model."""
    if not path.is_file() or any((path.parent / name).exists() for name in (CONFIG, TOKENIZER)):
        return None
    for other in paths:
        folder = other if other.is_dir() else other.parent
        if (folder / CONFIG).exists() or (folder / TOKENIZER).exists():
            notes.append(f"tokenizer and labels for {path} are those of {folder}")
            return folder
    return None


def _evaluated(
    path: Path, beside: Path | None, request: Request, notes: list[str]
) -> dict[str, Any]:
    """The scores of one model."""
    assert request.data is not None
    data = Path(request.data)
    tokenizer = Path(request.tokenizer) if request.tokenizer else None
    asked = named(request.task).name if request.task else None
    with about(path):
        folder = folders.read(path, tokenizer=tokenizer, beside=beside)
    task = open_task(
        path, provider=request.provider, threads=request.threads, beside=beside, task=asked,
        tokenizer=tokenizer, losses=True,
    )  # fmt: skip
    name = getattr(task, "name", None) or asked or told_task(folder)
    with closing(task), about(path), warnings.catch_warnings(record=True) as cut:
        warnings.simplefilter("always", TextsCut)
        examples = annotated.read(data, columns=isinstance(task, TokenClassification))
        exam = exam_for(name, request.task, examples, folder.config)
        labels = folder.labels
        images = data if data.is_dir() else data.parent
        questions = [located(exam.question(item), exam, images) for item in examples]
        wanted = [exam.annotation(item, labels) for item in examples]
        found = exam.answers(task, questions)
    for note in [*_strangers(exam, wanted, labels), *(str(item.message) for item in cut)]:
        if note not in notes:
            notes.append(note)
    return {
        "path": str(path),
        "task": name,
        "judge": exam.judge,
        "groups": dict(Counter(_groups(examples))),
        "scores": {
            name: asdict(part) for name, part in _scores(exam, examples, wanted, found).items()
        },
    }


def _strangers(exam: Exam, wanted: Sequence[Any], labels: Sequence[str]) -> list[str]:
    """A note on annotated labels that the model does not have, if it has any."""
    if exam.judge not in (SPANS, LABELS) or not labels:
        return []
    counts = Counter(label for row in wanted for label in row if label not in labels)
    if not counts:
        return []
    told = ", ".join(f"{name} ({count})" for name, count in counts.most_common(MOST))
    return [f"annotated labels that the model does not have: {told}"]


def _groups(examples: Sequence[Example]) -> list[str]:
    """The group of each example; of none where no example has one."""
    if not any(item.group for item in examples):
        return []
    if any(item.group == ALL for item in examples):
        raise UsageError(f"data: {ALL!r} stands for all groups, and is the name of none")
    return [item.group or NONE for item in examples]


def _scores(
    exam: Exam, examples: Sequence[Example], wanted: Sequence[Any], found: Sequence[Any]
) -> dict[str, Scores]:
    """Scores by group, those of all examples last."""
    score = JUDGES[exam.judge].score
    parts: dict[str, Scores] = {}
    groups = _groups(examples)
    for group in dict.fromkeys(groups):
        mine = [index for index, name in enumerate(groups) if name == group]
        parts[group] = score([wanted[i] for i in mine], [found[i] for i in mine])
    return parts | {ALL: score(wanted, found)}


def _drop(judge: Judge, models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The largest loss of a group's headline, in points (of perplexity, in percent)."""
    before, after = (model["scores"] for model in models)
    losses = {
        name: judge.drop(before[name]["whole"], after[name]["whole"])
        for name in before
        if name != ALL or len(before) == 1
    }
    worst = max(losses, key=losses.__getitem__)
    return {"points": losses[worst], "group": worst}
