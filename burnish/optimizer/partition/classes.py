"""Devices that can take each other's place: a search has to tell apart classes, not devices.

Two devices are of one class where they are equal, in the same node, and have the same link to each
other device. Whole nodes can take each other's place too, where no special link tells them apart:
of two states of a search that differ by which node is which, one is enough.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from burnish.optimizer.partition.cluster import Cluster, Device, Link

Used = tuple[int, ...]
"""Devices of each class that are used."""


class Classes:
    """The classes of a cluster.

    Attributes:
        devices: of each class, in the order of the cluster.
        links: links[i][j] is that between two devices of classes i and j.
        alike: nodes that can take each other's place: of each such node its classes, aligned.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        found: dict[object, list[Device]] = {}
        for device in cluster.devices:
            found.setdefault((self._look(device), self._home(device)), []).append(device)
        self.devices = self._merged(list(found.values()))
        self.links = [[self._link(one, two) for two in self.devices] for one in self.devices]
        self.alike = self._alike()

    def _look(self, device: Device) -> object:
        """What tells a device from others of its node."""
        items = self._cluster.links
        named = {item.first for item in items} | {item.second for item in items}
        return (device.kind, tuple(sorted(device.labels & named)))

    def _home(self, device: Device) -> str:
        """The node of a device, where nodes matter."""
        cluster = self._cluster
        matters = cluster.inside is not None and cluster.inside != cluster.link
        return device.node if matters else ""

    def _merged(self, groups: list[list[Device]]) -> list[list[Device]]:
        """Groups of which special links speak by different names, and say the same."""
        found: list[list[Device]] = []
        for group in groups:
            for known in found if self._cluster.links else ():
                one, two = known[0], group[0]
                others = [item[0] for item in groups if item[0] not in known and item is not group]
                inner = {self._link(item, item) for item in (known, group) if len(item) > 1}
                between = self._cluster.between
                if (
                    (one.kind, self._home(one)) == (two.kind, self._home(two))
                    and inner <= {between(one, two)}
                    and all(between(one, item) == between(two, item) for item in others)
                ):
                    known += group
                    break
            else:
                found.append(list(group))
        return found

    def _alike(self) -> list[list[list[int]]]:
        """Nodes that can take each other's place: of each such node its classes, aligned."""
        nodes: dict[str, list[int]] = {}
        for index, (device, *_) in enumerate(self.devices):
            nodes.setdefault(self._home(device), []).append(index)
        looks = [sorted({repr(self._look(item)) for item in devices}) for devices in self.devices]
        found: dict[object, list[list[int]]] = {}
        for node, members in nodes.items():
            told = sorted((looks[index], len(self.devices[index]), index) for index in members)
            key = node != "", repr([(look, count) for look, count, _ in told])
            found.setdefault(key, []).append([index for _, _, index in told])
        return [group for group in found.values() if len(group) > 1]

    def __len__(self) -> int:
        return len(self.devices)

    def canonical(self, used: Used, current: int) -> tuple[Used, int, tuple[int, ...] | None]:
        """The state that stands for all that nodes in other places make of it.

        Returns:
            Devices used and the class at work, as if nodes had been renamed; and of each class the
            one that it was renamed to, None where nothing was.
        """
        names: list[int] | None = None
        for group in self.alike:
            fills = [(tuple(used[i] for i in node), current in node) for node in group]
            if all(one >= two for one, two in itertools.pairwise(fills)):
                continue
            names = names or list(range(len(used)))
            order = sorted(range(len(group)), key=lambda index: fills[index], reverse=True)
            for place, index in enumerate(order):
                for new, old in zip(group[place], group[index], strict=True):
                    names[old] = new
        if names is None:
            return used, current, None
        renamed = [0] * len(used)
        for old, new in enumerate(names):
            renamed[new] = used[old]
        return tuple(renamed), names[current], tuple(names)

    def choices(self, used: Used, current: int) -> Iterator[int]:
        """Classes that could come next; of nodes that are in the same state, those of the first."""
        passed: set[int] = set()
        for group in self.alike:
            seen = set()
            for node in group:
                fill = tuple(used[i] for i in node)
                if current in node:
                    continue
                if fill in seen:
                    passed.update(node)
                seen.add(fill)
        return (index for index in range(len(used)) if index not in passed)

    def _link(self, one: list[Device], two: list[Device]) -> Link:
        if one is not two:
            return self._cluster.between(one[0], two[0])
        return self._cluster.between(one[0], one[-1]) if len(one) > 1 else self._cluster.link
