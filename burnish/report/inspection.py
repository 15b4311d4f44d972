"""The view of what `inspect` tells of a model."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from burnish.report import makeup, reasons
from burnish.report.headline import RECOVERED
from burnish.report.numbers import amount, size

Report = dict[str, Any]


def view(facts: Report) -> dict[str, Any]:
    """What the page shows of an inspected model."""
    given, weights = facts["input"], facts["weights"]
    flops = facts["flops"]
    return {
        "kind": "inspection",
        "title": PurePath(given["path"]).name,
        "name": PurePath(given["path"]).name,
        "sentence": _sentence(facts),
        "figures": [
            _figure("Parameters", f"{weights['parameters']:,}", size(given["bytes"])),
            _figure("Work", amount(flops["total"]), _sizes(flops["shape"])),
            _figure("Attentions", _found(facts["recovered"]["attention"]), _others(facts)),
        ],
        "operators": makeup.mixture("Nodes by operator", facts["operators"]),
        "work": makeup.work(flops),
        "attentions": makeup.attentions(facts["attentions"]),
        "missed": reasons.missed(facts | {"passes": []}),
        "ports": [
            {"kind": kind[:-1], **_port(port)}
            for kind in ("inputs", "outputs")
            for port in facts["signature"][kind][:100]
        ],
        "weights": [
            {
                "type": name,
                "tensors": f"{entry['tensors']:,}",
                "elements": f"{entry['elements']:,}",
                "bytes": size(entry["bytes"]),
            }
            for name, entry in weights["types"].items()
        ],
    }


def _figure(name: str, number: str, told: str) -> dict[str, str]:
    return {"name": name, "number": number, "unit": "", "told": told, "mood": ""}


def _sentence(facts: Report) -> str:
    """The architecture where it is known, and what the file is."""
    given, kind = facts["input"], facts.get("headline") or ""
    parts = [f"{kind[:1].upper()}{kind[1:]}."] if kind else []
    by = f", by {facts['producer']}" if facts["producer"] else ""
    parts.append(
        f"{given['nodes']:,} nodes in operator set {given['opset']}{by}; needs ONNX Runtime "
        f"{facts['least_onnxruntime']}."
    )
    return " ".join(parts)


def _sizes(shape: dict[str, int]) -> str:
    return "at " + ", ".join(f"{name} {count}" for name, count in shape.items())


def _found(count: dict[str, int]) -> str:
    return f"{count['found']}/{count['expected']}" if count["expected"] else "0"


def _others(facts: Report) -> str:
    told = [
        f"{facts['recovered'][kind]['found']} of {facts['recovered'][kind]['expected']} {several}"
        for kind, several in RECOVERED[1:]
        if facts["recovered"][kind]["expected"]
    ]
    return ", ".join(told)


def _port(port: Report) -> dict[str, str]:
    shape = port["shape"]
    told = "any shape" if shape is None else " x ".join(str(item) for item in shape) or "scalar"
    return {"name": port["name"], "type": port["dtype"], "shape": told}
