"""Reports as tables for a terminal; every text that comes from a model is escaped."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from burnish.rendering.search import render_search
from burnish.rendering.structure import (
    export_lines,
    left_lines,
    port_lines,
    precision_lines,
    provider_lines,
    pruning_lines,
    recovered_lines,
    vocabulary_lines,
)
from burnish.rendering.text import line as _line
from burnish.rendering.text import safe as safe
from burnish.rendering.text import size as size
from burnish.rendering.text import table as _table
from burnish.rendering.text import texts as _texts

MADE_UP = "on made-up inputs"
"""What the report calls feeds that are not the user's."""


def render_report(console: Console, report: dict[str, Any], verbose: bool) -> None:
    """The report of the main job; of a checkpoint, what was exported and each graph's."""
    _texts(console, export_lines(report))
    for part in report.get("parts", {}).values():
        render_report(console, part, verbose)
    if "parts" in report:
        return
    before, after = report["input"], report["output"]
    ratio = after["bytes"] / max(before["bytes"], 1)
    arrow = "would become" if not after["written"] else "->"
    _line(
        console, f"[bold]{safe(before['path'])}[/bold] {arrow} [bold]{safe(after['path'])}[/bold]"
    )
    headline = _table(("", "left"), ("before", "right"), ("after", "right"), ("ratio", "left"))
    headline.add_row("size", size(before["bytes"]), size(after["bytes"]), f"{ratio:.2f}")
    if "nodes" in after:
        nodes = after["nodes"] / max(before["nodes"], 1)
        headline.add_row("nodes", str(before["nodes"]), str(after["nodes"]), f"{nodes:.2f}")
    if latency := report["latency"]:
        low, high = latency["ci95"]
        headline.add_row(
            "latency",
            f"{latency['baseline_ms']:.2f} ms",
            f"{latency['optimized_ms']:.2f} ms",
            f"{latency['speedup']:.2f} {_faster(low, high)} ({low:.2f} to {high:.2f})",
        )
    console.print(headline)
    if not any(step["status"] == "kept" for step in report["passes"]):
        _line(console, "nothing was changed: the output is the input")
    if latency:
        shapes = ", ".join(f"{safe(k)} {v}" for k, v in latency["inputs"].items())
        target = report["target"]
        _line(
            console,
            f"timed on {safe(target['device'])}, {target['threads']} threads, "
            f"{target['provider']}: {shapes}",
            style="dim",
        )
    _texts(console, provider_lines(report["providers"]))
    _texts(console, precision_lines(report.get("precisions", [])))
    render_search(console, report, verbose)
    _texts(console, port_lines(report.get("ports", [])))
    _texts(console, vocabulary_lines(report.get("vocabulary")))
    _texts(console, pruning_lines(report.get("pruning")))
    if padding := report.get("padding"):
        _line(console, _padding(padding))
    _texts(console, recovered_lines(report["recovered"]), verbose)
    _fidelity(console, report["fidelity"])
    _passes(console, report["passes"], verbose)
    _end(console, report)


def _faster(low: float, high: float) -> str:
    """What a ratio of times is called whose interval that is."""
    if low <= 1.0 <= high:
        return "times, as fast within noise"
    return "times faster" if low > 1.0 else "times, slower"


def _padding(facts: dict[str, Any]) -> str:
    """What padding costs, and what `--pack` saves or why it does not."""
    where = " that it was timed with, made up (--data FILE has yours)" if facts["made_up"] else ""
    share = f"padding: {facts['share']:.0%} of the tokens{where}"
    if "refused" in facts:
        return f"{share}; --pack cannot leave it out: {safe(facts['refused'])}"
    saved = f"{facts['saved']:.0%} of the products' work"
    if facts["packed"]:
        return f"{share}; packing leaves out {saved}"
    return f"{share}; --pack would save about {saved}"


def _passes(console: Console, steps: list[dict[str, Any]], verbose: bool) -> None:
    """What the passes did, then what they left alone; each one, and each place, if verbose."""
    idle = [] if verbose else [step for step in steps if step["status"] == "unchanged"]
    table = _table(
        ("pass", "left"), ("result", "left"), ("places", "right"), ("error", "right"),
        ("seconds", "right"), ("", "left"),
    )  # fmt: skip
    for step in [step for step in steps if step not in idle]:
        error = "" if step["error"] is None else f"{step['error']:.1e}"
        note = step["reason"] or (step["detail"] if step["status"] == "kept" else "")
        style = {"kept": "green", "rejected": "red"}.get(step["status"], "dim")
        table.add_row(
            step["name"], f"[{style}]{step['status']}[/{style}]", str(step["rewrites"] or ""),
            error, f"{step['seconds']:.1f}", safe(note, 300),
        )  # fmt: skip
    if table.rows:
        console.print(table)
    if idle:
        count = f"{len(idle)} {'other ' * bool(table.rows)}passes" if len(idle) > 1 else "1 pass"
        seconds = sum(step["seconds"] for step in idle)
        _line(console, f"{count} changed nothing in {seconds:.1f} s (-v lists all)", style="dim")
    for step in steps:
        _texts(console, left_lines(step["name"], step["refusals"], verbose), verbose)


