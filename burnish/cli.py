"""The command line: parse, call the driver, render. No logic of its own.

`optimize MODEL` without a subcommand is the main job. The report goes to standard output,
progress and errors to standard error; exit codes are those of `optimizer.errors`.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from burnish import __version__, driver
from burnish.commands import options
from burnish.commands.check import check
from burnish.commands.distill import distill
from burnish.commands.evaluate import evaluate
from burnish.commands.passes import passes
from burnish.commands.plan import plan
from burnish.commands.recipes import recipes as list_recipes
from burnish.commands.report import report
from burnish.commands.run import run
from burnish.commands.serve import serve
from burnish.commands.simulate import simulate
from burnish.commands.terminal import (
    MAIN,
    USAGE_ERROR,
    DefaultGroup,
    PanelledCommand,
    draw,
    errors,
    errors_as_lines,
    given,
    misused,
    progress_shown,
    show,
)
from burnish.commands.usage import epilog
from burnish.commands.zoo import zoo
from burnish.driver import Request, recipes
from burnish.optimizer.errors import UsageError, printable
from burnish.rendering.inspection import render_inspect
from burnish.rendering.report import (
    render_bench,
    render_compare,
    render_report,
)

INTERRUPTED = 130
"""Exit code after an interrupt at the prompt, as the shells have it."""

app = typer.Typer(
    cls=DefaultGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=epilog(""),
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
    options. Exit codes: 0 done, 1 a threshold was not met, 2 usage, 3 no valid model, 4 unsafe
    input, 5 a resource limit, 7 reading or writing failed, 130 interrupted.
    """


@app.command(MAIN, cls=PanelledCommand, epilog=epilog(MAIN))
def main_job(
    context: typer.Context,
    model: options.Source,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Default: beside the input.")
    ] = None,
    int8: options.Int8 = False,
    static: options.Static = False,
    int4: options.Int4 = False,
    fp16: options.Fp16 = False,
    precision: options.Precision = None,
    points: options.Points = False,
    keep_embeddings: options.KeepEmbeddings = False,
    level: Annotated[
        int,
        typer.Option("-O", min=0, max=3, help="0 copy, 1 exact, 2 exact and rounding, 3 likewise."),
    ] = 2,
    provider: options.Provider = "cpu",
    target: options.Target = "native",
    data: options.Data = None,
    tokenizer: options.Tokenizer = None,
    max_drop: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Loss the answer may have, 0 to 1.")
    ] = 0.01,
    speedup: Annotated[
        float | None,
        typer.Option(min=0.0, help="Searched for with --data; exit with 1 if not reached."),
    ] = None,
    shape: options.Shape = None,
    threads: options.Threads = 0,
    opset: options.Opset = None,
    min_ort: options.Release = None,
    force: options.Force = False,
    pack: options.Pack = False,
    kv_cache: options.KvCache = None,
    fast_gelu: options.FastGelu = False,
    window: options.Window = 0,
    global_tokens: options.GlobalTokens = 0,
    layers: options.Layers = None,
    prune: options.Prune = None,
    importance: options.Importance = None,
    low_rank: options.LowRank = False,
    sparsity: options.Sparsity = None,
    mask: options.Mask = None,
    sparse_storage: options.SparseStorage = False,
    languages: options.Languages = None,
    corpus: options.Corpus = None,
    keep_tokens: options.KeepTokens = None,
    keep_ids: options.KeepIds = False,
    min_coverage: options.MinCoverage = 0.9,
    seed: options.Seed = 0,
    memory_limit: options.Memory = None,
    time_limit: options.Seconds = None,
    tuning: Annotated[
        str | None, typer.Option(metavar="FILE", help="Record of measured choices to replay.")
    ] = None,
    task: options.Task = None,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustCode = False,
    recipe: options.Recipe = None,
    print_recipe: options.PrintRecipe = False,
    json_file: options.Json = None,
    html_file: options.Html = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do all but write.")] = False,
    no_check: options.NoCheck = False,
    no_measure: options.NoMeasure = False,
    quiet: options.Quiet = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Explain every pass.")] = False,
    debug: options.Debug = False,
) -> None:
    """Optimize a model (the main job; its name may be left out)."""
    with errors_as_lines(model, debug):
        request = Request(
            model=model, output=output, keep_embeddings=keep_embeddings, level=level,
            **options.precision_of(precision, int8=int8, int4=int4, fp16=fp16),
            points=points, static=static, provider=provider, data=data,
            tokenizer=tokenizer, max_drop=max_drop, speedup=speedup, json=json_file,
            html=html_file, profile=html_file is not None,
            shape=options.shape_of(shape), threads=threads, opset=opset,
            min_ort=options.release_of(min_ort), force=force, pack=pack, kv_cache=kv_cache,
            fast_gelu=fast_gelu, prune=prune, low_rank=low_rank, sparse_storage=sparse_storage,
            seed=seed, window=window, global_tokens=global_tokens, layers=options.layers_of(layers),
            sparsity=sparsity, mask=mask, importance=importance,
            languages=options.languages_of(languages), corpus=corpus, keep_tokens=keep_tokens,
            keep_ids=keep_ids, min_coverage=min_coverage, vocabulary=None,
            check=not no_check, measure=not no_measure, dry_run=dry_run, target_cpu=target,
            memory_limit=options.bytes_of(memory_limit), time_limit=time_limit, tuning=tuning,
            task=task, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code, turn=None,
        )  # fmt: skip
        if recipe:
            request = recipes.applied(recipes.named(recipe), request, given(context))
        if print_recipe:
            print(recipes.used(request), end="")
            return
        with progress_shown(quiet) as progress:
            facts = driver.optimize(request, progress).report
        show(facts, json_file, quiet, lambda console: render_report(console, facts, verbose))
        draw(facts, html_file)
        if missed := driver.missed(request, facts):
            errors.print(printable(f"error: {model}: {missed}"), markup=False)
            raise typer.Exit(1)


