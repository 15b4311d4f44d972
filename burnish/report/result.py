"""The view of the main job's report: everything that its template shows."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from burnish.report import answers, earned, headline, makeup, reasons
from burnish.report.numbers import size

MOST_WARNINGS = 50

Report = dict[str, Any]


def view(report: Report) -> dict[str, Any]:
    """What the page shows of a model, or of each graph of a checkpoint."""
    if "parts" not in report:
        part = _part(report)
        return {"kind": "result", "title": part["title"], "export": None, "parts": [part]}
    parts = [_part(part) | {"name": name} for name, part in report["parts"].items()]
    source, target = report["export"], report["output"]
    return {
        "kind": "result",
        "title": PurePath(target["path"]).name,
        "export": _export(source, target, report),
        "parts": parts,
    }


def _part(report: Report) -> dict[str, Any]:
    before, after = report["input"]["path"], report["output"]["path"]
    plots = earned.waterfalls(report)
    return {
        "name": "",
        "title": f"{PurePath(before).name} {headline.ARROW} {PurePath(after).name}",
        "before": PurePath(before).name,
        "after": PurePath(after).name,
        "version": report["target"].get("versions", {}).get("burnish", ""),
        "written": report["output"].get("written", True),
        "sentence": headline.sentence(report),
        "figures": headline.figures(report),
        "timed": headline.timed(report),
        "warnings": report["warnings"][:MOST_WARNINGS],
        "over_budget": report.get("over_budget") or [],
        "waterfalls": plots,
        "legend": earned.legend(plots),
        "measured": (report.get("profile") or {}).get("reasons") or [],
        "steps": reasons.steps(report),
        "operators": makeup.operators(report),
        "layers": makeup.layers(report),
        "attentions": makeup.attentions(report.get("attentions") or []),
        "choices": answers.choices(report),
        "providers": answers.providers(report),
        "fidelity": answers.fidelity(report),
        "missed": reasons.missed(report),
        "left": reasons.left(report),
        "taken_back": reasons.taken_back(report),
        "environment": headline.environment(report),
    }


def _export(source: Report, target: Report, report: Report) -> dict[str, Any]:
    """How a checkpoint was exported."""
    shared = target.get("shared_bytes") or 0
    return {
        "sentence": (
            f"{source['model_type']} for {source['task']}, exported by {source['way']} in "
            f"{source['seconds']:.0f} s: equal to PyTorch within {source['error']:.1e}."
        ),
        "tried": [f"{item['way']} was tried: {item['reason']}" for item in source["tried"]],
        "warnings": source["warnings"][:MOST_WARNINGS],
        "path": target["path"],
        "shared": f"{size(shared)} that its graphs have in common are stored once" * bool(shared),
    }
