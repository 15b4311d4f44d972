"""The command line: parse, call the driver, render. No logic of its own.

`optimize MODEL` without a subcommand is the main job. The report goes to standard output,
progress and errors to standard error; exit codes are those of `optimizer.errors`.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any

import typer

from burnish import __version__, driver
from burnish.driver import Request
from burnish.optimizer.errors import UsageError, printable
from burnish.options import (
    Data,
    Debug,
    FastGelu,
    Force,
    Fp16,
    Int4,
    Int8,
    Json,
    Memory,
    Model,
    Opset,
    Pack,
    Precision,
    Provider,
    Quiet,
    Release,
    Seconds,
    Seed,
    Shape,
    Threads,
    Tokenizer,
    bytes_of,
    precision_of,
    release_of,
    shape_of,
)
from burnish.passes import registry
from burnish.rendering import (
    render_bench,
    render_compare,
    render_inspect,
    render_passes,
    render_report,
    render_run,
)
from burnish.terminal import MAIN, DefaultGroup, errors, errors_as_lines, progress_shown, show

_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""Click's UsageError; Typer carries a copy of Click of its own and exports only subclasses."""

INTERRUPTED = 130
"""Exit code after an interrupt at the prompt, as the shells have it."""

app = typer.Typer(
    cls=DefaultGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)


def _version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """An optimizing compiler for Transformers on ONNX.

    [bold]optimize MODEL[/bold] is the main job; [bold]optimize model --help[/bold] lists its
    options.
    """


@app.command(MAIN)
def main_job(
    model: Model,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Default: beside the input.")
    ] = None,
    int8: Int8 = False,
    int4: Int4 = False,
    fp16: Fp16 = False,
    precision: Precision = None,
    keep_embeddings: Annotated[
        bool, typer.Option("--keep-embeddings", help="Leave lookup tables in float32.")
    ] = False,
    level: Annotated[
        int,
        typer.Option("-O", min=0, max=3, help="0 copy, 1 exact, 2 exact and rounding, 3 likewise."),
    ] = 2,
    provider: Provider = "cpu",
    data: Data = None,
    tokenizer: Tokenizer = None,
    max_drop: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Loss the answer may have, 0 to 1.")
    ] = 0.01,
    speedup: Annotated[
        float | None, typer.Option(min=0.0, help="Exit with 1 where this is not reached.")
    ] = None,
    shape: Shape = None,
    threads: Threads = 0,
    opset: Opset = None,
    min_ort: Release = None,
    force: Force = False,
    pack: Pack = False,
    fast_gelu: FastGelu = False,
    seed: Seed = 0,
    memory_limit: Memory = None,
    time_limit: Seconds = None,
    tuning: Annotated[
        str | None, typer.Option(metavar="FILE", help="Record of measured choices to replay.")
    ] = None,
    json_file: Json = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do all but write.")] = False,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Skip the numerical verification.")
    ] = False,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Skip timing; choose by rules.")
    ] = False,
    quiet: Quiet = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Explain every pass.")] = False,
    debug: Debug = False,
) -> None:
    """Optimize a model (the main job; its name may be left out)."""
    with errors_as_lines(model, debug):
        request = Request(
            model=model, output=output, **precision_of(precision, int8=int8, int4=int4, fp16=fp16),
            keep_embeddings=keep_embeddings, level=level, provider=provider, data=data,
            tokenizer=tokenizer, max_drop=max_drop, speedup=speedup, json=json_file,
            shape=shape_of(shape), threads=threads, opset=opset, min_ort=release_of(min_ort),
            force=force, pack=pack, fast_gelu=fast_gelu, seed=seed, check=not no_check,
            memory_limit=bytes_of(memory_limit), time_limit=time_limit, tuning=tuning,
            measure=not no_measure, dry_run=dry_run,
        )  # fmt: skip
        with progress_shown(quiet) as progress:
            report = driver.optimize(request, progress).report
        show(report, json_file, quiet, lambda console: render_report(console, report, verbose))
        if missed := driver.missed(request, report):
            errors.print(printable(f"error: {model}: {missed}"), markup=False)
            raise typer.Exit(1)


