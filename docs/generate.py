"""Write what is made from the code: pages of passes, options and Python, and recipes' schema."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from typer.main import get_command

import burnish
from burnish.cli import app
from burnish.commands.terminal import MAIN
from burnish.commands.usage import EXAMPLES, PANEL_OF, PANELS
from burnish.driver.recipe_options import schema
from burnish.driver.request import Request
from burnish.optimizer.contract import Pass, Phase
from burnish.passes import registry

FOLDER = Path(__file__).parent
SCHEMA = Path(__file__).parents[1] / "burnish" / "recipes" / "schema.json"

PHASES = {
    Phase.RECOVER: "what exporters tore apart becomes standard operators again",
    Phase.RESTRUCTURE: "the same function, computed with less work",
    Phase.COMPRESS: "a smaller function within a budget",
    Phase.LOWER: "the forms measured fastest on the target",
}


def page(kind: type[Pass]) -> str:
    """The page of one pass."""
    lines = [
        f"# {kind.name}",
        "",
        f"Phase: {kind.phase.value}. Promise: {kind.promise.kind.value}"
        + (f", relative L2 error at most {kind.promise.rel_l2:g}." if kind.promise.rel_l2 else "."),
        "",
    ]
    for line in inspect.cleandoc(kind.__doc__ or "").splitlines():
        heading = line.endswith(":") and not line.startswith(" ")
        lines.append(f"\n## {line[:-1]}\n" if heading else line.strip())
    options = [f"- `{item.name}`: default `{item.default!r}`" for item in fields(kind)]  # type: ignore[arg-type]
    if options:
        lines += ["", "## Options", "", *options]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def contents() -> str:
    """The page that lists all passes, by phase and in order."""
    lines = [
        "# Passes",
        "",
        "In the order in which they run. `optimize passes` prints the same.",
        "",
    ]
    for phase, told in PHASES.items():
        lines += [f"## {phase.value}: {told}", "", "| pass | promise | |", "|---|---|---|"]
        for kind in registry():
            if kind.phase is phase:
                summary = inspect.cleandoc(kind.__doc__ or "").splitlines()[0]
                promise = kind.promise.kind.value
                lines.append(f"| [{kind.name}]({kind.name}.md) | {promise} | {_cell(summary)} |")
        lines.append("")
    return "\n".join(lines)


def options() -> str:
    """The page of all commands with their options, from the parser."""
    lines = [
        "# Options",
        "",
        "Of every command, from the parser itself. `optimize MODEL` is the command `model`, whose "
        "name may be left out.",
        "",
    ]
    for name, command in _commands():
        usage = f"optimize {name}" if name != MAIN else "optimize"
        arguments = " ".join(_argument(item) for item in command.params if not _flags(item))
        lines += [f"## {name}", "", inspect.cleandoc(command.help or ""), ""]
        lines += [f"    {' '.join(filter(None, (usage, arguments)))} [OPTIONS]", ""]
        for typed, told in EXAMPLES.get(name, ()):
            lines.append(f"- `{typed}`: {told}")
        lines.append("")
        for panel, rows in _panels(command):
            lines += [
                f"### {name}: {panel}",
                "",
                "| option | default | |",
                "|---|---|---|",
                *rows,
                "",
            ]
    return "\n".join(lines).rstrip() + "\n"


def _commands() -> Iterator[tuple[str, Any]]:
    group: Any = get_command(app)
    yield from group.commands.items()


def _argument(item: Any) -> str:
    return str(item.metavar or item.name.upper())


def _flags(item: Any) -> list[str]:
    return [name for name in item.opts if name.startswith("-")]


def _panels(command: Any) -> Iterator[tuple[str, list[str]]]:
    rows: dict[str, list[str]] = {panel: [] for panel in (*PANELS, "other")}
    for item in command.params:
        if names := [*_flags(item), *item.secondary_opts]:
            rows[PANEL_OF.get(item.name, "other")].append(_row(item, names))
    yield from ((panel, found) for panel, found in rows.items() if found)


def _row(item: Any, names: list[str]) -> str:
    told = ", ".join(f"`{name}`" for name in names)
    if item.metavar and not item.is_flag:
        told += f" {_cell(item.metavar)}"
    default = "" if item.default in (None, False) or callable(item.default) else f"`{item.default}`"
    return f"| {told} | {default} | {_cell(item.help or '')} |"


def _cell(text: str) -> str:
    """Text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def python() -> str:
    """The page of the Python interface, from docstrings and signatures."""
    lines = ["# Python", "", _prose(burnish), ""]
    for name in burnish.__all__:
        item = getattr(burnish, name)
        if inspect.isfunction(item):
            lines += [f"## burnish.{name}", "", "```python", _signature(name, item), "```", ""]
            lines += [_prose(item), ""]
        elif inspect.isclass(item):
            lines += [f"## burnish.{name}", "", _prose(item), ""]
            if typing.is_typeddict(item):
                lines += [*_fields(item), "", _prose(Request).partition("**Attributes**")[2], ""]
            else:
                lines += [*_methods(item)]
    return "\n".join(lines).rstrip() + "\n"


def _signature(name: str, item: Any) -> str:
    """A function's parameters, one a line, as they are written."""
    rows, apart = [], False
    for parameter in inspect.signature(item).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not apart:
            rows.append("    *,")
            apart = True
        stars = "**" if parameter.kind is parameter.VAR_KEYWORD else ""
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        rows.append(f"    {stars}{parameter.name}: {parameter.annotation}{default},")
    return "\n".join([f"burnish.{name}(", *rows, ")"])


def _prose(item: Any) -> str:
    """A docstring as Markdown: what is indented below a heading as a list, an example as code."""
    lines: list[str] = []
    heading = ""
    for line in inspect.cleandoc(item.__doc__ or "").splitlines():
        if line.endswith(":") and not line.startswith(" "):
            heading = line
            lines += [f"**{line[:-1]}**", ""]
        elif not line.startswith(" "):
            if heading == "Example:" and line:  # the text goes on behind it
                heading = ""
            lines.append(line)
        elif heading == "Example:":
            lines.append(line)
        else:
            deeper = line.startswith("     ")
            lines.append(f"  {line.strip()}" if deeper else f"- {line.strip()}")
    return "\n".join(lines).strip()


def _fields(item: Any) -> list[str]:
    defaults = {field.name: field.default for field in fields(Request)}
    rows = ["| option | type | default |", "|---|---|---|"]
    for name, kind in item.__annotations__.items():
        text = getattr(kind, "__forward_arg__", str(kind))
        default = defaults[name] if isinstance(defaults[name], str | int | float | None) else "()"
        rows.append(f"| `{name}` | {_cell(str(text))} | `{default}` |")
    return rows


def _methods(item: Any) -> Iterator[str]:
    for name, member in vars(item).items():
        if inspect.isfunction(member) and not name.startswith("_"):
            yield from (f"### {item.__name__}.{name}", "", _prose(member), "")


def pages() -> dict[str, str]:
    """All of them, by file."""
    made = {f"passes/{kind.name}.md": page(kind) for kind in registry()}
    made["passes/index.md"] = contents()
    made["reference/options.md"] = options()
    made["reference/python.md"] = python()
    return made


def main() -> None:
    """Write all pages, and the schema."""
    for name, text in pages().items():
        (FOLDER / name).parent.mkdir(exist_ok=True)
        (FOLDER / name).write_text(text)
    SCHEMA.write_text(json.dumps(schema(), indent=2) + "\n")


if __name__ == "__main__":
    main()
