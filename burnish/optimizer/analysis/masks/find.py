"""The masks of a model, each worked out once."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from burnish.optimizer.analysis.masks import logic, terms
from burnish.optimizer.analysis.masks.assume import Assumptions
from burnish.optimizer.analysis.masks.clauses import Bias, Clause, Grid, Opaque, is_constant, tables
from burnish.optimizer.analysis.masks.evaluate import Evaluator
from burnish.optimizer.analysis.masks.functions import call
from burnish.optimizer.analysis.masks.mask import Mask
from burnish.optimizer.analysis.masks.normal_form import biases_of, clauses_of
from burnish.optimizer.analysis.masks.rewrite import axes, substitute, topological
from burnish.optimizer.analysis.masks.tables import recognised
from burnish.optimizer.analysis.masks.tensors import Tensor
from burnish.optimizer.analysis.masks.terms import ZERO, Term, index
from burnish.optimizer.analysis.masks.visible import NotNumber, Split, split
from burnish.optimizer.analysis.products import label

NAMES = {
    2: ("query", "key"),
    3: ("row", "query", "key"),
    4: ("batch", "head", "query", "key"),
    5: ("batch", "window", "head", "query", "key"),
}
"""Names of the axes by their number."""


class Masks:
    """Normal forms of values, remembered; valid as long as the graph is not changed."""

    def __init__(self) -> None:
        self._evaluator = Evaluator()
        self._known: dict[object, Mask] = {}

    def of(
        self, value: ir.Value, *, axes: Sequence[str] | None = None, inverted: bool = False
    ) -> Mask:
        """The mask that a value is.

        Args:
            value: added to scores, or boolean (true where a key is seen).
            axes: names of its axes; the last two are "query" and "key".
            inverted: the value is boolean and true where a key is hidden.
        """
        wanted = (value, tuple(axes or ()), inverted)
        if wanted not in self._known:
            self._known[wanted] = self._analyse(value, axes, inverted)
        return self._known[wanted]

    def _analyse(self, value: ir.Value, names: Sequence[str] | None, inverted: bool) -> Mask:
        try:
            tensor = self._evaluator.tensor(value)
            if tensor is None:
                return _unknown(value, "its rank is not known")
            named = tuple(names) if names else NAMES.get(max(2, tensor.rank), ())
            named = named[-tensor.rank :] if tensor.rank else ()
            if len(named) != tensor.rank:
                return _unknown(value, f"it has {tensor.rank} axes")
            return _normal(value, tensor, named, inverted)
        except RecursionError:
            return _unknown(value, "it is nested too deep")


def _unknown(value: ir.Value, reason: str) -> Mask:
    boolean = value.dtype is ir.DataType.BOOL
    opaque = Opaque(reason, _place(value))
    everything = frozenset({"batch", "head", "query", "key"})
    return Mask(value, boolean, (), (opaque,), (), frozenset(), everything, ())


def _place(value: ir.Value) -> str:
    node = value.producer()
    return label(node) if node is not None else f"input {value.name}"


def _normal(value: ir.Value, tensor: Tensor, names: tuple[str, ...], inverted: bool) -> Mask:
    positions = tuple(map(index, names, tensor.shape))
    term = recognised(tensor.at(positions))
    if names[:1] == ("row",):
        term, outer = _outer_axis(term, positions[0])
        positions = (outer, *positions[1:])
    assumptions = Assumptions(tensor.assumed)
    term = assumptions.relaxed(term)
    grid, node = Grid(*(ZERO, ZERO, *positions)[-2:]), _place(value)
    boolean = term.boolean or tensor.dtype is ir.DataType.BOOL
    if inverted:
        term = logic.negation(term)
    try:
        parts = Split(term, ZERO) if boolean else split(term)
    except NotNumber:
        return _unknown(value, "it adds what is no number")
    clauses: list[Clause] = clauses_of(parts.visible, grid, node, parts.binary)
    biases: list[Bias] = biases_of(parts.bias, grid, node)
    return Mask(
        value, boolean, positions, tuple(clauses), tuple(biases), parts.levels,
        frozenset(map(str, axes(terms.make("pair", (parts.visible, parts.bias))))),
        assumptions.sentences(parts.binary), inverted,
    )  # fmt: skip


def _outer_axis(term: Term, outer: Term) -> tuple[Term, Term]:
    """The first of three axes as batch and head, where it is divided into these."""
    if outer.op != "index":
        return term, outer
    for item in topological(term):
        if item.op == "call" and item.value in ("floor_div", "mod") and outer in _atoms(item):
            heads = item.args[1]
            batch = index("batch", call("floor_div", outer.args[0], heads))
            both = terms.add(terms.times(batch, heads), index("head", heads))
            return substitute(term, {outer: both}), both
    by_input = not all(map(is_constant, tables(term)))
    named = index("batch" if by_input or outer.args[0].op != "const" else "head", outer.args[0])
    return substitute(term, {outer: named}), named


def _atoms(item: Term) -> set[Term]:
    return set(terms.linear(item.args[0])[0])
