"""The command `optimize evaluate`, and its tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from burnish import driver
from burnish.commands import options
from burnish.commands.terminal import errors, errors_as_lines, progress_shown, show
from burnish.driver import Request
from burnish.optimizer.errors import UsageError, printable
from burnish.optimizer.metrics.scores import F1, PRECISION, RECALL, SUPPORT
from burnish.rendering.text import safe

ALL = "all"

SHORT = {PRECISION: "P", RECALL: "R"}
"""How measures are headed."""

Row = Mapping[str, float]


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="ARTIFACT", help="A folder, or .onnx beside its tokenizer.")
    ],
    data: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Annotated: .jsonl, .txt, columns, a folder of these."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="OTHER", help="The artifact that it is held against.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="POINTS", help="Exit with 1 where a group loses more."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="T", help="What it is for; default: as it says.")
    ] = None,
    tokenizer: options.Tokenizer = None,
    provider: options.Provider = "cpu",
    threads: options.Threads = 0,
    json_file: options.Json = None,
    memory_limit: options.Memory = None,
    time_limit: options.Seconds = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Task metrics of an artifact on annotated data, by class and by group."""
    with errors_as_lines(model, debug):
        if max_drop is not None and against is None:
            raise UsageError("--max-drop is a loss against another artifact", hint="--against")
        request = Request(
            model, data=data, task=task, tokenizer=tokenizer, provider=provider, threads=threads,
            memory_limit=options.bytes_of(memory_limit), time_limit=time_limit,
        )  # fmt: skip
        with progress_shown(quiet) as progress:
            facts = driver.evaluate(request, against, progress)
        show(facts, json_file, quiet, lambda console: render_evaluation(console, facts))
        if max_drop is not None and (failed := driver.worse(facts, max_drop)):
            errors.print(printable(f"error: {model}: {failed}"), markup=False)
            raise typer.Exit(1)


def render_evaluation(console: Console, facts: dict[str, Any]) -> None:
    """The scores of one model, or of two side by side: by class, then by group."""
    models = facts["models"]
    for title, model in zip(_titles(len(models)), models, strict=True):
        console.print(f"{title}: {safe(model['path'])}", soft_wrap=True)
    scores = [model["scores"] for model in models]
    classes = [one[ALL]["classes"] for one in scores]
    if classes[0]:
        names = [*dict.fromkeys(name for one in classes for name in one)]
        names.sort(key=lambda name: name in ("micro", "macro"))
        empty = dict.fromkeys((PRECISION, RECALL, F1, SUPPORT), 0.0)
        rows = [(name, [one.get(name, empty) for one in classes]) for name in names]
        console.print(_table("By class", rows, (PRECISION, RECALL, F1), F1))
    groups = [
        (name, [one[name]["whole"] | {SUPPORT: one[name]["support"]} for one in scores])
        for name in scores[0]
    ]
    measures = tuple(scores[0][ALL]["whole"])
    title = "By group" if len(groups) > 1 else facts["task"].capitalize()
    console.print(_table(title, groups, measures, facts["metric"]))
    for note in facts["warnings"]:
        console.print(f"[yellow]note[/yellow] {safe(note, 300)}", soft_wrap=True)


def _titles(count: int) -> list[str]:
    return ["before", "after"] if count == 2 else ["model"]


def _table(
    title: str, rows: Iterable[tuple[str, list[Row]]], measures: tuple[str, ...], headline: str
) -> Table:
    """A row for each name, with the scores of every model; the difference is that of a headline."""
    rows = list(rows)
    names = _titles(len(rows[0][1]))
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column(SUPPORT, justify="right", no_wrap=True)
    for name in names:
        for measure in measures:
            head = SHORT.get(measure, measure)
            head = f"{name}\n{head}" if len(names) > 1 else head
            table.add_column(head, justify="right", no_wrap=True)
    if len(names) > 1:
        table.add_column(f"difference\n{headline}", justify="right", no_wrap=True)
    for name, scores in rows:
        cells = [safe(name, 40), f"{max(score[SUPPORT] for score in scores):.0f}"]
        cells += [f"{score[measure]:.2f}" for score in scores for measure in measures]
        if len(scores) > 1:
            cells.append(f"{scores[1][headline] - scores[0][headline]:+.2f}")
        table.add_row(*cells)
    return table
