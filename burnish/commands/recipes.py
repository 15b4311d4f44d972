"""The command `optimize recipes`: those that are shipped, and what one says."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from burnish.commands import options
from burnish.commands.terminal import errors_as_lines, show
from burnish.driver.recipes import Recipe, named, shipped
from burnish.optimizer.yaml_files import written
from burnish.rendering.text import safe

Name = Annotated[str | None, typer.Argument(metavar="[NAME|FILE]", help="Print what it says.")]


def recipes(name: Name = None, json_file: options.Json = None) -> None:
    """List the recipes that are shipped, or print one (a file is checked)."""
    with errors_as_lines(name or "recipes", debug=False):
        if name is None:
            known = shipped()
            facts = {"recipes": {key: _facts(recipe) for key, recipe in known.items()}}
            show(facts, json_file, False, lambda console: _list(console, known))
            return
        recipe = named(name)
        told = written(dict(recipe.options), recipe.description)
        show(_facts(recipe), json_file, False, lambda console: print(told, end=""))


def _facts(recipe: Recipe) -> dict[str, object]:
    return {"description": recipe.description, "options": dict(recipe.options)}


def _list(console: Console, known: dict[str, Recipe]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, recipe in known.items():
        table.add_row(safe(name), safe(recipe.description))
    console.print(table)
