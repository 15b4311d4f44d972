"""A selection of tokens at the end of a model moves up, past all work on single tokens."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.products import label
from burnish.optimizer.analysis.selection.demand import Plan, Planner, axes_by_symbol, results
from burnish.optimizer.analysis.selection.selections import Root, Selection, kept
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.contract import ROUNDING, Context, Outcome, Pass, Phase, Refusal
from burnish.optimizer.pruning import prune
from burnish.passes.restructure.selecting import Writer, renamed

PRODUCTS = ("MatMul", "Gemm", "Attention")

LEAST_OPSET = 15
"""From here on Shape can give a part of a shape; 13 made axes of Squeeze an input."""

ROUNDS = 4
"""Attempts, of which one is enough for most models."""

NEAR = 64
"""Nodes that are looked at above a stop, for work that was left."""


@dataclass(frozen=True)
class SinkSelection(Pass):
    """Compute the last layers for those tokens only that something reads.

    Before:
        `y = Gather<axis = 1>(layer(x), 0)`, and other forms: a slice, the last token, a position
        by row (`GatherND` of row numbers and positions, or of flat positions that `ArgMax` found).
    After:
        `layer(Slice(x))` for everything that treats tokens alike, and the query side of the
        attention above: its queries and its mask's rows; keys and values stay those of all
        tokens. Inside, the axis of the tokens stays, with fewer of them; it is squeezed at the end.
    Refuses when:
        A node may mix tokens, or nothing shows whether an operand differs by token, or more than
        `most` of the tokens are kept. What something else reads whole stays whole: no work is
        done twice.
    Numerics:
        Rounding: products of fewer rows are computed in other blocks.
    """

    most: float = 0.9

    name = "sink-selection"
    phase = Phase.RESTRUCTURE
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place."""
        if model.opset_imports.get("", 0) < LEAST_OPSET:
            return Outcome()
        moved, past = 0, 0
        refusals: list[Refusal] | None = None
        # What only told the shape of a value is gone afterwards, and more can be passed.
        for _ in range(ROUNDS):
            sizes = Sizes.of(model)
            plan, left = self._plan(model.graph, sizes, context)
            passed = {label(node) for node in plan.nodes}
            found = left if refusals is None else refusals
            refusals = [item for item in found if item.node not in passed]
            roots = [root for root in plan.roots if root.source in plan.values]
            if not roots:
                break
            _Rewriter(model, sizes, plan).run()
            moved = max(moved, len(roots))
            past += sum(_passed(plan).values())
        detail = f"{moved} selections moved up, past {past} products" if moved else ""
        return Outcome(moved, tuple(refusals or ()), detail=detail)

    def _plan(self, graph: ir.Graph, sizes: Sizes, context: Context) -> tuple[Plan, list[Refusal]]:
        """What is worth to be computed for some tokens only, and what was left, and why."""
        planner, last = Planner(graph, sizes), _last(graph)
        ignored, refusals = self._too_many(planner, last, sizes, context)
        plan = planner.plan(ignored)
        passed = _passed(plan)
        refusals += _explained(last, plan)
        idle = {root.selection for root in plan.roots if not passed[root.selection]}
        if idle:
            plan = planner.plan(ignored | idle)
        return plan, refusals

    def _too_many(
        self, planner: Planner, last: set[ir.Node], sizes: Sizes, context: Context
    ) -> tuple[set[Selection], list[Refusal]]:
        """Selections that leave out too little."""
        ignored, refusals = set(), []
        for root in planner.roots.values():
            counts = kept(root, sizes, context.sizes)
            if counts is not None and counts[0] <= self.most * counts[1]:
                continue
            ignored.add(root.selection)
            if root.node in last and counts is not None and counts[0] < counts[1]:
                reason = f"it keeps {counts[0]} of {counts[1]} tokens"
                refusals.append(Refusal(label(root.node), reason))
        return ignored, refusals


def _passed(plan: Plan) -> Counter[Selection]:
    """How many products each selection moves past."""
    return Counter(
        narrowed.selection for node, narrowed in plan.nodes.items() if node.op_type in PRODUCTS
    )


def _last(graph: ir.Graph) -> set[ir.Node]:
    """The nodes after which nothing mixes tokens: no attention follows."""
    mixing: set[ir.Value] = set()
    for node in reversed(graph):
        computed = [value for value in node.inputs if value and value.const_value is None]
        attends = node.op_type == "Attention" or (node.op_type == "MatMul" and len(computed) > 1)
        if attends or any(value in mixing for value in node.outputs):
            mixing.update(computed)
    return {node for node in graph if not any(value in mixing for value in node.outputs)}


