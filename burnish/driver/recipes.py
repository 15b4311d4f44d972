"""Recipes: options under a name, shipped with the package or in a YAML file of the user's."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from burnish.driver.recipe_options import (
    BY_PRECISION,
    DESCRIPTION,
    checked,
    fields_of,
    options_of,
)
from burnish.driver.request import Request
from burnish.optimizer import yaml_files
from burnish.optimizer.errors import UsageError, about

SUFFIXES = (".yaml", ".yml")

PRECISION = frozenset(BY_PRECISION[:4])
"""Options that say a precision; the rest of `BY_PRECISION` says more of it."""


@dataclass(frozen=True)
class Recipe:
    """Options by their names at the prompt.

    Attributes:
        name: of a shipped one, or the path of the file.
        description: one line for readers.
        options: plain values; see `recipe_options.checked`.
    """

    name: str
    description: str
    options: Mapping[str, Any]


def shipped() -> dict[str, Recipe]:
    """The recipes that come with the package, by name."""
    folder = resources.files("burnish") / "recipes"
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(SUFFIXES[0]))
    texts = {name: (folder / name).read_text("utf-8") for name in names}
    return {
        name.removesuffix(SUFFIXES[0]): recipe_of(
            name.removesuffix(SUFFIXES[0]), yaml_files.parsed(text)
        )
        for name, text in texts.items()
    }


def named(recipe: str) -> Recipe:
    """The recipe of that name, or in that file.

    Raises:
        UsageError: there is no such recipe, or it is none.
        StorageError: the file cannot be read.
    """
    path = Path(recipe)
    if not (path.suffix in SUFFIXES or os.sep in recipe):
        known = shipped()
        if recipe in known:
            return known[recipe]
        nearest = get_close_matches(recipe, known, 1, 0.5)
        raise UsageError(
            f"there is no recipe {recipe}", hint=nearest[0] if nearest else ", ".join(known)
        )
    values = yaml_files.read(path)
    with about(path):
        return recipe_of(recipe, values, path.parent)


def recipe_of(name: str, values: Any, folder: Path | None = None) -> Recipe:
    """The recipe that plain values are; `folder` is that of their file.

    Raises:
        UsageError: they are none.
    """
    if not isinstance(values, dict):
        raise UsageError("a recipe is options by name", hint="a line as `int8: true`")
    told = values.get(DESCRIPTION, "")
    if not isinstance(told, str):
        raise UsageError(f"{DESCRIPTION} is a text")
    options = {key: value for key, value in values.items() if key != DESCRIPTION}
    return Recipe(name, told.strip(), checked(options, folder))


def applied(recipe: Recipe, request: Request, given: Collection[str]) -> Request:
    """The request with a recipe's options, but for those that the user gave.

    Args:
        recipe: what is used where the user says nothing.
        request: what the user asks for.
        given: the options that were given, by their names at the prompt. A precision among them
            takes the place of the recipe's, and of what that says of it.
    """
    displaced = {*given, *(BY_PRECISION if PRECISION & set(given) else ())}
    rest = {name: value for name, value in recipe.options.items() if name not in displaced}
    return replace(request, **fields_of(rest))


def used(request: Request) -> str:
    """A request's options as a recipe in YAML."""
    options = options_of(request)
    return yaml_files.written(options) if options else "{}\n"
