"""Runs of a chain that are timed for all that are like them: a layer stands for all layers."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.partition.chain import Chain, Shapes
from burnish.optimizer.regions import captured

LEAST = 0.01
"""Share of the operations and bytes that a run has at least: shorter ones are timed badly."""

CHEAP = 1.01
"""What may cross an end of a run, over the least that crosses places in the middle."""

RARE = 50
"""One place of so many may have less than that: a bottleneck that no layer repeats."""


@dataclass(frozen=True)
class Segment:
    """Operators start to end.

    Attributes:
        key: equal for runs of the same operators on the same sizes.
    """

    start: int
    end: int
    key: str


def segments(chain: Chain, shapes: Shapes) -> list[Segment]:
    """The chain in runs between places where little crosses."""
    size = len(chain)
    work = list(
        itertools.accumulate((atom.flops or atom.moved for atom in chain.atoms), initial=0.0)
    )
    middle = sorted(sent for sent in chain.carried[size // 8 : size - size // 8] if sent)
    limit = middle[len(middle) // RARE] * CHEAP if middle else 0.0
    ends, start = [], 0
    for end in range(1, size):
        enough = work[end] - work[start] >= LEAST * work[-1]
        if enough and 0 < chain.carried[end - 1] <= limit:
            ends.append(end)
            start = end
    places = [0, *ends, size]
    return [
        Segment(first, last, _key(chain, shapes, first, last))
        for first, last in itertools.pairwise(places)
    ]


def _key(chain: Chain, shapes: Shapes, start: int, end: int) -> str:
    """What the time of a run depends on: operators, their attributes, sizes, types, weights."""

    def told(value: ir.Value) -> str:
        shape = shapes.get(value.name or "", value.shape)
        return f"{value.dtype}{tuple(shape) if shape is not None else None}"

    rows = []
    for node in chain.nodes[start:end]:
        attributes = {name: str(item) for name, item in sorted(node.attributes.items())}
        ports = [told(value) for value in (*captured(node), *node.outputs)]
        rows.append(f"{node.domain}:{node.op_type}{attributes}{ports}")
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:32]


def distinct(found: list[Segment]) -> list[tuple[Segment, int]]:
    """One segment of each kind, and how many there are, in the order of the chain."""
    counts = Counter(item.key for item in found)
    first = {item.key: item for item in reversed(found)}
    return [(first[key], counts[key]) for key in dict.fromkeys(item.key for item in found)]
