"""The command `optimize check`: a model against the report of an earlier run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish import driver
from burnish.commands import options
from burnish.commands.terminal import as_json, errors, errors_as_lines, given, progress_shown, show
from burnish.driver import Gate, Request, gate, recipes
from burnish.driver.verdicts import Bounds
from burnish.optimizer.errors import printable
from burnish.optimizer.saving import write_text
from burnish.rendering.check import append_summary, junit, markdown, text

SUMMARY = "GITHUB_STEP_SUMMARY"
"""Names the file that a GitHub job shows as its summary."""

BESIDE = ("rows", "passed", "failed", "against", "missed")
"""What a check says that no baseline holds."""

Against = Annotated[
    str, typer.Option("--against", metavar="BASELINE.json", help="A report of an earlier run.")
]
Optimized = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="The artifact; default: compile as for the baseline."),
]
Update = Annotated[
    bool, typer.Option("--update", help="Write the baseline from this run; nothing is judged.")
]
LatencyRatio = Annotated[
    float,
    typer.Option(
        "--max-latency-ratio", min=0.0, help="Share of the input's time, over the baseline's."
    ),
]
SizeRatio = Annotated[
    float, typer.Option("--max-size-ratio", min=0.0, help="Bytes over the baseline's.")
]
Drop = Annotated[
    float,
    typer.Option("--max-drop", min=0.0, max=1.0, help="Loss on top of the baseline's."),
]
Junit = Annotated[
    str | None, typer.Option("--junit", metavar="FILE", help="Write the rows as JUnit XML.")
]
Output = Annotated[
    str | None, typer.Option("--output", "-o", help="Keep the artifact that was compiled.")
]


def check(
    context: typer.Context,
    model: options.Model,
    against: Against,
    optimized: Optimized = None,
    output: Output = None,
    recipe: options.Recipe = None,
    max_latency_ratio: LatencyRatio = 1.1,
    max_size_ratio: SizeRatio = 1.05,
    max_drop: Drop = 0.01,
    update: Update = False,
    data: options.Data = None,
    tokenizer: options.Tokenizer = None,
    shape: options.Shape = None,
    provider: options.Provider = "cpu",
    threads: options.Threads = 0,
    no_measure: options.NoMeasure = False,
    seed: options.Seed = 0,
    json_file: options.Json = None,
    junit_file: Junit = None,
    memory_limit: options.Memory = None,
    time_limit: options.Seconds = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Hold size, loss and speed to a baseline: exit code 1, and the row, where one is worse."""
    begun = time.monotonic()
    with errors_as_lines(model, debug):
        bounds = Bounds(max_latency_ratio, max_size_ratio, max_drop)
        asked = Gate(against, optimized, bounds, update)
        before = gate.baseline(asked)
        request = Request(
            model, output=output, data=data, tokenizer=tokenizer, shape=options.shape_of(shape),
            provider=provider, threads=threads, seed=seed, measure=not no_measure,
            memory_limit=options.bytes_of(memory_limit), time_limit=time_limit,
        )  # fmt: skip
        if used := _recipe(recipe, before, asked):
            # The bound of the gate is not the budget of the compilation.
            request = recipes.applied(used, request, given(context) - {"max-drop"})
        with progress_shown(quiet) as progress:
            facts = driver.check(request, asked, before, progress)
        if update:
            write_text(Path(against), as_json(_baseline(facts)) + "\n")
        _show(facts, model, json_file, junit_file, quiet, time.monotonic() - begun)
    if not facts["passed"]:
        for line in facts["failed"]:
            errors.print(printable(f"error: {model}: {line}"), markup=False)
        raise typer.Exit(1)


def _recipe(name: str | None, before: dict[str, Any] | None, asked: Gate) -> recipes.Recipe | None:
    """The options that are used where the user gives none: the recipe's, else the baseline's."""
    if name:
        return recipes.named(name)
    return gate.recipe_of(before, asked) if before else None


def _baseline(facts: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key not in BESIDE}


def _show(
    facts: dict[str, Any],
    model: str,
    json_file: str | None,
    junit_file: str | None,
    quiet: bool,
    seconds: float,
) -> None:
    """The rows, wherever they are wanted."""
    if not quiet and json_file != "-":
        print(text(facts, model), end="")
    if json_file:
        show(facts, json_file, True, lambda console: None)
    if junit_file:
        write_text(Path(junit_file), junit(facts, model, seconds))
    if summary := os.environ.get(SUMMARY):
        append_summary(Path(summary), markdown(facts, model))
