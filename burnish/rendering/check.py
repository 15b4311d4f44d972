"""What a check found: as plain text, as Markdown, and as JUnit XML.

All of it is the same with a terminal and without: no colours, no widths of a screen.
"""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

from burnish.driver.verdicts import FAILED, LOSS, UNJUDGED
from burnish.optimizer.errors import StorageError, printable, reason_of
from burnish.rendering.report import safe, size

Facts = dict[str, Any]
Row = dict[str, Any]

WIDTH = 120

HEADS = ("", "baseline", "this run", "change", "allowed", "")


def text(facts: Facts, model: str) -> str:
    """The rows as a table, and what else is to be known."""
    lines = io.StringIO()
    console = Console(
        file=lines, width=WIDTH, color_system=None, force_terminal=False, highlight=False
    )
    console.print(safe(_headline(facts, model), 300), soft_wrap=True)
    if facts["rows"]:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for head in HEADS:
            table.add_column(head, no_wrap=True)
        for row in facts["rows"]:
            table.add_row(*(safe(cell, 60) for cell in _cells(row)))
        console.print(table)
    else:
        console.print(safe(_summary(facts), 300), soft_wrap=True)
    for row in facts["rows"]:
        if row["reason"]:
            console.print(safe(f"{row['name']}: {row['reason']}", 300), soft_wrap=True)
    for note in facts["warnings"]:
        console.print(f"note: {safe(note, 300)}", soft_wrap=True)
    return "".join(line.rstrip() + "\n" for line in lines.getvalue().splitlines())


def markdown(facts: Facts, model: str) -> str:
    """The same for the summary of a GitHub job."""
    lines = [f"### {_marked(_headline(facts, model))}", ""]
    if facts["rows"]:
        lines += [_line(HEADS), "|---|---|---|---|---|---|"]
        for row in facts["rows"]:
            cells = [_marked(cell) for cell in _cells(row)]
            cells[-1] = f"**{cells[-1]}**" if row["status"] == FAILED else cells[-1]
            lines.append(_line(cells))
    else:
        lines.append(_marked(_summary(facts)))
    told = [f"{row['name']}: {row['reason']}" for row in facts["rows"] if row["reason"]]
    lines += ["", *(f"- {_marked(note)}" for note in (*told, *facts["warnings"]))]
    return "\n".join(lines) + "\n\n"


def junit(facts: Facts, model: str, seconds: float) -> str:
    """The same as JUnit XML: a test case for each row.

    Args:
        facts: of the check.
        model: as the user named it.
        seconds: that the whole took.
    """
    rows = facts["rows"]
    counts = {
        "tests": str(len(rows)),
        "failures": str(sum(row["status"] == FAILED for row in rows)),
        "errors": "0",
        "skipped": str(sum(row["status"] == UNJUDGED for row in rows)),
        "time": f"{seconds:.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": "burnish", **counts})
    name = printable(f"optimize check {model}")
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **counts})
    for row in rows:
        case = {"classname": printable(f"check.{Path(model).name}"), "name": printable(row["name"])}
        item = ElementTree.SubElement(suite, "testcase", case | {"time": "0"})
        told = printable(", ".join(filter(None, (": ".join(_pairs(row)), row["reason"]))))
        if row["status"] == FAILED:
            ElementTree.SubElement(item, "failure", {"message": told, "type": "threshold"})
        elif row["status"] == UNJUDGED:
            ElementTree.SubElement(item, "skipped", {"message": told})
    ElementTree.indent(root)
    return ElementTree.tostring(root, "unicode", xml_declaration=True) + "\n"


def append_summary(path: Path, told: str) -> None:
    """Add to the summary of a job, which other steps write to as well.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(told)
    except OSError as error:
        failure = StorageError(f"the summary cannot be written: {reason_of(error)}")
        failure.file = str(path)
        raise failure from None


def _headline(facts: Facts, model: str) -> str:
    against = facts["against"]["path"]
    if not facts["rows"]:
        return f"{model}: the baseline {against} is written"
    return f"{model} against {against}: {'passed' if facts['passed'] else FAILED}"


def _summary(facts: Facts) -> str:
    """What a new baseline says."""
    before, after = facts["input"]["bytes"], facts["output"]["bytes"]
    told = [f"size {size(after)}, {after / max(before, 1):.3f} of the input's"]
    if latency := facts["latency"]:
        low, high = latency["ci95"]
        told.append(f"{latency['speedup']:.3f} times as fast ({low:.3f} to {high:.3f})")
    if fidelity := facts["fidelity"]:
        told.append(f"loss {fidelity['drop']:.3g} ({fidelity['metric']}, {fidelity['feeds']})")
    return "; ".join(told)


def _cells(row: Row) -> list[str]:
    """A row in words."""
    shown = [_number(row["unit"], row[name]) for name in ("baseline", "current")]
    change = ""
    if row["change"] is not None:
        change = f"{row['change']:+.3g}" if row["unit"] == LOSS else f"{row['change']:.3f} times"
    if row["interval"]:
        low, high = row["interval"]
        change += f" ({low:.3f} to {high:.3f})"
    allowed = f"+{row['allowed']:g}" if row["unit"] == LOSS else f"{row['allowed']:g} times"
    name = f"{row['name']}, share of the input's" if row["unit"] == "ratio" else row["name"]
    if row["change"] is None and row["baseline"] is None and row["current"] is None:
        name, allowed = row["name"], ""
    return [name, *shown, change, allowed, row["status"]]


def _pairs(row: Row) -> list[str]:
    """What a row says, in one line's parts."""
    cells = _cells(row)
    heads = ("baseline", "this run", "change", "allowed")
    said = [f"{head} {cell}" for head, cell in zip(heads, cells[1:5], strict=True) if cell]
    return [row["name"], ", ".join(said)] if said else [row["name"]]


def _number(unit: str, value: float | None) -> str:
    if value is None:
        return ""
    return {"bytes": size, LOSS: "{:.3g}".format, "ratio": "{:.3f}".format}[unit](value)


def _marked(told: str) -> str:
    """Text for a cell of Markdown, in which nothing is marked up."""
    escaped = html.escape(printable(told))
    return "".join(f"&#{ord(sign)};" if sign in "|`*_[]\\" else sign for sign in escaped)


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
