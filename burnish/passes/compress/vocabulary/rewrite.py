"""Writes the plan into the graph: fewer rows, and the way from the caller's ids to the new ones."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from burnish.optimizer.constants import Constants
from burnish.optimizer.contract import Array
from burnish.optimizer.naming import Names
from burnish.optimizer.renumbering import Renumbering
from burnish.optimizer.undefined import CutTokens
from burnish.passes.compress.vocabulary.plan import Plan


class Rewriter:
    """Writes one plan.

    Args:
        model: changed in place.
        plan: what is to be done.
        keep_ids: whether the caller's ids stay in the artifact.
        unknown: the new id of tokens that are cut; past the last one for none.
    """

    def __init__(self, model: ir.Model, plan: Plan, keep_ids: bool, unknown: int) -> None:
        self._graph, self._plan = model.graph, plan
        self._keep_ids = keep_ids
        self._constants, self._names = Constants(), Names(model.graph)
        rows, kept = plan.cuts.rows, plan.cuts.kept
        self._places = np.full(rows, unknown, np.int32)
        self._places[kept] = np.arange(len(kept), dtype=np.int32)

    def write(self) -> tuple[tuple[CutTokens, ...], Renumbering | None]:
        """Rewrite; the logits that mean nothing now, and the ports that differ."""
        plan, graph = self._plan, self._graph
        plan.cuts.write(graph)
        inputs = [] if self._keep_ids else [self._input(port) for port in plan.inputs]
        for node, index in plan.lookups.items():
            if self._keep_ids:
                node.replace_input_with(index, self._places_of(node.inputs[index], node))
            # Under the old name it would be a lookup in a table that has other rows than it had.
            for output in node.outputs:
                if not output.is_graph_output():
                    output.name = self._names.free(f"{output.name}_kept")
        outputs = [self._output(port) for port in plan.outputs]
        kept = tuple(int(old) for old in plan.cuts.kept)
        undefined = tuple(CutTokens(name, kept) for name, _ in outputs)
        if self._keep_ids:
            return undefined, None
        ports = tuple(inputs), tuple(outputs)
        return undefined, Renumbering(kept, plan.cuts.rows, *ports)

    def _input(self, port: ir.Value) -> tuple[str, str]:
        """Let everybody read new ids; the names of the input and of these."""
        uses = tuple(port.uses())
        first = next(iter(self._graph))
        new = self._places_of(port, first)
        new.name = self._names.free(f"{port.name}_new")
        for use in uses:
            use.node.replace_input_with(use.idx, new)
        return port.name or "", new.name

    def _places_of(self, ids: ir.Value | None, before: ir.Node) -> ir.Value:
        """The new ids of old ones, computed before a node."""
        assert ids is not None
        kind = ids.dtype or ir.DataType.INT64
        places = self._constant("places", self._places)
        nodes = [ir.node("Gather", [places, ids], {"axis": 0})]
        nodes[-1].outputs[0].dtype = ir.DataType.INT32
        if kind is not ir.DataType.INT32:
            nodes.append(ir.node("Cast", [nodes[-1].outputs[0]], {"to": kind.value}))
        self._graph.insert_before(before, nodes)
        for node in nodes:
            node.outputs[0].shape = ids.shape
        nodes[-1].outputs[0].dtype = kind
        return nodes[-1].outputs[0]

    def _output(self, port: ir.Value) -> tuple[str, str]:
        """Let an output have the logits of all tokens; its name and that of the kept ones."""
        name, rows, kept = port.name or "", self._plan.cuts.rows, self._plan.cuts.kept
        kind = port.dtype or ir.DataType.FLOAT
        inner = self._names.free(f"{name}_kept")
        there = np.zeros(rows, bool)
        there[kept] = True
        nowhere = self._constants.of(self._graph, "cut", np.array(-np.inf, kind.numpy()), kind)
        # What cut tokens take does not matter, but has to be there; one table will mostly do.
        columns = np.minimum(self._places, len(kept) - 1)
        gather = ir.node("Gather", [port, self._constant("columns", columns)], {"axis": -1})
        where = ir.node("Where", [self._constant("there", there), gather.outputs[0], nowhere])
        maker, index = port.producer(), [*self._graph.outputs].index(port)
        assert maker is not None
        self._graph.insert_after(maker, [gather, where])
        whole = where.outputs[0]
        sizes = list(port.shape) if port.shape is not None else None
        for value in (gather.outputs[0], whole):
            value.dtype = kind
            value.shape = ir.Shape([*sizes[:-1], rows]) if sizes is not None else None
        port.name, whole.name = inner, name
        self._graph.outputs[index] = whole
        return name, inner

    def _constant(self, name: str, array: Array) -> ir.Value:
        return self._constants.of(self._graph, self._names.free(f"vocabulary_{name}"), array)
