"""Work and memory spread like a liquid: what a plan could reach if operators were divisible.

The least T of spreading all operators over devices, each busy for at most T and holding no more
than its memory, is a linear program. By weak duality any prices y >= 0 of time and z >= 0 of memory
bound it from below (with n devices of a kind):

    T sum_k n_k y_k >= sum_a min_k (y_k t(a, k) + z_k m(a)) - sum_k n_k z_k M_k

The best prices are looked for by subgradients (Shor 1985), of which each step is a bound by itself,
so that nothing depends on how near they come.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from burnish.optimizer.partition.cluster import Device
from burnish.optimizer.partition.run_costs import RunCosts, Unit

STEPS = 200


def spread_bound(costs: RunCosts, *, memory: bool) -> float:
    """Seconds that the slowest stage takes at least, with memory or without; 0 if not known."""
    kinds = _kinds(costs)
    counts = np.array([count for _, _, count in kinds], float)
    times = np.array([costs.each(unit) for unit, _, _ in kinds])
    held = np.array(costs.chain.portions, float)
    rooms = np.array([min(device.memory, held.sum()) for _, device, _ in kinds])
    if not memory or rooms.min() >= held.sum():
        held = np.zeros_like(held)
    elif not held.sum():
        return 0.0
    alone = times.sum(axis=1)
    if not alone.all():
        return 0.0
    whole = max(float(held.sum()), 1.0)
    times, held, rooms = times / alone.min(), held / whole, rooms / whole
    speeds = 1.0 / times.sum(axis=1)
    log_y, z, best = np.log(speeds / (counts @ speeds)), np.zeros(len(kinds)), 0.0
    for step in range(STEPS):
        y = np.exp(log_y - log_y.max())
        y /= counts @ y
        weighed = y[:, None] * times + z[:, None] * held
        chosen = weighed.argmin(axis=0)
        value = float(weighed.min(axis=0).sum() - (counts * z * rooms).sum())
        best = max(best, value)
        busy = np.array([times[k, chosen == k].sum() for k in range(len(kinds))])
        full = np.array([held[chosen == k].sum() for k in range(len(kinds))])
        size = 0.5 / math.sqrt(step + 1.0)
        log_y += size * y * (busy - counts * value) / max(value, 1e-12)
        z = np.maximum(z + 0.2 * size * value * (full - counts * rooms), 0.0)
    return best * float(alone.min())


def memory_latency(costs: RunCosts) -> float:
    """Seconds that one run takes at least: the same, where time costs the same everywhere.

    The sum over operators of the least time on any unit, of which each device holds no more than
    its memory.
    """
    kinds = _kinds(costs)
    place = {device.kind: index for index, (_, device, _) in enumerate(kinds)}
    home = np.array([place[costs.device(unit).kind] for unit in costs.units])
    times = np.array([costs.each(unit) for unit in costs.units])
    held = np.array(costs.chain.portions, float)
    counts = np.array([count for _, _, count in kinds], float)
    rooms = counts * [min(device.memory, float(held.sum())) for _, device, _ in kinds]
    scale, whole = float(times.min(axis=0).sum()), max(float(held.sum()), 1.0)
    times, held, rooms = times / max(scale, 1e-300), held / whole, rooms / whole
    z, best = np.zeros(len(kinds)), 0.0
    for step in range(STEPS):
        weighed = times + z[home][:, None] * held
        chosen = home[weighed.argmin(axis=0)]
        value = float(weighed.min(axis=0).sum() - (z * rooms).sum())
        best = max(best, value)
        full = np.array([held[chosen == k].sum() for k in range(len(kinds))])
        z = np.maximum(z + (full - rooms) / math.sqrt(step + 1.0), 0.0)
    return best * scale


def _kinds(costs: RunCosts) -> Sequence[tuple[Unit, Device, int]]:
    """Of each kind of device one unit, the device, and how many there are."""
    found: dict[object, tuple[Unit, Device, int]] = {}
    for index, devices in enumerate(costs.classes.devices):
        unit, device, count = found.get(devices[0].kind, (Unit(index), devices[0], 0))
        found[devices[0].kind] = unit, device, count + len(devices)
    return list(found.values())
