"""Chains by their numbers, and the best of all plans by trying them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from burnish.optimizer.partition.chain import Atom
from burnish.optimizer.partition.cluster import Cluster, Device


@dataclass
class Made:
    """A chain by its numbers."""

    atoms: list[Atom]
    carried: list[float]
    weights: list[float]

    def __len__(self) -> int:
        return len(self.atoms)

    @property
    def portions(self) -> list[float]:
        return self.weights

    def memory(self, start: int, end: int) -> float:
        return sum(self.weights[start:end])


@dataclass(frozen=True)
class Part:
    """What a device of a group has of an operator."""

    share: float
    weights: float
    reduced: float


def made(flops: list[float], moved: list[float], carried: list[float]) -> Made:
    """Operators whose weights are all that they move."""
    atoms = [Atom(f"n{i}", a, b, 0.0) for i, (a, b) in enumerate(zip(flops, moved, strict=True))]
    return Made(atoms, [*carried[: len(atoms) - 1], 0.0], moved)


def halves(chain: Made, reduced: Sequence[float]) -> list[Part]:
    """What each of two devices has where every second operator can be divided."""
    return [
        Part(0.5 if index % 2 else 1.0, weight * (0.5 if index % 2 else 1.0), moved)
        for index, (weight, moved) in enumerate(zip(chain.weights, reduced, strict=True))
    ]


Times = tuple[float, float]
"""Of a plan: its slowest stage or transfer, and one run by itself."""


def all_plans(
    chain: Made, cluster: Cluster, shares: Mapping[int, Sequence[Part]] | None = None
) -> Iterator[Times]:
    """All pipelines that fit, with groups of the sizes in `shares` of equal devices of a node."""
    size = len(chain)
    for groups in _groupings(cluster.devices, sorted({1, *(shares or {})})):
        for cuts in itertools.combinations(range(1, size), len(groups) - 1):
            times, sends = [], []
            for group, (start, end) in zip(
                groups, itertools.pairwise([0, *cuts, size]), strict=True
            ):
                times.append(_seconds(chain, cluster, shares, group, start, end))
            for cut, (one, two) in zip(cuts, itertools.pairwise(groups), strict=True):
                sends.append(cluster.between(one[0], two[0]).seconds(chain.carried[cut - 1]))
            if all(map(math.isfinite, times)):
                yield max([*times, *sends]), sum(times) + sum(sends)


def _groupings(devices: Sequence[Device], sizes: list[int]) -> Iterator[list[tuple[Device, ...]]]:
    """Ways to make groups in order of some of the devices."""
    for size in sizes:
        for group in itertools.combinations(devices, size):
            if len({(device.kind, device.node) for device in group}) > 1:
                continue
            yield [group]
            rest = [device for device in devices if device not in group]
            for more in _groupings(rest, sizes):
                yield [group, *more]


def _seconds(
    chain: Made, cluster: Cluster, shares: Mapping[int, Sequence[Part]] | None,
    group: tuple[Device, ...], start: int, end: int,
) -> float:  # fmt: skip
    """Of a run on a group; infinite where it does not fit."""
    device, atoms = group[0], chain.atoms[start:end]
    if len(group) == 1:
        held = chain.memory(start, end)
        seconds = sum(device.seconds(atom.flops, atom.moved) for atom in atoms)
        return seconds if held <= device.memory else math.inf
    assert shares is not None
    count, parts = len(group), shares[len(group)][start:end]
    link = cluster.between(*group[:2])
    seconds = 0.0
    for atom, part in zip(atoms, parts, strict=True):
        seconds += part.share * device.seconds(atom.flops, atom.moved)
        if part.reduced:
            seconds += 2 * (count - 1) * (part.reduced / count / link.bandwidth + link.latency)
    held = min(sum(part.weights for part in parts), chain.memory(start, end))
    return seconds if held <= device.memory else math.inf
