"""A graph as a module of PyTorch, computed node by node so that gradients flow.

No model class is needed: what is trained are the tensors that the graph has, and they go back
where they came from.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from burnish.optimizer.analysis.products import label
from burnish.optimizer.contract import Array, Feeds
from burnish.optimizer.errors import UnsupportedModel, first_line
from burnish.training.operators import OPERATORS
from burnish.training.operators.form import Operator, attributes_of, tensor_of

FAILURES = (RuntimeError, IndexError, TypeError, ValueError, KeyError, NotImplementedError)
"""What PyTorch raises where a node asks for what it cannot do."""

OLDEST = 13
"""The first operator set whose operators are all meant as they are here."""


def tensors(feed: Feeds) -> dict[str, Tensor]:
    """Arrays as tensors of PyTorch."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feed.items()}


@dataclass(frozen=True)
class _Step:
    """A node: what it computes, from which places of the table of values into which.

    Attributes:
        inputs: places; -1 for an input that is left out.
        last: places that nobody reads afterwards.
    """

    node: ir.Node
    compute: Operator
    attributes: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    last: tuple[int, ...] = ()


class Network(nn.Module):
    """The main graph of a model.

    Args:
        model: what it computes; stays as it is.
        trained: names of the float initializers that become parameters.
        wanted: names of values that `forward` gives besides the outputs.

    Raises:
        UnsupportedModel: it has an operator that is not known here.
    """

    def __init__(
        self, model: ir.Model, trained: Collection[str] = (), wanted: Sequence[str] = ()
    ) -> None:
        super().__init__()
        if model.opset_imports.get("", OLDEST) < OLDEST:
            raise UnsupportedModel(f"models before operator set {OLDEST} are not trained")
        self._places: dict[ir.Value, int] = {}
        self._known: dict[int, Tensor] = {}
        graph = model.graph
        self._inputs = {value.name or "": self._place(value) for value in graph.inputs}
        self.names = [name for name in graph.initializers if name in trained]
        self.weights = nn.ParameterList()
        self._load(graph)
        steps = [self._step(node) for node in _needed(model, wanted)]
        values = {value.name: value for node in graph for value in node.outputs}
        values |= {value.name: value for value in graph.inputs}
        ends = {value.name or "": value for value in graph.outputs}
        ends |= {name: values[name] for name in wanted}
        self._outputs = {name: self._place(value) for name, value in ends.items()}
        self._steps = _with_ends(self._folded(steps), {*self._outputs.values()})

    def forward(self, feed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs, and the values that are wanted, by name.

        Args:
            feed: a tensor for each input, as the graph declares it.
        """
        table: dict[int, Tensor] = dict(self._known)
        table |= {place: feed[name] for name, place in self._inputs.items() if name in feed}
        table |= dict(zip(self._weights_at, self.weights, strict=True))
        for step in self._steps:
            _run(step, table)
            for place in step.last:
                table.pop(place, None)
        return {name: table[place] for name, place in self._outputs.items()}

    @torch.no_grad()
    def answers(self, feed: Feeds) -> dict[str, Array]:
        """The outputs of a feed of arrays, as arrays."""
        return {name: value.numpy() for name, value in self(tensors(feed)).items()}

    def trained(self) -> dict[str, Tensor]:
        """The parameters by the names of their initializers."""
        return {
            name: weight.detach() for name, weight in zip(self.names, self.weights, strict=True)
        }

    def _load(self, graph: ir.Graph) -> None:
        self._weights_at = []
        for name, value in graph.initializers.items():
            if value.const_value is None or not (value.uses() or value.is_graph_output()):
                continue
            if name not in self.names:
                self._known[self._place(value)] = tensor_of(value.const_value)
                continue
            self._weights_at.append(self._place(value))
            self.weights.append(nn.Parameter(tensor_of(value.const_value)))

    def _place(self, value: ir.Value) -> int:
        return self._places.setdefault(value, len(self._places))

    def _step(self, node: ir.Node) -> _Step:
        compute = OPERATORS.get(node.op_type) if node.domain == "" else None
        if compute is None:
            named = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise UnsupportedModel(f"operator {named} cannot be trained", place=label(node))
        inputs = (self._place(value) if value is not None else -1 for value in node.inputs)
        outputs = (self._place(value) if value.name else -1 for value in node.outputs)
        return _Step(node, compute, attributes_of(node), tuple(inputs), tuple(outputs))

    def _folded(self, steps: Sequence[_Step]) -> list[_Step]:
        """The steps without those that compute on constants alone, which is done at once."""
        left = []
        with torch.no_grad():
            for step in steps:
                if all(place in self._known for place in step.inputs if place >= 0):
                    _run(step, self._known)
                else:
                    left.append(step)
        return left


def _run(step: _Step, table: dict[int, Tensor]) -> None:
    inputs = [table[place] if place >= 0 else None for place in step.inputs]
    try:
        result = step.compute(step.attributes, *inputs)
    except FAILURES as error:
        message = f"{step.node.op_type} is not computed here: {first_line(error)}"
        raise UnsupportedModel(message, place=label(step.node)) from None
    results = [result] if isinstance(result, Tensor) else result
    for place, tensor in zip(step.outputs, results, strict=False):
        if place >= 0:
            table[place] = tensor


def _needed(model: ir.Model, wanted: Collection[str]) -> list[ir.Node]:
    """The nodes that an output, or a wanted value, needs."""
    needed: set[ir.Node] = set()
    for node in reversed(list(model.graph)):
        for value in node.outputs:
            read = any(use.node in needed for use in value.uses())
            if read or value.is_graph_output() or value.name in wanted:
                needed.add(node)
    return [node for node in model.graph if node in needed]


def _with_ends(steps: Sequence[_Step], kept: Collection[int]) -> list[_Step]:
    """The steps with the places that each is the last to read."""
    seen, found = set(kept), []
    for step in reversed(steps):
        last = {place for place in (*step.inputs, *step.outputs) if place >= 0} - seen
        seen |= last
        found.append(
            _Step(step.node, step.compute, step.attributes, step.inputs, step.outputs, tuple(last))
        )
    return found[::-1]
