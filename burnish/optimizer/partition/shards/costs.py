"""What splitting a model over ranks does to each operator of a chain, for planners."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.partition.chain import Chain
from burnish.optimizer.partition.shards.choose import stored_share
from burnish.optimizer.partition.shards.sharding import shard
from burnish.optimizer.regions import captured


@dataclass(frozen=True)
class ShardCost:
    """What one atom of a chain costs a rank.

    Attributes:
        share: of its flops and bytes, what the rank has that has most; 1.0 where it is whole.
        weights: bytes of its weights that a rank stores; one that several atoms read is counted
            with the first of them.
        reduced: bytes that ranks add up or gather behind it; 0 for none.
    """

    share: float
    weights: float
    reduced: float


def shard_costs(
    model: ir.Model, chain: Chain, sizes: Mapping[str, int], ranks: int
) -> list[ShardCost]:
    """What each atom of a chain costs a rank where the model is split over so many.

    Args:
        model: annotated, of which `chain` was made.
        chain: of it.
        sizes: by symbolic dimension.
        ranks: 1 for the chain as it is.
    """
    if ranks == 1:
        return _whole(chain)
    sharding = shard(model, sizes, ranks)
    made = {value.name: node for node in sharding.model.graph for value in node.outputs}
    shares = {goal.node: goal.share for goal in sharding.choice.goals}
    flow, brought = sharding.choice.flow, sharding.reduced | sharding.gathered
    seen: set[str | None] = set()
    found = []
    for atom in chain.nodes:
        node = made.get(atom.outputs[0].name)
        weights = 0.0
        for value in captured(atom):
            if value.const_value is None or value.name in seen:
                continue
            seen.add(value.name)
            mine = sharding.model.graph.initializers.get(value.name or "")
            share = stored_share(mine, flow) if mine is not None else 1.0
            weights += value.const_value.nbytes * share
        share = 1.0
        if node is not None and node in flow.wants:
            share = shares.get(node, flow.share(node))
        reduced = sum(brought.get(value.name or "", 0.0) for value in atom.outputs)
        found.append(ShardCost(share, weights, reduced))
    return found


def _whole(chain: Chain) -> list[ShardCost]:
    seen: set[ir.Value] = set()
    found = []
    for node in chain.nodes:
        weights = 0.0
        for value in captured(node):
            if value.const_value is not None and value not in seen:
                seen.add(value)
                weights += value.const_value.nbytes
        found.append(ShardCost(1.0, weights, 0.0))
    return found
