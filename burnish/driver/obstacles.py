"""What is in the way of making a model faster or smaller, each with what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from burnish.optimizer.analysis.products import QUANTIZED
from burnish.optimizer.report import alike
from burnish.optimizer.roles import Role, Slot

OWN = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""


@dataclass(frozen=True)
class Obstacle:
    """One of them.

    Attributes:
        what: what is in the way.
        count: at how many places.
        reason: why, or what follows.
        remedy: what to do; empty where nobody can do anything.
    """

    what: str
    count: int
    reason: str
    remedy: str = ""


def obstacles(
    model: ir.Model,
    slots: Sequence[Slot],
    recovered: Mapping[str, Any],
    attentions: Sequence[Mapping[str, Any]],
    warnings: Sequence[str],
) -> list[dict[str, Any]]:
    """What is in the way, as data.

    Args:
        model: the input.
        slots: its inputs with their roles.
        recovered: the account of recovery as data.
        attentions: those found, as data.
        warnings: what the user should know of the file and this machine.
    """
    found = [
        *_missed(recovered),
        *_opaque(attentions),
        *_converted(model),
        *_fixed(slots),
        *(Obstacle("caveat", 1, text) for text in warnings),
    ]
    return [asdict(item) for item in found]


def _missed(recovered: Mapping[str, Any]) -> Iterator[Obstacle]:
    for kind, facts in recovered.items():
        reasons: dict[str, list[str]] = {}
        for miss in facts["missed"]:
            reasons.setdefault(alike(miss["reason"]), []).append(miss["reason"])
        for group in reasons.values():
            yield Obstacle(f"{kind} that is not recovered", len(group), group[0])


def _opaque(attentions: Sequence[Mapping[str, Any]]) -> Iterator[Obstacle]:
    groups: dict[str, list[str]] = {}
    for item in attentions:
        if item["opaque"]:
            groups.setdefault(alike(item["opaque"]), []).append(item["opaque"])
    for group in groups.values():
        yield Obstacle(
            "mask that is no function of positions", len(group),
            f"{group[0]}; it stays a tensor over queries and keys",
            "an export whose mask is made from positions and an input of paddings",
        )  # fmt: skip


def _converted(model: ir.Model) -> Iterator[Obstacle]:
    quantized: Counter[str] = Counter()
    own: Counter[str] = Counter()
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type in QUANTIZED or node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            quantized[node.op_type] += 1
        elif node.domain == OWN:
            own[node.op_type] += 1
    if quantized:
        yield Obstacle(
            "quantized already", quantized.total(), f"{_named(quantized)}: they are left",
            "the export in float32, to choose a precision anew",
        )  # fmt: skip
    if own:
        yield Obstacle(
            "fused already", own.total(),
            f"{_named(own)} are ONNX Runtime's own operators, which are kept as they are",
            "the export as it came, which has more to recover",
        )  # fmt: skip


def _named(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common(4))


def _fixed(slots: Sequence[Slot]) -> Iterator[Obstacle]:
    """Axes of batch and length that the export has fixed."""
    for slot in slots:
        shape = slot.port.shape or ()
        if slot.role not in (Role.IDS, Role.NUMBERS) or len(shape) < 2:
            continue
        axes = {"batch": 0, "length": 1} if slot.role is Role.IDS else {"batch": 0}
        fixed = [f"{name} {shape[axis]}" for name, axis in axes.items() if _is_fixed(shape[axis])]
        if fixed:
            yield Obstacle(
                "fixed sizes", 1, f"input {slot.port.name} takes {' and '.join(fixed)} only",
                "an export with free axes (dynamic_shapes)",
            )  # fmt: skip


def _is_fixed(size: int | str | None) -> bool:
    return isinstance(size, int)
