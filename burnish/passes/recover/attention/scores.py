"""What stands between a product of queries and keys and its softmax: scale, cap and masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx_ir as ir

from burnish.optimizer.analysis.matching import number, rank
from burnish.optimizer.analysis.products import label

HIDING = -1e3
"""A score set to this or less takes no part beside one that is not hidden."""

CLAMP = -1e30
"""A lower bound of scores that only stands for infinity."""

DEEPEST = 24
"""Nodes between a softmax and its product."""


@dataclass(frozen=True)
class Term:
    """Something that is added to the scores: `factor * value`."""

    value: ir.Value
    factor: float
    windows: ir.Node | None = None


@dataclass(frozen=True)
class Hidden:
    """Scores that a condition rules out: where it holds, or where it does not."""

    condition: ir.Value
    where: bool
    fill: float
    windows: ir.Node | None = None


@dataclass(frozen=True)
class Scores:
    """`cap * tanh(scale * product / cap) + terms`, without the tanh where `cap` is 0.

    Attributes:
        product: the node that multiplies queries and keys.
        scale: constant factor of the product.
        cap: bound of the capped product, or 0.
        terms: what is added to it, and what hides scores.
        multipliers: factors that are computed, or differ from head to head.
        cast: the softmax's element type where it is not the product's.
    """

    product: ir.Node
    scale: float = 1.0
    cap: float = 0.0
    terms: tuple[Term | Hidden, ...] = ()
    multipliers: tuple[ir.Value, ...] = ()
    cast: ir.DataType | None = None


@dataclass(frozen=True)
class Miss:
    """Where, and how, something differs from the nearest form that is known."""

    node: ir.Node
    reason: str


@dataclass(frozen=True)
class _State:
    """What has been passed on the way up from the softmax."""

    factor: float = 1.0
    cap: float = 0.0
    terms: tuple[Term | Hidden, ...] = ()
    multipliers: tuple[ir.Value, ...] = ()
    windows: ir.Node | None = None
    cast: ir.DataType | None = None


def scores_of(value: ir.Value | None) -> Scores | Miss | None:
    """The scores that a softmax reads; None where no product of two activations is behind them."""
    return _Walk().up(value, _State(), DEEPEST)


class _Walk:
    """The way up from a softmax. Values behind which there is no product are looked at once."""

    def __init__(self) -> None:
        self._dead: set[ir.Value] = set()

    def up(self, value: ir.Value | None, state: _State, depth: int) -> Scores | Miss | None:
        """What is behind a value, given what has been passed already."""
        node = value.producer() if value is not None else None
        if value is None or node is None or depth == 0 or value in self._dead:
            return None
        found: Scores | Miss | None = None
        if node.op_type in ("MatMul", "FusedMatMul"):
            found = _end(node, state)
        elif node.domain == "" and (step := self._step(node.op_type)) is not None:
            found = step(node, state, depth - 1)
        if found is None:
            self._dead.add(value)
        return found

    def _step(self, operator: str) -> _Step | None:
        return {
            "Identity": self._pass,
            "Dropout": self._pass,
            "Cast": self._cast,
            "Add": self._add,
            "Sub": self._add,
            "Mul": self._mul,
            "Div": self._div,
            "Tanh": self._tanh,
            "Where": self._where,
            "Max": self._clamp,
            "Reshape": self._reshape,
            "Squeeze": self._reshape,
            "Unsqueeze": self._reshape,
        }.get(operator)

    def _unless(
        self, problem: str, node: ir.Node, value: ir.Value | None, state: _State, depth: int
    ) -> Scores | Miss | None:
        """What is behind a value; a miss where a problem stands before a product."""
        found = self.up(value, state, depth)
        return Miss(node, problem) if problem and found is not None else found

    def _pass(self, node: ir.Node, state: _State, depth: int) -> Scores | Miss | None:
        return self.up(node.inputs[0], state, depth)

    def _cast(self, node: ir.Node, state: _State, depth: int) -> Scores | Miss | None:
        kind = node.outputs[0].dtype
        wide = kind in (ir.DataType.FLOAT, ir.DataType.DOUBLE)
        state = replace(state, cast=kind) if wide and state.cast is None else state
        return self.up(node.inputs[0], state, depth)

    def _add(self, node: ir.Node, state: _State, depth: int) -> Scores | Miss | None:
        first, second = node.inputs[0], node.inputs[1]
        assert first is not None and second is not None
        sides = [(first, second, -1.0 if node.op_type == "Sub" else 1.0)]
        if node.op_type == "Add":
            sides.append((second, first, 1.0))
        early = state.cap or state.multipliers
        problem = "something is added before the scores are capped or multiplied" if early else ""
        missed: Scores | Miss | None = None
        for inner, other, sign in sides:
            term = Term(other, sign * state.factor, state.windows)
            more = replace(state, terms=(*state.terms, term))
            found = self._unless(problem, node, inner, more, depth)
            if isinstance(found, Scores):
                return found
            missed = missed or found
        return missed

    def _mul(self, node: ir.Node, state: _State, depth: int) -> Scores | Miss | None:
        first, second = node.inputs[0], node.inputs[1]
        missed: Scores | Miss | None = None
        for inner, other in ((first, second), (second, first)):
            problem, more = "", state
            factor = number(other)
            if factor is not None:
                more = replace(state, factor=state.factor * factor)
            elif other is not None and _per_head(other) and not state.cap:
                more = replace(state, multipliers=(*state.multipliers, other))
            else:
                problem = "the scores are multiplied by what is no constant"
            found = self._unless(problem, node, inner, more, depth)
            if isinstance(found, Scores):
                return found
            missed = missed or found
        return missed

    def _div(self, node: ir.Node, state: _State, depth: int) -> Scores | Miss | None:
        divisor = number(node.inputs[1])
        problem = "" if divisor else "the scores are divided by what is no constant"
        state = replace(state, factor=state.factor / (divisor or 1.0))
        return self._unless(problem, node, node.inputs[0], state, depth)

    def _tanh(self, node: ir.Node, state: _State, depth: int) -> Scores | Miss | None:
        twice = state.cap or state.multipliers or state.factor <= 0
        problem = "a tanh is no cap of the scores" if twice else ""
        state = replace(state, cap=state.factor, factor=1.0)
        return self._unless(problem, node, node.inputs[0], state, depth)

    def _where(self, node: ir.Node, state: _State, depth: int) -> Scores | Miss | None:
        condition = node.inputs[0]
        assert condition is not None
        for index in (1, 2):
            fill = number(node.inputs[index])
            if fill is None:
                continue
            kept = fill * state.factor > HIDING or state.cap
            problem = f"a Where puts {fill:g} among the scores" if kept else ""
            hidden = Hidden(condition, index == 1, fill, state.windows)
            more = replace(state, terms=(*state.terms, hidden))
            return self._unless(problem, node, node.inputs[3 - index], more, depth)
        return None

    def _clamp(self, node: ir.Node, state: _State, depth: int) -> Scores | Miss | None:
        bounds = [number(item) for item in node.inputs]
        if len(bounds) != 2 or not any(bound is not None and bound <= CLAMP for bound in bounds):
            return None
        return self.up(node.inputs[0 if bounds[0] is None else 1], state, depth)

    def _reshape(self, node: ir.Node, state: _State, depth: int) -> Scores | Miss | None:
        """Leading axes are merged or split; queries and keys stay the last two."""
        outer, inner = node.outputs[0], node.inputs[0]
        ranks = (rank(inner), rank(outer))
        problem = ""
        if inner is None or not same_last(outer, inner):
            problem = "the scores change their last two axes"
        elif ranks == (4, 5):  # windows are put back beside the heads
            state = replace(state, windows=None)
        elif ranks == (5, 4):
            state = replace(state, windows=node)
        elif set(ranks) - {3, 4}:
            problem = "the scores have neither three nor four axes"
        return self._unless(problem, node, inner, state, depth)


_Step = Callable[[ir.Node, _State, int], Scores | Miss | None]


def _end(node: ir.Node, state: _State) -> Scores | Miss | None:
    # Positions times a constant are a router, or classes; a constant times positions is a query.
    if node.inputs[0] is None or node.inputs[1] is None or node.inputs[1].const_value is not None:
        return None
    if rank(node.outputs[0]) not in (3, 4) or state.windows is not None:
        return Miss(node, "the scores have neither three nor four axes")
    scale = state.factor * (state.cap or 1.0)
    if node.op_type == "FusedMatMul":
        scale *= node.attributes.get_float("alpha", 1.0)
    if scale <= 0 or not math.isfinite(scale):
        return Miss(node, f"the scores are multiplied by {scale:g}")
    return Scores(node, scale, state.cap, state.terms, state.multipliers, state.cast)


def _per_head(value: ir.Value) -> bool:
    """Whether a factor is the same for all pairs of a query and a key."""
    return rank(value) >= 2 and value.shape is not None and all(d == 1 for d in value.shape[-2:])


def same_last(first: ir.Value, second: ir.Value) -> bool:
    """Whether the last two axes of two values have the same sizes, as far as both say them."""
    if first.shape is None or second.shape is None:
        return False
    pairs = zip(first.shape[-2:], second.shape[-2:], strict=True)
    return all(
        mine == theirs
        for mine, theirs in pairs
        if isinstance(mine, int) and isinstance(theirs, int)
    )


def describe(miss: Miss) -> str:
    """The reason with the node at which the form differs."""
    return f"{miss.reason} (at {label(miss.node)})"
