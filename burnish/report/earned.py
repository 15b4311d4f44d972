"""What each pass earned: time, size and fidelity, as waterfalls."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from burnish.report.charts.bars import Bar, Row, rows
from burnish.report.charts.drawing import Logarithmic
from burnish.report.numbers import change, counted, milliseconds, size, small, three

KINDS = (
    ("before", "input"),
    ("gain", "gained"),
    ("loss", "lost"),
    ("noise", "within noise"),
    ("after", "artifact"),
    ("rounding", "error of rounding"),
    ("lossy", "error within the budget"),
)
"""What bars of the waterfalls stand for."""

LITTLE = 0.002
"""Share of the input's size below which a change is no row of its own."""

Report = dict[str, Any]


def waterfalls(report: Report) -> list[dict[str, Any]]:
    """The plots that there is data for, each with a heading and a line of what it shows."""
    if all(step["status"] != "kept" for step in report["passes"]):
        return []
    made = [_time(report), _gains(report), _size(report), _answers(report), _errors(report)]
    found = {plot["key"]: plot for plot in reversed(made) if plot is not None}
    return [found[key] for key in ("time", "size", "error") if key in found]


def legend(plots: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The kinds of bars that there are in plots."""
    return [
        (kind, text)
        for kind, text in KINDS
        if any(f'class="{kind}"' in item["plot"] for item in plots)
    ]


def _plot(key: str, heading: str, lead: str, drawing: Markup) -> dict[str, Any]:
    return {"key": key, "heading": heading, "lead": lead, "plot": drawing}


def _time(report: Report) -> dict[str, Any] | None:
    """Time of a run after each pass, as it was measured for this report."""
    latency = report.get("latency")
    stages = (report.get("profile") or {}).get("stages") or []
    stages = [stage for stage in stages if stage["speedup"]]
    if not latency or not stages:
        return None
    base = latency["baseline_ms"]
    points = [1.0, *(1.0 / stage["speedup"] for stage in stages), 1.0 / latency["speedup"]]
    scale = max(points)
    items = [Row("input", milliseconds(base), (Bar(0, 1 / scale, "before"),))]
    before, low, high = 1.0, 1.0, 1.0
    for stage in stages:
        after = 1.0 / stage["speedup"]
        fast, slow = 1.0 / stage["ci95"][1], 1.0 / stage["ci95"][0]
        noise = fast <= high and low <= slow
        kind = "noise" if noise else "gain" if after < before else "loss"
        delta = abs(after - before) * base
        told = "within noise" if noise else change(milliseconds(delta), up=after > before)
        name = report["passes"][stage["pass"]]["name"]
        note = f"{name}: {milliseconds(after * base)} a run after it"
        items.append(Row(name, told, (Bar(before / scale, after / scale, kind),), note))
        before, low, high = after, fast, slow
    final = 1.0 / latency["speedup"]
    done = milliseconds(latency["optimized_ms"])
    items.append(Row("artifact", done, (Bar(0, final / scale, "after"),)))
    description = ", ".join(f"{item.name} {item.value}" for item in items)
    lead = "A run of the whole model after each pass, each timed in pairs with the input."
    drawing = rows("Time of a run after each pass", description, items, joined=True)
    return _plot("time", "Time", lead, drawing)


def _gains(report: Report) -> dict[str, Any] | None:
    """Gains where passes chose by measuring, as far as nothing better is known."""
    found = [
        (step["name"], step["speedup"])
        for step in report["passes"]
        if step["status"] == "kept" and step.get("speedup")
    ]
    if not found:
        return None
    most = max(gain for _, gain in found)
    items = [
        Row(name, f"{three(gain)} times", (Bar(0, gain / most, "gain"),)) for name, gain in found
    ]
    description = ", ".join(f"{item.name} {item.value}" for item in items)
    lead = "How much faster the places became that a pass changed, where it chose by measuring."
    drawing = rows("Measured gain of passes", description, items)
    return _plot("time", "Time, place by place", lead, drawing)


def _size(report: Report) -> dict[str, Any] | None:
    """Bytes of weights after each pass."""
    start = report.get("memory", {}).get("input_weights_bytes")
    if not start:
        return None
    end = report["memory"]["weights_bytes"]
    changes: list[tuple[str, float]] = []
    little, count, before = 0.0, 0, float(start)
    for step in report["passes"]:
        if step["status"] != "kept":
            continue
        delta = step["bytes"] - before
        before = step["bytes"]
        if abs(delta) > LITTLE * start:
            changes.append((step["name"], delta))
        else:
            little, count = little + delta, count + 1
    if count:
        others = "other pass" if changes else "pass"
        several = "other passes" if changes else "passes"
        changes.append((counted(count, others, several), little))
    points = [float(start)]
    for _, delta in changes:
        points.append(points[-1] + delta)
    scale = max(*points, end)
    items = [Row("input", size(start), (Bar(0, start / scale, "before"),))]
    for (name, delta), low, high in zip(changes, points, points[1:], strict=False):
        kind = "gain" if delta <= 0 else "loss"
        told = change(size(abs(delta)), up=delta > 0) if delta else "no change"
        items.append(Row(name, told, (Bar(low / scale, high / scale, kind),)))
    items.append(Row("artifact", size(end), (Bar(0, end / scale, "after"),)))
    description = ", ".join(f"{item.name} {item.value}" for item in items)
    drawing = rows("Bytes of weights after each pass", description, items, joined=True)
    return _plot("size", "Size", "Bytes of weights after each pass.", drawing)


def _answers(report: Report) -> dict[str, Any] | None:
    """Errors of the whole model's answers after each pass."""
    stages = (report.get("profile") or {}).get("stages") or []
    found = [
        (report["passes"][stage["pass"]], stage["rel_l2"])
        for stage in stages
        if stage["rel_l2"] is not None
    ]
    if not found:
        return None
    lead = "Relative L2 error of the model's outputs after each pass; the scale is logarithmic."
    drawing = _logarithmic("Error of the outputs after each pass", found, together=True)
    return _plot("error", "Fidelity", lead, drawing)


def _errors(report: Report) -> dict[str, Any] | None:
    """Errors that passes made where they changed something; none where no numbers were checked."""
    if not report.get("fidelity"):
        return None
    found = [
        (step, step["error"])
        for step in report["passes"]
        if step["status"] == "kept" and step["error"] is not None
    ]
    if not found:
        return None
    lead = (
        "Largest relative L2 error at a place that a pass changed, given exact values before it; "
        "the scale is logarithmic."
    )
    drawing = _logarithmic("Error made by each pass", found, together=False)
    return _plot("error", "Fidelity", lead, drawing)


def _logarithmic(
    title: str, found: list[tuple[dict[str, Any], float]], *, together: bool
) -> Markup:
    """Errors on a logarithmic scale; `together` says that they are of all passes up to each."""
    scale = Logarithmic([error for _, error in found])
    items, lossy = [], False
    for step, error in found:
        lossy = step["promise"] == "lossy" or (lossy and together)
        kind = "lossy" if lossy else "rounding"
        note = f"{step['name']}: promised {step['promise']}"
        items.append(Row(step["name"], small(error), (Bar(0, scale.share(error), kind),), note))
    description = ", ".join(f"{item.name} {item.value}" for item in items)
    return rows(title, description, items)
