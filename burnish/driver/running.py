"""Running an artifact on texts or images, inside its sandboxed child."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from burnish.driver.answering import answered
from burnish.optimizer import admission
from burnish.optimizer.artifact import PIPELINE
from burnish.optimizer.errors import UsageError
from burnish.optimizer.frontend.tasks import named
from burnish.runtimes import generate
from burnish.runtimes.generate import Generator
from burnish.runtimes.generate.opening import DECODER, MODEL, task_of

Emit = Callable[[dict[str, Any]], None]

BATCH = 8
"""Texts that are generated together."""


def run_artifact(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Do what the task of an artifact is; what came of it.

    Args:
        argument: fields of the request, and what `generated` and `answering.answered` want.
        emit: told of pieces of text as they come.
    """
    path, asked = Path(argument["model"]), argument["task"]
    task, writes = kind_of(path, asked)
    if not task and path.is_dir() and not writes:
        argument = argument | {"model": str(path / MODEL)}
    return {"schema": 1, "task": task} | (generated if writes else answered)(argument, emit)


def kind_of(path: Path, asked: str | None) -> tuple[str, bool]:
    """The task of an artifact, which is asked for or told; and whether it writes text."""
    task = named(asked).name if asked else task_of(path)
    if task == PIPELINE:
        # Of stages only decoders answer to texts.
        task = generate.TASKS[0]
    untold = not task and path.is_dir()
    return task, _hands_caches_on(path) if untold else task in generate.TASKS


def _hands_caches_on(folder: Path) -> bool:
    """Whether what lies in a folder without a manifest generates text: its ports say so."""
    if (folder / DECODER).exists() or not (folder / MODEL).exists():
        return True
    message, _ = admission.parse(admission.read_file(folder / MODEL))
    return any("past" in port.name for port in message.graph.input)


def generated(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Generate from each text, a batch after the other."""
    generator = generate.open_generator(
        argument["model"], provider=argument["provider"], threads=argument["threads"]
    )
    texts, rows = argument["texts"], list[dict[str, Any]]()
    if not texts:
        raise UsageError("the model goes on from text", hint="--text, --file, or a pipe")
    totals = dict.fromkeys(("prompt_tokens", "new_tokens", "runs", "proposed", "right"), 0)
    seconds = {"first": 0.0, "all": 0.0}
    later, notes = 0, list[str]()
    for start in range(0, len(texts), BATCH):
        made = generator.generate(
            **_given(generator, texts[start : start + BATCH], argument["chat"]),
            language=argument["language"],
            on_text=functools.partial(_tell, emit, start),
            **argument["settings"],
        )
        for place, text in enumerate(made.texts):
            score = {"score": made.scores[place]} if made.scores else {}
            ids, ended = made.ids[place], made.ended[place]
            rows.append({"text": text, "ids": ids, "ended": ended, **score})
        counted = {"prompt_tokens": made.prompt_tokens, "new_tokens": made.new_tokens}
        for name, count in (counted | vars(made.count)).items():
            totals[name] += count
        seconds["first"] += made.first_seconds
        seconds["all"] += made.seconds
        later += made.new_tokens - len(made.ids)
        notes += [note for note in made.notes if note not in notes]
    after = seconds["all"] - seconds["first"]
    rate = later / after if later and after > 0 else None
    return {"texts": rows, **totals, "seconds": seconds, "tokens_per_second": rate, "notes": notes}


def _given(generator: Generator, texts: list[str], chat: bool) -> dict[str, Any]:
    """Texts as they are, or as what a user says to the model."""
    if not chat:
        return {"texts": texts}
    return {"ids": [generator.chat_ids([{"role": "user", "content": text}]) for text in texts]}


def _tell(emit: Emit, start: int, row: int, text: str) -> None:
    emit({"row": start + row, "text": text})
