"""Rolls, partitions into windows and merges of patches become one move each, or none."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.movement import Moves
from burnish.optimizer.analysis.movement.streams import Streams
from burnish.optimizer.analysis.products import label
from burnish.optimizer.analysis.shapes.concrete import Concrete
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.contract import ROUNDING, Choice, Context, Outcome, Pass, Phase, Refusal
from burnish.optimizer.forms import AS_IT_IS
from burnish.optimizer.naming import Names
from burnish.passes.restructure.moves.plan import Group, groups, single
from burnish.passes.restructure.moves.sample import Sample
from burnish.passes.restructure.moves.writer import GATHERS, TRANSPOSES, Writer

MOVES = {"Transpose", "Slice", "Gather", "Split", "Concat"}

MANY = 3
"""Nodes that move in a chain from which on one move is taken unmeasured."""

LEAST_OPSET = 13
"""From here on sizes and axes are inputs wherever this pass reads them."""


@dataclass(frozen=True)
class ComposeMoves(Pass):
    """Move elements once where a chain of nodes moves them several times, or not at all.

    Windows are rolled, cut out, put back and rolled back in each block, and patches are merged from
    slices. Each such chain is one map from places to places, the same for each image. What is
    computed row by row in between (products with constant weights, normalizations, activations,
    residual sums) is the same in any order of the rows; so each such stream of rows gets the order
    in which the least is moved at its ends: windows stay windows from block to block.

    Before:
        `x + Transpose(Reshape(layer(Reshape(Transpose(Reshape(x))))))` in one block, and in the
        next one `Concat(Slice(x), Slice(x))` along both sides before that, and after it.
    After:
        `x + layer(x)`, with the tokens of `x` window by window; in the next block `layer` of
        `Gather(x, places)`, and a `Gather` behind it. Where a transpose does it, it may be one.
    Refuses when:
        One move is not measured faster than the chain; unmeasured, where the chain has fewer than
        three nodes that move and no stream's order changes. A size other than that of the first
        axis is open, or a node moves that axis. An order stays where a node that is not computed
        row by row reads or makes a value, or the graph gives it. The operator set is older than 13.
    Numerics:
        Rounding: rows of a product are computed in other blocks. Nothing else is computed anew.
    """

    name = "compose-moves"
    phase = Phase.RESTRUCTURE
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        if model.opset_imports.get("", 0) < LEAST_OPSET:
            return Outcome()
        if not any(node.op_type in MOVES for node in model.graph):
            return Outcome()
        moves = Moves(Sizes.of(model), model.graph)
        chooser = _Chooser(moves, Concrete(model, context), context)
        # All choices first: what is read of the model is valid as long as nothing is changed.
        streams = Streams(model.graph, moves)
        chooser.refuse(streams)
        left = groups(streams, moves)
        choices = []
        while left:
            group = left.pop(0)
            form = chooser.form(group)
            choices.append((group, form))
            if not form:
                left = [*single(group), *left]
        writer, names = Writer(model.graph), Names(model.graph)
        for group, form in choices:
            if form:
                group.write(writer, names, form)
        return chooser.outcome()


@dataclass
class _Chooser:
    """Chooses the form of each group, and counts."""

    moves: Moves
    concrete: Concrete
    context: Context
    composed: int = 0
    gone: int = 0
    gains: list[float] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def refuse(self, streams: Streams) -> None:
        """Say of which rows the order is fixed on both sides of a move."""
        for value, reason in streams.stuck():
            node = value.producer()
            if node is not None:
                self.refusals.append(Refusal(label(node), f"the order of its rows stays: {reason}"))

    def form(self, group: Group) -> str:
        """The form to write; empty where the group stays as it is."""
        choice = self._choice(group)
        changes = group.changes()
        if choice.winner == AS_IT_IS:
            measured = f"one move is not measurably faster ({choice.speedup:.2f} times)"
            reason = measured if choice.measured else "it stays by rule (not measured)"
            self.refusals.append(Refusal(label(group.node), reason))
            group.drop()
            return ""
        self.gains += [choice.speedup] if choice.measured else []
        self.composed += sum(change.moves for change in changes)
        self.gone += sum(not change.moves for change in changes)
        return choice.winner

    def outcome(self) -> Outcome:
        """What was done."""
        speedup = math.exp(sum(map(math.log, self.gains)) / len(self.gains)) if self.gains else None
        detail = f"{self.composed} moves composed, {self.gone} gone"
        done = self.composed + self.gone
        return Outcome(done, tuple(self.refusals), speedup, detail if done else "")

    def _choice(self, group: Group) -> Choice:
        changes = group.changes()
        most = max(len(change.move.nodes) for change in changes)
        rule = TRANSPOSES if group.streams or most >= MANY else AS_IT_IS
        if not any(change.moves for change in changes):
            return Choice(TRANSPOSES, 1.0, measured=False)
        axes = {}
        for change in changes:
            source = change.move.source
            found = self.concrete.axes(source)
            if found is None:
                return Choice(rule, 1.0, measured=False)
            axes[source.name or ""] = found
        sample = Sample(changes, axes)
        forms: dict[str, Callable[[], onnx.ModelProto]] = {
            form: functools.partial(sample.build, self.moves, form)
            for form in (AS_IT_IS, TRANSPOSES, GATHERS)
        }
        return self.context.choose(sample.key, forms, rule)
