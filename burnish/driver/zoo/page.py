"""`zoo.html`: the rows of a zoo as one page that opens from disk, light or dark, on phones too.

Everything that comes from a model, a path or an option is escaped; nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any
from urllib.parse import quote

from burnish.driver.zoo.rows import Row
from burnish.optimizer.errors import printable

STYLE = """
:root { color-scheme: light dark; --line: #8884; --bad: #b3261e; --good: #1b6e3c; --dim: #666; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #7bd89b; --dim: #aaa; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; padding: 0 1rem;
       max-width: 75rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem;
         border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; white-space: nowrap; }
th[scope=row] { font-weight: 600; } small { font-weight: 400; }
th[scope=row] { overflow-wrap: anywhere; min-width: 13rem; }
td.why { min-width: 14rem; overflow-wrap: anywhere; }
.failed, .missed { color: var(--bad); font-weight: 600; } .converted { color: var(--good); }
small, .dim { color: var(--dim); }
"""

HEADS = (
    ("model", ""), ("result", ""), ("size", "number"), ("ratio", "number"), ("speed", "number"),
    ("loss", "number"), ("attentions", "number"), ("", "why"),
)  # fmt: skip

MOST_TEXT = 1000
"""Characters of one text."""


def page(facts: Mapping[str, Any]) -> str:
    """The page of a zoo's report; see `zoo.SCHEMA`."""
    rows: list[Row] = facts["members"]
    head = f"{facts['source']}: {summary(facts['summary'])}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_safe(head)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{_safe(head)}</h1>",
        *_since(facts["since"]),
        '<div class="wide"><table><thead><tr>',
        *(f'<th scope="col" class="{kind}">{name}</th>' for name, kind in HEADS),
        "</tr></thead><tbody>",
        *map(_row, rows),
        "</tbody></table></div>",
        f'<p class="dim">burnish {_safe(facts["burnish"])}; '
        f"{_safe(str(facts['target']['device']))}; every gain is over the model's own input, "
        "timed in the same run, with its 95 % interval.</p>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def summary(counts: Mapping[str, int]) -> str:
    """How many members came to what: "28 converted, 2 failed"."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing"


def _since(since: Mapping[str, Any] | None) -> Iterable[str]:
    if since is None:
        return
    found = since["regressions"]
    yield f"<h2>{len(found) or 'no'} regressions since {_safe(since['path'])}</h2>"
    lines = [f"{item['name']}, {item['what']}: {item['text']}" for item in found]
    yield f'<ul class="failed">{_items(lines)}</ul>' if lines else ""
    yield f'<ul class="dim">{_items(since["notes"])}</ul>' if since["notes"] else ""


def _items(lines: Iterable[str]) -> str:
    return "".join(f"<li>{_safe(line)}</li>" for line in lines)


def _row(row: Row) -> str:
    name = _safe(row["name"])
    if row["report"]:
        link = quote(row["report"].encode(errors="surrogateescape"))
        name = f'<a href="{_safe(link)}">{name}</a>'
    if options := row["options"]:
        said = (key if value is True else f"{key} {value}" for key, value in options.items())
        name += f"<br><small>{_safe(', '.join(said))}</small>"
    status = _safe(row["status"])
    cells = [
        f'<th scope="row">{name}</th>',
        f'<td class="{status}">{status}</td>',
        *(f'<td class="number">{_safe(text)}</td>' for text in figures(row)),
        f'<td class="why">{_safe(remark(row))}</td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def figures(row: Row) -> list[str]:
    """Size, ratio, gain, loss and attentions of a row, as texts; empty where not known."""
    before, after, ratio = row["input_bytes"], row["output_bytes"], row["size_ratio"]
    found = row["attentions"]
    gain = ""
    if row["speedup"] is not None:
        low, high = row["ci95"]
        gain = f"{row['speedup']:.2f} ({low:.2f} to {high:.2f})"
    return [
        "" if after is None else f"{_megabytes(before)} -> {_megabytes(after)} MB",
        "" if ratio is None else f"{ratio:.2f}",
        gain,
        "" if row["drop"] is None else f"{row['drop']:.2g}",
        f"{found['found']} of {found['expected']}" if found and found["expected"] else "",
    ]


def remark(row: Row) -> str:
    """Why a row is as it is: the reason of a failure, else the first warning."""
    if row["reason"]:
        return str(row["reason"])
    warnings = row["warnings"]
    more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
    return f"{warnings[0]}{more}" if warnings else ""


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f}" if count >= 1e5 else f"{count / 1e6:.3f}"


def _safe(text: str) -> str:
    """Text from outside: no markup, and nothing that is no character."""
    return escape(printable(text, MOST_TEXT))
