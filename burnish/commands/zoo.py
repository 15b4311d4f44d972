"""The command `optimize zoo`: parse, call the driver, show."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from burnish import driver
from burnish.commands import options
from burnish.commands.terminal import errors_as_lines, given, show
from burnish.commands.zoo_progress import shown
from burnish.driver import recipes
from burnish.driver.recipe_options import OPTIONS, checked
from burnish.driver.zoo import HTML, Order, convert
from burnish.driver.zoo.members import merged
from burnish.driver.zoo.page import figures, remark, summary
from burnish.rendering.report import safe

HEADS = ("model", "result", " size", " ratio", " speed", " loss", " attentions", "")
"""Of the table; figures, which stand on the right, begin with a space."""

STYLES = {"converted": "green", "unchanged": "dim", "missed": "red", "failed": "red"}


def zoo(
    context: typer.Context,
    models: Annotated[
        str,
        typer.Argument(metavar="ZOO", help="A folder, a list of paths, or YAML with patterns."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="Folder of the results.")],
    recipe: options.Recipe = None,
    int8: options.Int8 = False,
    int4: options.Int4 = False,
    fp16: options.Fp16 = False,
    precision: options.Precision = None,
    level: Annotated[int, typer.Option("-O", min=0, max=3, help="As for one model.")] = 2,
    provider: options.Provider = "cpu",
    data: options.Data = None,
    max_drop: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Loss an answer may have, 0 to 1.")
    ] = 0.01,
    shape: options.Shape = None,
    threads: options.Threads = 0,
    seed: options.Seed = 0,
    time_limit: options.Seconds = None,
    tuning: Annotated[
        str | None, typer.Option(metavar="FILE", help="Record of measured choices to replay.")
    ] = None,
    no_check: options.NoCheck = False,
    no_measure: options.NoMeasure = False,
    allow_pickle: options.AllowPickle = False,
    trust_remote_code: options.TrustCode = False,
    jobs: Annotated[int, typer.Option(min=0, help="Models at a time; 0: one per core.")] = 0,
    memory_limit: options.Memory = None,
    ray: options.Ray = None,
    since: Annotated[
        str | None, typer.Option(metavar="REPORT", help="Exit with 1 where it was better then.")
    ] = None,
    json_file: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Convert every model of a zoo; begun again, it goes on where it was ended."""
    with errors_as_lines(models, debug):
        order = Order(
            models, output, _given(context), jobs, options.bytes_of(memory_limit), since,
            allow_pickle, trust_remote_code, ray,
        )  # fmt: skip
        with shown(quiet) as progress:
            facts = convert(order, driver.optimize, driver.missed, progress)
        show(facts, json_file, quiet, lambda console: render_zoo(console, facts))
        raise typer.Exit(facts["exit_code"])


def _given(context: typer.Context) -> dict[str, Any]:
    """The options of the main job that were given; a recipe's where nothing was."""
    names = given(context) & OPTIONS.keys() - {"memory-limit"}
    own = checked({name: context.params[name.replace("-", "_")] for name in sorted(names)})
    recipe = context.params["recipe"]
    return merged(recipes.named(recipe).options, own) if recipe else own


def render_zoo(console: Console, facts: dict[str, Any]) -> None:
    """The rows of a zoo, and what has become worse since an earlier run."""
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for head in HEADS:
        rows.add_column(head.strip(), justify="right" if head.startswith(" ") else "left")
    for row in facts["members"]:
        style = STYLES[row["status"]]
        cells = (safe(text) for text in figures(row))
        why = safe(remark(row), 200)
        rows.add_row(safe(row["name"]), f"[{style}]{row['status']}[/{style}]", *cells, why)
    console.print(rows)
    known = f" ({facts['known']} of them known)" if facts["known"] else ""
    page = f"{facts['output']}/{HTML}"
    console.print(f"[bold]{summary(facts['summary'])}[/bold]{known}; {safe(page)}", soft_wrap=True)
    if (since := facts["since"]) is None:
        return
    for item in since["regressions"]:
        line = f"{item['name']}, {item['what']}: {item['text']}"
        console.print(f"[red]worse[/red] {safe(line, 300)}", soft_wrap=True)
    for note in since["notes"]:
        console.print(f"[yellow]note[/yellow] {safe(note, 300)}", soft_wrap=True)
    if not since["regressions"]:
        console.print(f"nothing is worse than in {safe(since['path'])}", soft_wrap=True)
