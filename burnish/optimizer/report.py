"""The result as data: JSON schema 1. Renderers live in the command line."""

from __future__ import annotations

import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx_ir as ir

from burnish.optimizer.fidelity import Fidelity
from burnish.optimizer.measure import Timing
from burnish.optimizer.model import count_nodes

SCHEMA = 1

MOST_OPERATORS = 8
"""Operators that a warning names."""

FEW_BITS = (
    "DynamicQuantizeLinear", "MatMulInteger", "DynamicQuantizeMatMul", "MatMulNBits",
    "GatherBlockQuantized", "QuantizeLinear", "DequantizeLinear",
)  # fmt: skip
"""Operators that only models in few bits have."""

BY_OPSET = {
    12: (1, 3), 13: (1, 6), 14: (1, 8), 15: (1, 10), 16: (1, 11), 17: (1, 12), 18: (1, 14),
    19: (1, 15), 20: (1, 17), 21: (1, 18), 22: (1, 21), 23: (1, 23), 24: (1, 24),
}  # fmt: skip
"""First ONNX Runtime release per operator set, from the table in its documentation."""

BY_IR = {9: (1, 15), 10: (1, 18), 11: (1, 21), 12: (1, 23), 13: (1, 24)}
"""First ONNX Runtime release per version of the file format, likewise."""


BY_BITS = {
    ("MatMulNBits", 4): (1, 17), ("MatMulNBits", 8): (1, 22), ("GatherBlockQuantized", 4): (1, 23),
    ("GatherBlockQuantized", 8): (1, 23), ("GroupQueryAttention", 8): (1, 28),
}  # fmt: skip
"""First release with operators of its own on weights in so many bits, with zeros of their own, or
on caches: pull requests 24384, 25214, 28576 of ONNX Runtime, and the release of `MatMulNBits`.
"""


def least_runtime(model: ir.Model) -> str:
    """The oldest ONNX Runtime that loads the model."""
    opset = min(model.opset_imports.get("", 0), max(BY_OPSET))
    version = min(model.ir_version, max(BY_IR))
    least = max(BY_OPSET.get(opset, (1, 0)), BY_IR.get(version, (1, 0)))
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        own = node.attributes.get_int("bits", node.attributes.get_int("kv_cache_bit_width", 0))
        bits = (node.op_type, own)
        least = max(least, BY_BITS.get(bits, least))
    return f"{least[0]}.{least[1]}"


def release(text: str) -> tuple[int, ...]:
    """A release of ONNX Runtime as numbers: "1.17.1" is (1, 17)."""
    return tuple(int(part) for part in text.split(".")[:2])


def operators(model: ir.Model) -> dict[str, int]:
    """Nodes by operator, those of subgraphs included, the commonest first."""
    counts: dict[str, int] = {}
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def file_facts(
    files: tuple[Path, ...], model: ir.Model, sha256: str | None = None
) -> dict[str, Any]:
    """What the report says of the input or the output."""
    return {
        "path": str(files[0]),
        "sha256": sha256,
        "bytes": sum(file.stat().st_size for file in files),
        "nodes": count_nodes(model),
        "opset": model.opset_imports.get("", 0),
        "files": [file.name for file in files],
    }


def target_facts(
    provider: str, processor: str, threads: int, versions: Mapping[str, str], model: ir.Model
) -> dict[str, Any]:
    """What the artifact was made for, and what it needs."""
    return {
        "provider": provider,
        "device": processor,
        "threads": threads,
        "versions": {**versions, "python": platform.python_version()},
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "least_onnxruntime": least_runtime(model),
        "opset": model.opset_imports.get("", 0),
    }


def fallen_facts(fallen: Sequence[tuple[str, int]] | None) -> dict[str, Any]:
    """What of the artifact its provider left to another one, by operator; null where unknown."""
    rows = [{"operator": name, "nodes": count} for name, count in fallen or ()]
    return {"fallen_back": None if fallen is None else rows}


def elsewhere(provider: str, fallen: Sequence[tuple[str, int]] | None) -> list[str]:
    """The same as a warning; none where all nodes are on the provider."""
    if not fallen:
        return []
    named = [f"{count} {name}" for name, count in fallen[:MOST_OPERATORS]]
    rest = [f"{len(fallen) - len(named)} more operators"] if len(fallen) > len(named) else []
    total = sum(count for _, count in fallen)
    what = "1 node does" if total == 1 else f"{total} nodes do"
    few = [name for name, _ in fallen if name in FEW_BITS]
    remedy = f"; it has no kernels for {' and '.join(few)}: try --fp16" if few else ""
    return [f"{what} not run on {provider}: {', '.join(named + rest)}{remedy}"]


def fidelity_facts(fidelity: Fidelity, feeds: str, count: int) -> dict[str, Any]:
    """What the report says of the answers."""
    return {
        "metric": fidelity.metric,
        "drop": fidelity.drop,
        "outputs": {
            name: {key: value for key, value in asdict(item).items() if value is not None}
            for name, item in fidelity.outputs.items()
        },
        "groups": fidelity.groups,
        "feeds": feeds,
        "count": count,
    }


def latency_facts(timing: Timing, shape: Mapping[str, int]) -> dict[str, Any]:
    """What the report says of the time."""
    return {
        "shape": dict(shape),
        "baseline_ms": round(timing.baseline_ms, 3),
        "optimized_ms": round(timing.candidate_ms, 3),
        "speedup": round(timing.speedup, 3),
        "ci95": [round(timing.low, 3), round(timing.high, 3)],
        "pairs": timing.pairs,
    }


def digest(report: Mapping[str, Any], version: str) -> dict[str, Any]:
    """The part of a report that travels inside the model; it holds no timings."""
    fidelity = report.get("fidelity") or {}
    return {
        "schema": SCHEMA,
        "burnish": version,
        "input": report["input"]["sha256"],
        "passes": [
            {"name": item["name"], "options": item["options"]}
            for item in report["passes"]
            if item["status"] == "kept"
        ],
        "cpu": report["target"]["cpu"],
        "versions": report["target"]["versions"],
        "fidelity": {
            name: {
                key: float(f"{value:.2g}") for key, value in facts.items() if math.isfinite(value)
            }
            for name, facts in fidelity.get("outputs", {}).items()
        },
    }


def as_json(facts: Any) -> str:
    """The facts as JSON, which has no word for NaN and infinity: they are null."""
    return json.dumps(finite(facts), indent=2, allow_nan=False)


def finite(facts: Any) -> Any:
    """The same data with null for NaN and infinity."""
    if isinstance(facts, dict):
        return {key: finite(value) for key, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [finite(value) for value in facts]
    return None if isinstance(facts, float) and not math.isfinite(facts) else facts


_NUMBER = re.compile(r"\d+(\.\d+)?")


def alike(reason: str) -> str:
    """A reason without its numbers: those that differ in nothing else are one.

    Names of layers differ in numbers alone, and so do measured ratios.
    """
    return _NUMBER.sub("#", reason)
