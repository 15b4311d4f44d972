"""The figures that a report begins with, and its result in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.report.numbers import milliseconds, size, small, three

RECOVERED = (
    ("attention", "attentions"),
    ("normalization", "normalizations"),
    ("activation", "activations"),
    ("rotary", "rotary embeddings"),
    ("linear", "linear layers"),
)
"""What is looked for, and its plural."""

ARROW = "\N{RIGHTWARDS ARROW}"

Report = dict[str, Any]
Figure = dict[str, str]


def figures(report: Report) -> list[Figure]:
    """Speed, size, fidelity and recovery: a number, its unit, and what it is made of."""
    return [_speed(report), _size(report), _fidelity(report), _recovery(report)]


def _figure(name: str, number: str, unit: str, told: str, mood: str = "") -> Figure:
    return {"name": name, "number": number, "unit": unit, "told": told, "mood": mood}


def _speed(report: Report) -> Figure:
    latency = report.get("latency")
    if not latency:
        return _figure("Speed", "\N{EM DASH}", "", "not timed", "none")
    low, high = latency["ci95"]
    told = (
        f"{milliseconds(latency['baseline_ms'])} {ARROW} {milliseconds(latency['optimized_ms'])}; "
        f"95 % interval {low:.2f} to {high:.2f}"
    )
    if low <= 1.0 <= high:
        return _figure("Speed", f"{latency['speedup']:.2f}", "times: as fast", told)
    faster = low > 1.0
    unit = "times faster" if faster else "times: slower"
    return _figure("Speed", f"{latency['speedup']:.2f}", unit, told, "good" if faster else "bad")


def _size(report: Report) -> Figure:
    before, after = report["input"]["bytes"], report["output"]["bytes"]
    ratio = after / max(before, 1)
    told = f"{size(before)} {ARROW} {size(after)}"
    mood = "good" if ratio < 0.995 else "bad" if ratio > 1.05 else ""
    return _figure("Size", f"{ratio:.2f}", "of the input", told, mood)


def _fidelity(report: Report) -> Figure:
    fidelity = report.get("fidelity")
    if not fidelity:
        return _figure("Loss", "\N{EM DASH}", "", "not checked", "none")
    budget = fidelity.get("budget")
    allowed = f"; {small(budget)} allowed" if budget is not None else ""
    told = f"{fidelity['metric'].rstrip(',')}, {fidelity['feeds']}{allowed}"
    drop = fidelity["drop"]
    over = drop is None or (budget is not None and drop > budget)
    return _figure("Loss", small(drop), "", told, "bad" if over else "")


def _recovery(report: Report) -> Figure:
    recovered = report["recovered"]
    attention = recovered["attention"]
    counts = [
        f"{recovered[kind]['found']} of {recovered[kind]['expected']} {several}"
        for kind, several in RECOVERED[1:]
        if recovered[kind]["expected"]
    ]
    told = ", ".join(counts)
    mood = "bad" if attention["found"] < attention["expected"] else ""
    if not attention["expected"]:
        return _figure("Recovered", "0", "attentions", told or "nothing of what is looked for")
    number = f"{attention['found']}/{attention['expected']}"
    return _figure("Recovered", number, "attentions", told, mood)


def sentence(report: Report) -> str:
    """The result in one sentence."""
    kept = [step["name"] for step in report["passes"] if step["status"] == "kept"]
    if not kept:
        return "Nothing was changed: the artifact is the input."
    parts = []
    if latency := report.get("latency"):
        low, high = latency["ci95"]
        speed = f"{latency['speedup']:.2f} times"
        parts.append(
            "As fast as the input within noise"
            if low <= 1.0 <= high
            else f"{speed} faster"
            if low > 1.0
            else f"Slower ({speed})"
        )
    ratio = report["output"]["bytes"] / max(report["input"]["bytes"], 1)
    parts.append(f"{ratio:.2f} of the size" if parts else f"{ratio:.2f} of the input's size")
    if fidelity := report.get("fidelity"):
        parts.append(f"a loss of {small(fidelity['drop'])} {fidelity['feeds']}")
    return ", ".join(parts) + "."


def timed(report: Report) -> str:
    """What was timed, where; empty where nothing was."""
    latency = report.get("latency")
    if not latency:
        return ""
    target = report["target"]
    shapes = ", ".join(
        f"{name} {' x '.join(map(str, shape))}" for name, shape in latency["inputs"].items()
    )
    return (
        f"Timed on {target['device']}, {target['threads']} threads, {target['provider']}, in "
        f"{latency['pairs']} pairs of blocks: {shapes}."
    )


def environment(report: Report) -> list[tuple[str, str]]:
    """What it was made with, and what the artifact needs."""
    target, memory = report["target"], report.get("memory", {})
    versions: Mapping[str, str] = target.get("versions", {})
    rows = [
        ("Processor", target["device"]),
        ("Threads", str(target["threads"])),
        ("Provider", target["provider"]),
        ("Compiled for", target.get("cpu", "")),
        ("System", target.get("system", "")),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Needs", f"ONNX Runtime {target['least_onnxruntime']}, operator set {target['opset']}"),
        ("Options", _options(report.get("options") or {})),
        ("Compiling took", _compiling(report, memory)),
        ("Input", _file(report["input"])),
        ("Artifact", _artifact(report["output"])),
    ]
    if target.get("saturates"):
        rows.append(("Note", "its int8 products saturate without VNNI, AMX or Arm's dot product"))
    return [(name, text) for name, text in rows if text]


def _options(options: Mapping[str, Any]) -> str:
    """What was asked for, where that is not the usual."""
    return ", ".join(
        name if value is True else f"{name} {value}" for name, value in options.items()
    )


def _compiling(report: Report, memory: Mapping[str, Any]) -> str:
    seconds = sum(step["seconds"] for step in report["passes"])
    peak = memory.get("compile_peak_rss_bytes")
    told = f"{three(seconds) if seconds >= 0.1 else '0.1'} s in passes"
    return f"{told}, {size(peak)} of memory at the most" if peak else told


def _artifact(output: Mapping[str, Any]) -> str:
    if not output.get("written", True):
        return f"{output['path']}, not written (a dry run)"
    return _file(output)


def _file(facts: Mapping[str, Any]) -> str:
    return f"{facts['path']}, sha256 {facts.get('sha256') or 'unknown'}"
