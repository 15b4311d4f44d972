"""A model split over ranks: what is split, and the models of each rank."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.costs.products import costs
from burnish.optimizer.analysis.shapes import symbols
from burnish.optimizer.partition.shards.choose import Choice, Chooser, stored_share
from burnish.optimizer.partition.shards.flow import Sweep
from burnish.optimizer.partition.shards.layout import WHOLE, Layout, Parts
from burnish.optimizer.partition.shards.parts import Part, rank_parts
from burnish.optimizer.partition.shards.rank import rank_model
from burnish.optimizer.partition.shards.settle import settled
from burnish.optimizer.partition.shards.site import Facts
from burnish.optimizer.partition.shards.sums import Sums, delayed
from burnish.optimizer.signature import Signature

FEW = 8
"""The least size of an open axis at which what is fixed is looked for where the user's is given."""


@dataclass(frozen=True)
class Sharding:
    """A model and what of it is split.

    Attributes:
        model: a copy, with constants as initializers.
        ranks: how many.
        choice: what is split.
        sums: what is added up.
        sizes: bytes of values by name, at the sizes asked for.
        flops: of nodes, at these sizes.
    """

    model: ir.Model
    ranks: int
    choice: Choice
    sums: Sums
    facts: Facts
    sizes: Mapping[str, float]
    flops: Mapping[ir.Node, float]

    @property
    def reduced(self) -> dict[str, float]:
        """What ranks add up, and its bytes."""
        names = [value.name or "" for value in self.sums.reduced]
        return {name: self.sizes.get(name, 0.0) for name in names}

    @property
    def gathers(self) -> dict[str, tuple[int, Parts]]:
        """What ranks put beside each other within a run: along which axis, and which parts."""
        return {
            goal.node.outputs[0].name or "": goal.gives.axes[0]
            for goal in self.choice.goals
            if goal.gathers
        }

    @property
    def gathered(self) -> dict[str, float]:
        """What ranks put beside each other within a run, and its bytes."""
        return {name: self.sizes.get(name, 0.0) for name in self.gathers}

    @property
    def whole(self) -> float:
        """Bytes of all weights, each counted once."""
        values = self.model.graph.initializers.values()
        tensors = {id(v.const_value): v.const_value for v in values if v.uses()}
        return math.fsum(tensor.nbytes for tensor in tensors.values() if tensor is not None)

    @property
    def ports(self) -> dict[str, Layout]:
        """Inputs and outputs of the model that are in parts."""
        values = (*self.model.graph.inputs, *self.model.graph.outputs)
        gives = self.choice.flow.gives
        return {value.name or "": gives[value] for value in values if value in gives}

    @property
    def weights(self) -> float:
        """Bytes that the rank stores that stores most."""
        values = self.model.graph.initializers.values()
        return math.fsum(
            value.const_value.nbytes * stored_share(value, self.choice.flow)
            for value in values
            if value.const_value is not None and value.uses()
        )

    def parts(self, rank: int) -> list[Part]:
        """The models of one rank, in order."""
        goals, flow = self.choice.goals, self.choice.flow
        made = rank_model(self.model, self.facts, goals, flow, self.sums.once, rank)
        return rank_parts(made, {*self.reduced, *self.gathered})

    def layout(self, value: ir.Value) -> Layout:
        """How a value of `model` lies on ranks."""
        return self.choice.flow.gives.get(value, WHOLE)


def shard(model: ir.Model, sizes: Mapping[str, int], ranks: int) -> Sharding:
    """Split a model over ranks, as far as that is worth it at these sizes.

    Args:
        model: its values know their types (`shapes.annotate`); it stays as it is.
        sizes: by symbolic dimension.
        ranks: at least 2.
    """
    copy = settled(model, shapes.infer(model, sizes, bounded=True))
    known = shapes.infer(copy, sizes, bounded=True)
    facts = _facts(copy, sizes)
    flops: dict[ir.Node, float] = {}
    for item in costs(copy.graph, known):
        flops[item.node] = item.flops or 0.0
    lengths = _bytes(copy, known)
    sweep = Sweep(copy.graph, facts, ranks)
    choice = Chooser(sweep, flops, lengths).choose()
    made = [goal.node.outputs[0] for goal in choice.goals if goal.adds]
    sums = delayed(copy.graph, made, choice.flow, lengths)
    return Sharding(copy, ranks, choice, sums, facts, lengths, flops)


def _facts(model: ir.Model, sizes: Mapping[str, int]) -> Facts:
    """Shapes at two assignments of sizes: what differs between them is not fixed.

    They are near what the user asks for, where windows and convolutions fit; sizes of 1, or of no
    past at all, would hide what axes are made of.
    """
    names = symbols(Signature.of(model).inputs)
    both: list[dict[str, int]] = [{}, {}]
    for index, name in enumerate(names):
        asked = sizes.get(name, 0)
        large = asked >= FEW
        both[0][name] = asked if large else FEW + 3 + index
        both[1][name] = asked // 2 if large else FEW + 5 + index
    first, second = (shapes.infer(model, item, bounded=True) for item in both)
    return Facts(first, second, model.opset_imports.get("", 13))


def _bytes(model: ir.Model, known: Mapping[str, tuple[int, ...]]) -> dict[str, float]:
    found = {}
    for node in model.graph:
        for value in node.outputs:
            shape = known.get(value.name or "")
            if shape is not None:
                kind = value.dtype or ir.DataType.FLOAT
                found[value.name or ""] = float(math.ceil(math.prod(shape) * kind.itemsize))
    return found