def _fidelity(console: Console, fidelity: dict[str, Any] | None) -> None:
    if fidelity is None:
        _line(console, "fidelity was not checked")
        return
    _line(
        console,
        f"[bold]fidelity {safe(fidelity['feeds'])}[/bold] ({fidelity['count']} feeds): "
        f"{fidelity['metric']} {fidelity['drop']:.4g}",
    )
    if groups := fidelity.get("groups"):
        parts = (f"{safe(name) or 'no group'} {drop:.4g}" for name, drop in groups.items())
        _line(console, f"by group: {', '.join(parts)}")
    table = _table(
        ("output", "left"), ("rel. L2", "right"), ("cosine", "right"), ("max abs", "right"),
        ("top-1", "right"),
    )  # fmt: skip
    for name, facts in fidelity["outputs"].items():
        top1 = f"{facts['top1']:.4f}" if "top1" in facts else ""
        table.add_row(
            safe(name), f"{facts['rel_l2']:.2e}", f"{facts['cosine']:.5f}",
            f"{facts['max_abs']:.2e}", top1,
        )  # fmt: skip
    console.print(table)


def _end(console: Console, report: dict[str, Any]) -> None:
    for warning in report["warnings"]:
        _line(console, f"[yellow]note[/yellow] {safe(warning, 300)}")
    if (report["fidelity"] or {}).get("feeds") == MADE_UP:
        _line(console, "next: --data FILE compares on your inputs, which tell more", style="dim")
    target = report["target"]
    _line(
        console,
        f"needs ONNX Runtime {target['least_onnxruntime']} or later (operator set "
        f"{target['opset']}); peak memory {size(report['memory']['compile_peak_rss_bytes'])}",
        style="dim",
    )
    if target["saturates"]:
        text = "its int8 products saturate without VNNI, AMX or Arm's dot product (see --target)"
        _line(console, text, style="dim")


def render_bench(console: Console, facts: dict[str, Any]) -> None:
    """Times of models against the first."""
    shapes = ", ".join(f"{safe(k)} {v}" for k, v in facts["inputs"].items())
    target = facts["target"]
    _line(
        console,
        f"baseline [bold]{safe(facts['input']['path'])}[/bold] on {safe(target['device'])}, "
        f"{target['threads']} threads, {target['provider']}: {shapes}",
    )
    table = _table(
        ("model", "left"), ("baseline", "right"), ("model", "right"), ("speed-up", "right"),
        ("95 % interval", "right"), ("pairs", "right"),
    )  # fmt: skip
    for row in facts["latency"]:
        low, high = row["ci95"]
        table.add_row(
            safe(row["path"]), f"{row['baseline_ms']:.2f} ms", f"{row['optimized_ms']:.2f} ms",
            f"{row['speedup']:.3f}", f"{low:.3f} to {high:.3f}", str(row["pairs"]),
        )  # fmt: skip
    console.print(table)


def render_compare(console: Console, facts: dict[str, Any]) -> None:
    """Fidelity of one model to another."""
    _line(
        console,
        f"[bold]{safe(facts['output']['path'])}[/bold] against {safe(facts['input']['path'])}",
    )
    if difference := facts["signature"]["difference"]:
        _line(console, f"[yellow]note[/yellow] {safe(difference, 300)}")
    _fidelity(console, facts["fidelity"])


def render_run(console: Console, facts: dict[str, Any]) -> None:
    """What a model gave."""
    _line(console, f"[bold]{len(facts['runs'])} run(s) {safe(facts['feeds'])}[/bold]")
    table = _table(
        ("run", "right"), ("", "left"), ("name", "left"), ("type", "left"), ("shape", "left"),
        ("min", "right"), ("mean", "right"), ("max", "right"),
    )  # fmt: skip
    for index, item in enumerate(facts["runs"]):
        for kind in ("inputs", "outputs"):
            for name, array in item[kind].items():
                numbers = [
                    f"{array[key]:.4g}" if key in array else "" for key in ("min", "mean", "max")
                ]
                shape = " x ".join(str(count) for count in array["shape"])
                table.add_row(str(index), kind[:-1], safe(name), array["dtype"], shape, *numbers)
    console.print(table)


def render_passes(console: Console, rows: list[dict[str, Any]]) -> None:
    """The registry."""
    table = _table(("pass", "left"), ("phase", "left"), ("promise", "left"), ("", "left"))
    for row in rows:
        table.add_row(row["name"], row["phase"], row["promise"], row["summary"])
    console.print(table)
