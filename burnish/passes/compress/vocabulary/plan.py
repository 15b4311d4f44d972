"""What of a graph is the vocabulary: tables that ids are looked up in, heads, and their readers."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer import roles
from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.roles import TABLES, TRANSPARENT, Role
from burnish.optimizer.vocabulary.numbers import Numbers
from burnish.passes.compress.vocabulary.cuts import HANDED_ON, Cuts, Refused
from burnish.passes.compress.vocabulary.ids import Ids
from burnish.passes.compress.vocabulary.logits import COLUMNS, Heads

BLOCKS = "GatherBlockQuantized"
WITH_TABLE = {("com.microsoft", BLOCKS): (0, 2, 3)}
"""Lookups, and their inputs that have a slice for each row."""

WITHOUT_ROWS = 16
"""Tokens that were added to a tokenizer, and that a model may have no rows for."""

HEADLESS = 0.9
"""Share of the vocabulary from which on an output of fewer classes may be a head all the same."""


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        inputs: of the graph that take ids.
        lookups: nodes, with the input by which they take ids.
        cuts: of constants.
        heads: products.
        outputs: of the graph that are logits.
    """

    inputs: list[ir.Value]
    lookups: dict[ir.Node, int]
    cuts: Cuts
    heads: list[ir.Node]
    outputs: list[ir.Value]


def plan(model: ir.Model, numbers: Numbers, *, keep_ids: bool) -> Plan | None:
    """The plan for a model whose values say their shapes; None where no input takes ids.

    Raises:
        Refused: the vocabulary has to stay whole.
    """
    try:
        slots = [slot for slot in roles.slots(model) if slot.role is Role.IDS]
    except UnsupportedModel as error:
        raise Refused("", error.message) from None
    rows = max((slot.bound for slot in slots), default=0)
    names = {slot.port.name for slot in slots if slot.bound == rows}
    inputs = [value for value in model.graph.inputs if value.name in names]
    lookups = {
        node: where for value in inputs for node, where in _lookups(value, rows).items()
    }  # fmt: skip
    if not lookups:
        return None
    kept = numbers.rows(rows)
    if len(numbers.kept) - len(kept) > WITHOUT_ROWS:
        raise Refused(
            next(iter(lookups)),
            f"the table has {rows} rows, and the tokenizer more tokens: it is not this model's",
        )
    cuts = Cuts(rows, kept)
    found = _Finder(cuts, keep_ids, numbers)
    found.tables(lookups)
    if not keep_ids:
        found.follow(inputs)
    found.heads_of(model)
    found.finish()
    return Plan(inputs, found.lookups, cuts, found.heads.nodes, found.heads.outputs)


def _lookups(value: ir.Value, rows: int) -> dict[ir.Node, tuple[int, int]]:
    """Nodes that look ids up in a table of so many rows, with the inputs of ids and table."""
    found, seen, stack = {}, {value}, [value]
    while stack:
        for node, index in stack.pop().uses():
            for indices, table in TABLES.get((node.domain, node.op_type), ()):
                source = node.inputs[table]
                shape = source.shape if source is not None else None
                if index == indices and shape is not None and len(shape) > 1 and shape[0] == rows:
                    found[node] = (indices, table)
            if node.op_type in TRANSPARENT:
                fresh = [output for output in node.outputs if output not in seen]
                seen.update(fresh)
                stack += fresh
    return found


class _Finder:
    """Collects what is to be cut."""

    def __init__(self, cuts: Cuts, keep_ids: bool, numbers: Numbers) -> None:
        self.cuts = cuts
        self.heads = Heads(cuts)
        self.lookups: dict[ir.Node, int] = {}
        self._ids = Ids(numbers, cuts.rows)
        self._keep_ids = keep_ids

    def tables(self, lookups: dict[ir.Node, tuple[int, int]]) -> None:
        """Plan to cut the tables of lookups."""
        for node, (indices, table) in lookups.items():
            self._lookup(node, indices, table)

    def _lookup(self, node: ir.Node, indices: int, table: int) -> None:
        gathered = node.attributes.get_int("gather_axis", node.attributes.get_int("axis", 0))
        if gathered or (
            node.op_type == BLOCKS and node.attributes.get_int("quantize_axis", 1) == 0
        ):
            raise Refused(node, "it does not look whole rows up")
        self.lookups[node] = indices
        for index in WITH_TABLE.get((node.domain, node.op_type), (table,)):
            if index < len(node.inputs) and node.inputs[index] is not None:
                self.cuts.operand(node, index, 0)

    def follow(self, inputs: list[ir.Value]) -> None:
        """See to it that all that reads ids can do with the new ones."""
        self._ids.follow(inputs)
        self.cuts.edits += self._ids.edits
        strangers = [node for node in self._ids.lookups if node not in self.lookups]
        if strangers:
            raise Refused(strangers[0], "ids are looked up in a table of another size")

    def heads_of(self, model: ir.Model) -> None:
        """Plan with the heads: of outputs as wide as the vocabulary, and of the table's readers."""
        rows = self.cuts.rows
        for output in model.graph.outputs:
            width = output.shape[-1] if output.shape else None
            if isinstance(width, int) and width == rows:
                self.heads.before(output)
            elif isinstance(width, int) and HEADLESS * rows <= width < rows:
                raise Refused(
                    output.name or "", f"it may be logits of {width} of the {rows} tokens"
                )
        while unread := self.cuts.unread():
            for node, index, axis in unread:
                if (node, index) not in self.cuts.reads:  # one reader's plan may hold another
                    self._reader(node, index, axis)

    def _reader(self, node: ir.Node, index: int, axis: int) -> None:
        """Plan with a reader of what is cut that no plan knows yet."""
        places = {table: indices for indices, table in TABLES.get((node.domain, node.op_type), ())}
        if node.domain == "" and node.op_type in HANDED_ON and index == 0:
            self.cuts.hand_on(node, axis)
        elif (node.domain, node.op_type) in COLUMNS and index == 1:
            self.heads.begin(node)
        elif (index in places and self._keep_ids) or (
            index in places and node.inputs[places[index]] in self._ids.values
        ):
            self._lookup(node, places[index], index)
        else:
            raise Refused(node, f"{node.op_type} reads the table of tokens, too")

    def finish(self) -> None:
        """Make sure that logits are followed up to outputs."""
        if self.heads.nodes and not self.heads.outputs:
            raise Refused(self.heads.nodes[0], "its logits are no output")
