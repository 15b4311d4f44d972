"""Write `docs/passes/NAME.md` for every registered pass from its docstring, and recipes' schema."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from pathlib import Path

from burnish.driver.recipe_options import schema
from burnish.optimizer.contract import Pass
from burnish.passes import registry

FOLDER = Path(__file__).parent / "passes"
SCHEMA = Path(__file__).parents[1] / "burnish" / "recipes" / "schema.json"


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


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for kind in registry():
        (FOLDER / f"{kind.name}.md").write_text(page(kind))
    SCHEMA.write_text(json.dumps(schema(), indent=2) + "\n")


if __name__ == "__main__":
    main()