def _explained(last: set[ir.Node], plan: Plan) -> list[Refusal]:
    """Why selections at the end stop before an attention, where there is work above."""
    deep = {
        narrowed.selection
        for node, narrowed in plan.nodes.items()
        if node.op_type in ("Attention", "Softmax")
    }
    ends = {
        root.selection: root
        for root in plan.roots
        if root.selection not in deep and root.node in last and _works(root.source)
    }
    # What is selected twice is explained at the first selection.
    made = {root.node.outputs[0] for root in plan.roots}
    found = [
        Refusal(label(stop.node), f"the selection stops here: {stop.reason}")
        for stop in plan.stops
        if stop.selection in ends
        and _works(stop.node.outputs[0])
        and not made.intersection(stop.node.inputs)
    ]
    outputs = [
        Refusal(label(root.node), f"{root.source.name} is needed whole: it is an output")
        for root in ends.values()
        if root.source.is_graph_output()
    ]
    return found + outputs


def _works(value: ir.Value) -> bool:
    """Whether a product is near above a value."""
    stack = [value]
    seen: set[ir.Node] = set()
    while stack and len(seen) < NEAR:
        node = stack.pop().producer()
        if node is None or node in seen:
            continue
        if node.op_type in PRODUCTS:
            return True
        seen.add(node)
        stack += [item for item in node.inputs if item is not None]
    return False


class _Rewriter:
    """Carries a plan out."""

    def __init__(self, model: ir.Model, sizes: Sizes, plan: Plan) -> None:
        self._graph, self._plan, self._sizes = model.graph, plan, sizes
        self._writer = Writer(model.graph, sizes)
        self._axes = axes_by_symbol(model.graph, sizes)
        self._named: set[ir.Value] = set()
        graphs = (model.graph, *model.graph.subgraphs())
        values = (value for graph in graphs for node in graph for value in node.outputs)
        self._names = {value.name or "" for value in values}

    def run(self) -> None:
        """Narrow the nodes, put selections before them, and drop those that they came from."""
        whole = {value for node in self._plan.nodes for value in node.inputs if value is not None}
        for node in self._plan.nodes:
            self._narrow(node)
        for root in self._plan.roots:
            if root.source in self._plan.values:
                self._drop(root)
        prune(whole)
        self._tell_shapes()
        self._graph.sort()

    def _narrow(self, node: ir.Node) -> None:
        narrowed = self._plan.nodes[node]
        for index, (value, place) in enumerate(zip(node.inputs, narrowed.parts, strict=True)):
            if place is not None and value is not None and value not in self._plan.values:
                chosen = self._writer.take(value, narrowed.selection, place)
                node.replace_input_with(index, chosen)
        if narrowed.target is not None:
            node.replace_input_with(1, self._writer.shape(narrowed.target, self._axes))
            node.attributes.pop("allowzero", None)
        causal = node.attributes.get_int("is_causal", 0) == 1
        if node.op_type == "Attention" and causal:
            self._uncover(node, narrowed.selection)
        for value in results(node):
            renamed(value, self._names)
            if value.shape is not None:
                shape = list(value.shape)
                count = None if narrowed.place.merged else narrowed.selection.count
                shape[narrowed.place.axis] = ir.SymbolicDim(None) if count is None else count
                if narrowed.place.anywhere and not narrowed.place.merged:
                    shape[0] = 1
                value.shape = ir.Shape(shape)

    def _uncover(self, node: ir.Node, selection: Selection) -> None:
        """Say by a mask what a causal attention's chosen queries see; the last one sees all."""
        node.attributes.pop("is_causal")
        if selection.is_last:
            return
        mask = node.inputs[3] if len(node.inputs) > 3 else None
        seen = self._writer.causal_mask(node, selection, mask)
        node.resize_inputs(max(4, len(node.inputs)))
        node.replace_input_with(3, seen)

    def _drop(self, root: Root) -> None:
        """Let what has the tokens already take the place of the selection."""
        result, source = root.node.outputs[0], root.source
        if root.squeezed is not None:
            axes = self._writer.constant([root.squeezed])
            plain = ir.node("Squeeze", [source, axes])
        else:
            plain = ir.node("Identity", [source])
        self._graph.insert_after(root.node, plain)
        value, name = plain.outputs[0], result.name
        value.type, value.shape = result.type, result.shape
        if root.squeezed is None and not (source.is_graph_output() or source in self._named):
            self._graph.remove(plain)
            source.type, source.shape = result.type, result.shape
            value = source
            self._named.add(source)
        ir.convenience.replace_all_uses_with(result, value, replace_graph_outputs=True)
        inputs = [item for item in root.node.inputs if item is not None]
        self._graph.remove(root.node, safe=True)
        value.name = name
        prune(inputs)

    def _tell_shapes(self) -> None:
        """Let a Shape of a value that has fewer tokens now say what it said before."""
        for value in self._plan.values:
            for use in list(value.uses()):
                if use.node.op_type == "Shape" and use.node not in self._plan.nodes:
                    self._tell(use.node, value)

    def _tell(self, node: ir.Node, value: ir.Value) -> None:
        sizes = self._sizes.shape(value) or ()
        start = node.attributes.get_int("start", 0)
        end = node.attributes.get_int("end", len(sizes))
        told = self._writer.shape(sizes[start:end], self._axes)
        ir.convenience.replace_all_uses_with(node.outputs[0], told)
        name = node.outputs[0].name
        self._graph.remove(node, safe=True)
        if told.producer() is not None:
            told.name = name