@app.command(cls=PanelledCommand, epilog=epilog("inspect"))
def inspect(
    model: options.Described,
    shape: options.Shape = None,
    json_file: options.Json = None,
    memory_limit: options.Memory = None,
    time_limit: options.Seconds = None,
    task: options.Task = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Say what a model is: architecture, weights, work, memory, and what would help."""
    with errors_as_lines(model, debug):
        request = Request(
            model, shape=options.shape_of(shape), task=task, time_limit=time_limit,
            memory_limit=options.bytes_of(memory_limit),
        )  # fmt: skip
        facts = driver.inspect(request)
        show(facts, json_file, quiet, lambda console: render_inspect(console, facts))


app.command(cls=PanelledCommand, epilog=epilog("run"))(run)
app.command(cls=PanelledCommand, epilog=epilog("serve"))(serve)
app.command(cls=PanelledCommand, epilog=epilog("plan"))(plan)
app.command(cls=PanelledCommand, epilog=epilog("simulate"))(simulate)


@app.command(cls=PanelledCommand, epilog=epilog("bench"))
def bench(
    models: Annotated[
        list[str], typer.Argument(metavar="A [B ...]", help="The first is the baseline.")
    ],
    shape: options.Shape = None,
    provider: options.Provider = "cpu",
    threads: options.Threads = 0,
    seed: options.Seed = 0,
    json_file: options.Json = None,
    memory_limit: options.Memory = None,
    time_limit: options.Seconds = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Time models against the first: paired, in separate processes, stock sessions."""
    with errors_as_lines(models[0], debug):
        request = Request(
            models[0], shape=options.shape_of(shape), provider=provider, threads=threads,
            seed=seed, memory_limit=options.bytes_of(memory_limit), time_limit=time_limit,
        )  # fmt: skip
        with progress_shown(quiet) as progress:
            facts = driver.bench(request, models[1:], progress)
        show(facts, json_file, quiet, lambda console: render_bench(console, facts))


@app.command(cls=PanelledCommand, epilog=epilog("compare"))
def compare(
    model: options.Model,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The model to compare with it.")],
    data: options.Data = None,
    tokenizer: options.Tokenizer = None,
    max_drop: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Exit with 1 where the loss is larger.")
    ] = None,
    provider: options.Provider = "cpu",
    seed: options.Seed = 0,
    json_file: options.Json = None,
    memory_limit: options.Memory = None,
    time_limit: options.Seconds = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Compare the outputs of two models on the same inputs."""
    with errors_as_lines(model, debug):
        request = Request(
            model, data=data, tokenizer=tokenizer, provider=provider, seed=seed,
            memory_limit=options.bytes_of(memory_limit), time_limit=time_limit,
        )  # fmt: skip
        facts = driver.compare(request, other)
        show(facts, json_file, quiet, lambda console: render_compare(console, facts))
        if max_drop is not None and (failed := driver.too_far(facts, max_drop)):
            errors.print(printable(f"error: {other}: {failed}"), markup=False)
            raise typer.Exit(1)


app.command(cls=PanelledCommand, epilog=epilog("evaluate"))(evaluate)
app.command(cls=PanelledCommand, epilog=epilog("check"))(check)
app.command(cls=PanelledCommand, epilog=epilog("distill"))(distill)
app.command(cls=PanelledCommand, epilog=epilog("recipes"))(list_recipes)
app.command(cls=PanelledCommand, epilog=epilog("zoo"))(zoo)
app.command(cls=PanelledCommand, epilog=epilog("report"))(report)
app.command(cls=PanelledCommand, epilog=epilog("passes"))(passes)


def main() -> None:
    """Entry point of the scripts `optimize` and `burnish`."""
    try:
        # Outside of standalone mode an exit is a return value, and errors come through.
        signal.signal(signal.SIGTERM, _end)
        code = app(standalone_mode=False)
        if code == INTERRUPTED:
            errors.print("error: interrupted")
        sys.exit(code)
    except USAGE_ERROR as error:
        errors.print(misused(error), markup=False)
        sys.exit(UsageError.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        errors.print("error: interrupted")
        sys.exit(INTERRUPTED)


def _end(number: int, frame: object) -> None:
    """Leave by way of every context, so that children end and nothing half-written stays."""
    sys.exit(128 + number)
