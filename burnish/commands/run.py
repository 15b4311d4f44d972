"""The command `optimize run`: a model on data, or an artifact on texts and images."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish import driver
from burnish.commands import options
from burnish.commands.terminal import errors, errors_as_lines, show
from burnish.driver import Request, on_ray
from burnish.optimizer.errors import StorageError, UsageError, printable, reason_of
from burnish.rendering.answers import render_answers
from burnish.rendering.report import render_run
from burnish.runtimes.stages import is_pipeline

STDIN = "-"


def run(
    model: options.Artifact,
    text: options.Text = None,
    file: options.TextFile = None,
    lines: options.Lines = False,
    image: options.Images = None,
    context: options.Context = None,
    classes: options.Classes = None,
    task: options.Task = None,
    chat: options.Chat = False,
    language: options.Language = None,
    max_new_tokens: options.NewTokens = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    beams: options.Beams = None,
    speculate: options.Speculate = None,
    repetition_penalty: options.Repetition = None,
    stop: options.Stop = None,
    data: options.Data = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Write the outputs to an .npz file.")
    ] = None,
    tokenizer: options.Tokenizer = None,
    shape: options.Shape = None,
    provider: options.Provider = "cpu",
    threads: options.Threads = 0,
    ray: options.Ray = None,
    seed: options.Seed = 0,
    json_file: options.Json = None,
    memory_limit: options.Memory = None,
    time_limit: options.Seconds = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Run an artifact on texts or images; or a model on data, or on made-up inputs."""
    settings = {
        "max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k,
        "top_p": top_p, "min_p": min_p, "num_beams": beams, "speculate": speculate,
        "repetition_penalty": repetition_penalty, "stop_strings": stop or None, "seed": seed,
    }  # fmt: skip
    with errors_as_lines(model, debug):
        request = Request(
            model, output=output, data=data, tokenizer=tokenizer, shape=options.shape_of(shape),
            provider=provider, threads=threads, seed=seed, time_limit=time_limit,
            memory_limit=options.bytes_of(memory_limit), task=task,
        )  # fmt: skip
        answers = Path(model).is_dir() and not is_pipeline(Path(model))
        if text or file or image or (answers and not data):
            if data or output or shape:
                raise UsageError("--data, -o and --shape are for runs on neither texts nor images")
            argument = {
                "texts": [] if image else _texts(text, file, lines), "images": image or [],
                "context": context, "classes": classes.split(",") if classes else [],
                "language": language, "chat": chat, "settings": settings,
            }  # fmt: skip
            _run_artifact(request, argument, json_file, quiet, ray)
            return
        facts = driver.run(request) if ray is None else on_ray.run(request, ray)
        show(facts, json_file, quiet, lambda console: render_run(console, facts))


def _texts(given: list[str] | None, file: str | None, lines: bool) -> list[str]:
    """What to run on: texts, a file, or what comes through a pipe."""
    if given and file:
        raise UsageError("--text and --file exclude each other")
    if given:
        return given
    if file is None and sys.stdin.isatty():
        raise UsageError("there is nothing to go on from", hint="--text, --file, or a pipe")
    try:
        read = sys.stdin.read() if file in (None, STDIN) else Path(str(file)).read_text("utf-8")
    except (OSError, UnicodeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is no text in UTF-8"
        raise StorageError(f"{file or 'the input'} cannot be read: {reason}") from None
    texts = [line for line in read.splitlines() if line.strip()] if lines else [read.rstrip("\n")]
    if not any(texts):
        raise UsageError("there is no text in it")
    return texts


def _run_artifact(
    request: Request,
    argument: dict[str, Any],
    json_file: str | None,
    quiet: bool,
    ray: str | None,
) -> None:
    """Print answers; texts that are written, as they come, and what they took at the end."""
    shown = json_file != "-" and not quiet
    several = len(argument["texts"]) > 1 or ray is not None
    write = _writer() if shown and not several else None
    facts = (
        driver.run_artifact(request, argument, lambda event: write(event) if write else None)
        if ray is None
        else on_ray.run_artifact(request, argument, ray)
    )
    if "answers" in facts:
        show(facts, json_file, quiet, lambda console: render_answers(console, facts))
        return
    if shown:
        for row in facts["texts"] if several else ():
            print(_seen(row["text"].replace("\n", " ")))
        if not several:
            print()
        for note in facts["notes"]:
            errors.print(printable(f"note: {note}"), markup=False)
        if ray is None:
            errors.print(printable(summary(facts)), markup=False)
    show(facts, json_file, True, lambda console: None)


def _writer() -> Callable[[dict[str, Any]], None]:
    """Writes pieces of one text at once."""

    def write(event: dict[str, Any]) -> None:
        sys.stdout.write(_seen(event.get("text", "")))
        sys.stdout.flush()

    return write


def _seen(text: str) -> str:
    """Text for where it goes: a terminal gets nothing that it would act on."""
    if not sys.stdout.isatty():
        return text
    return "".join(sign for sign in text if sign.isprintable() or sign in "\n\t")


def summary(facts: dict[str, Any]) -> str:
    """One line about what was generated, and how fast."""
    rate = facts["tokens_per_second"]
    told = [
        f"{facts['new_tokens']} tokens in {facts['seconds']['all']:.2f} s",
        f"the first after {facts['seconds']['first']:.2f} s ({facts['prompt_tokens']} read)",
    ]
    if rate is not None:
        told.append(f"{rate:.1f} tokens per second after it")
    if facts["proposed"]:
        told.append(f"{facts['right']} of {facts['proposed']} guessed tokens came")
    return ", ".join(told)
