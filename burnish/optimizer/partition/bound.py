"""What no pipeline can beat: a bound on its slowest stage, found without the planner."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.cluster import Cluster


def lower_bound(chain: Chain, cluster: Cluster) -> float:
    """Seconds that the slowest stage or transfer of any plan takes at least.

    A plan has some number k of stages, so that the least over all k of the largest of three holds:

    1. All work, spread over k devices as if it were a liquid. Let v(d) be the inverse of the time
       that device d would take alone, and V(k) the sum of the k largest. Any k devices with a
       slowest stage T satisfy T V(k) >= sum_d v(d) T >= sum_d v(d) t(d) >= sum_a min_d v(d) t(a, d)
       (weak duality of linear programs); where all operators run at the same ratio of speeds this
       is total work over the sum of rates.
    2. The k - 1 cheapest transfers, of which the last is the slowest.
    3. Whatever k is: with the transfers that T allows, no operators can be parted that stand
       between two of those places, and together they take no more than T on the device that is
       fastest for them. (An operator by itself is the shortest such run.)

    Numbers of stages whose devices cannot hold the model are left out.
    """
    kinds = list({device.kind: device for device in cluster.devices}.values())
    times = [[device.seconds(atom.flops, atom.moved) for device in kinds] for atom in chain.atoms]
    alone = [sum(row[index] for row in times) for index in range(len(kinds))]
    if not all(alone):
        return 0.0
    speeds = {kind.kind: 1.0 / seconds for kind, seconds in zip(kinds, alone, strict=True)}
    spread = sum(min(s * t for s, t in zip(speeds.values(), row, strict=True)) for row in times)
    least = _unparted(times, [cluster.link.seconds(moved) for moved in chain.carried])
    fastest = sorted((speeds[device.kind] for device in cluster.devices), reverse=True)
    roomiest = sorted((device.memory for device in cluster.devices), reverse=True)
    sends = [0.0, *sorted(map(cluster.link.seconds, chain.carried[:-1]))]
    whole = chain.memory(0, len(chain))
    return min(
        (
            max(spread / sum(fastest[:count]), least, sends[count - 1])
            for count in range(1, min(len(fastest), len(sends)) + 1)
            if sum(roomiest[:count]) >= whole
        ),
        default=0.0,
    )


def _unparted(times: Sequence[Sequence[float]], sends: Sequence[float]) -> float:
    """The least T that is as long as each run of operators between transfers of at most T.

    Args:
        times: of each operator, by kind of device.
        sends: of the place behind each.
    """

    def longest(limit: float) -> float:
        sums, most = [0.0] * len(times[0]), 0.0
        for row, send in zip(times, sends, strict=True):
            sums = [total + item for total, item in zip(sums, row, strict=True)]
            most = max(most, min(sums))
            if send <= limit:
                sums = [0.0] * len(row)
        return most

    # The more is allowed, the shorter the runs: where the two meet is the least of the larger.
    limits = [0.0, *sorted(set(sends))]
    index = bisect.bisect_left(limits, True, key=lambda limit: limit >= longest(limit))
    around = limits[max(index - 1, 0) : index + 1]
    return min(max(limit, longest(limit)) for limit in around)
