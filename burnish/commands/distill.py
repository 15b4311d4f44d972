"""The command `optimize distill`: a smaller model that answers as a larger one does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from burnish.commands import options
from burnish.commands.terminal import errors, errors_as_lines, progress_shown, show
from burnish.driver import Progress, Request
from burnish.driver.students import ADAMW, Distilling
from burnish.driver.students import distill as distilled
from burnish.optimizer.errors import printable
from burnish.rendering.distill import render_distill

INTERRUPTED = 130
"""Exit code where an interrupt ended the training; the best so far is written."""

Student = Annotated[
    str,
    typer.Option(
        "--student", metavar="SPEC",
        help="A model file, or what is kept: layers=2,heads=4,channels=0.5.",
    ),
]  # fmt: skip
Output = Annotated[
    str | None, typer.Option("--output", "-o", help="Default: TEACHER.student.onnx.")
]
Steps = Annotated[int, typer.Option(min=0, help="End after so many batches.")]
Minutes = Annotated[float, typer.Option(min=0.0, help="End after so long.")]
Rate = Annotated[
    float, typer.Option("--rate", min=1e-8, max=1.0, help="Learning rate at its largest.")
]
Optimizer = Annotated[
    str,
    typer.Option("--optimizer", metavar="NAME", help="adamw, or muon: fewer, longer steps."),
]
Batch = Annotated[int, typer.Option("--batch", min=1, max=4096, help="Texts of a batch.")]
Patience = Annotated[
    int, typer.Option(min=1, help="End after so many judgements (of 40) without a better one.")
]
Loss = Annotated[float, typer.Option(min=0.0, help="Weight of answers; 0 leaves them out.")]
Hidden = Annotated[float, typer.Option(min=0.0, help="Weight of states behind layers.")]
Relations = Annotated[
    float, typer.Option(min=0.0, help="Weight of who attends to whom in the last layer.")
]
Temperature = Annotated[
    float,
    typer.Option("--temperature", min=0.1, help="Above 1: unlikely classes are learned as well."),
]
Longest = Annotated[
    int, typer.Option("--max-length", min=0, help="Pieces of a text past which it is cut.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where training was ended.")]


def distill(
    teacher: options.Source,
    student: Student,
    data: options.Data = None,
    output: Output = None,
    minutes: Minutes = 0.0,
    steps: Steps = 0,
    learning_rate: Rate = 5e-4,
    batch_size: Batch = 32,
    patience: Patience = 10,
    logits: Loss = 1.0,
    hidden: Hidden = 1.0,
    relations: Relations = 1.0,
    softening: Temperature = 2.0,
    max_length: Longest = 0,
    optimizer: Optimizer = ADAMW,
    resume: Resume = False,
    tokenizer: options.Tokenizer = None,
    task: options.Task = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustCode = False,
    threads: options.Threads = 0,
    seed: options.Seed = 0,
    json_file: options.Json = None,
    memory_limit: options.Memory = None,
    time_limit: options.Seconds = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a student to answer as its teacher does; no labels are needed."""
    with errors_as_lines(teacher, debug):
        request = Request(
            teacher, output=output, data=data, tokenizer=tokenizer, task=task, seed=seed,
            allow_pickle=allow_pickle, trust_remote_code=trust_remote_code, threads=threads,
            memory_limit=options.bytes_of(memory_limit), time_limit=time_limit,
        )  # fmt: skip
        asked = Distilling(
            student, steps, minutes, learning_rate, batch_size, patience, logits, hidden,
            relations, softening, max_length, resume, optimizer,
        )  # fmt: skip
        with _training_shown(quiet) as progress:
            facts = distilled(request, asked, progress).report
        show(facts, json_file, quiet, lambda console: render_distill(console, facts))
        if facts["training"]["ended"] == "interrupted":
            raise typer.Exit(INTERRUPTED)


@contextlib.contextmanager
def _training_shown(quiet: bool) -> Iterator[Progress]:
    """A bar with the loss on a terminal; elsewhere a line for each stage and judgement."""
    if quiet:
        yield lambda event: None
    elif errors.is_terminal and sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"), BarColumn(bar_width=30),
            TextColumn("{task.fields[told]}"), TimeRemainingColumn(),
        )  # fmt: skip
        with Bars(*columns, console=errors, transient=True) as bars:
            bar = bars.add_task("starting", total=None, told="")

            def tell(event: dict[str, Any]) -> None:
                bars.update(bar, description=printable(str(event.get("stage"))))
                if "done" in event:
                    bars.update(bar, completed=event["done"], total=1.0)
                if "fidelity" in event:
                    bars.update(bar, told=_told(event))

            yield tell
    else:
        with progress_shown(quiet) as say:

            def line(event: dict[str, Any]) -> None:
                say({"stage": _told(event)} if "fidelity" in event else event)

            yield line


def _told(event: dict[str, Any]) -> str:
    """A judgement in words."""
    return f"step {event['step']}: loss {event['loss']:.4f}, fidelity {event['fidelity']:.4f}"