@app.command()
def inspect(
    model: Model,
    shape: Shape = None,
    json_file: Json = None,
    memory_limit: Memory = None,
    time_limit: Seconds = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what a model is: ports, operators, weights, work, and what would be done."""
    with errors_as_lines(model, debug):
        request = Request(
            model, shape=shape_of(shape), memory_limit=bytes_of(memory_limit), time_limit=time_limit
        )
        facts = driver.inspect(request)
        show(facts, json_file, quiet, lambda console: render_inspect(console, facts))


@app.command()
def run(
    model: Model,
    data: Data = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Write the outputs to an .npz file.")
    ] = None,
    tokenizer: Tokenizer = None,
    shape: Shape = None,
    threads: Threads = 0,
    seed: Seed = 0,
    json_file: Json = None,
    memory_limit: Memory = None,
    time_limit: Seconds = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a model on data, or on made-up inputs."""
    with errors_as_lines(model, debug):
        request = Request(
            model, output=output, data=data, tokenizer=tokenizer, shape=shape_of(shape),
            threads=threads, seed=seed, memory_limit=bytes_of(memory_limit), time_limit=time_limit,
        )  # fmt: skip
        facts = driver.run(request)
        show(facts, json_file, quiet, lambda console: render_run(console, facts))


@app.command()
def bench(
    models: Annotated[
        list[str], typer.Argument(metavar="A [B ...]", help="The first is the baseline.")
    ],
    shape: Shape = None,
    provider: Provider = "cpu",
    threads: Threads = 0,
    seed: Seed = 0,
    json_file: Json = None,
    memory_limit: Memory = None,
    time_limit: Seconds = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Time models against the first: paired, in separate processes, stock sessions."""
    with errors_as_lines(models[0], debug):
        request = Request(
            models[0], shape=shape_of(shape), provider=provider, threads=threads,
            seed=seed, memory_limit=bytes_of(memory_limit), time_limit=time_limit,
        )  # fmt: skip
        with progress_shown(quiet) as progress:
            facts = driver.bench(request, models[1:], progress)
        show(facts, json_file, quiet, lambda console: render_bench(console, facts))


@app.command()
def compare(
    model: Model,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The model to compare with it.")],
    data: Data = None,
    tokenizer: Tokenizer = None,
    max_drop: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Exit with 1 where the loss is larger.")
    ] = None,
    provider: Provider = "cpu",
    seed: Seed = 0,
    json_file: Json = None,
    memory_limit: Memory = None,
    time_limit: Seconds = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare the outputs of two models on the same inputs."""
    with errors_as_lines(model, debug):
        request = Request(
            model, data=data, tokenizer=tokenizer, provider=provider, seed=seed,
            memory_limit=bytes_of(memory_limit), time_limit=time_limit,
        )  # fmt: skip
        facts = driver.compare(request, other)
        show(facts, json_file, quiet, lambda console: render_compare(console, facts))
        if max_drop is not None and (failed := driver.too_far(facts, max_drop)):
            errors.print(printable(f"error: {other}: {failed}"), markup=False)
            raise typer.Exit(1)


@app.command()
def passes(json_file: Json = None) -> None:
    """List the passes, in order, with one line each."""
    with errors_as_lines("passes", debug=False):
        rows = [
            {
                "name": item.name,
                "phase": item.phase.value,
                "promise": item.promise.kind.value,
                "summary": (item.__doc__ or "").strip().splitlines()[0],
            }
            for item in registry()
        ]
        show({"passes": rows}, json_file, False, lambda console: render_passes(console, rows))


def main() -> None:
    """Entry point of the scripts `optimize` and `burnish`."""
    try:
        # Outside of standalone mode an exit is a return value, and errors come through.
        signal.signal(signal.SIGTERM, _end)
        code = app(standalone_mode=False)
        if code == INTERRUPTED:
            errors.print("error: interrupted")
        sys.exit(code)
    except _USAGE_ERROR as error:
        errors.print(printable(f"error: {error.format_message()}; try optimize --help"))
        sys.exit(UsageError.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        errors.print("error: interrupted")
        sys.exit(INTERRUPTED)


def _end(number: int, frame: object) -> None:
    """Leave by way of every context, so that children end and nothing half-written stays."""
    sys.exit(128 + number)
