"""Which values inside of a teacher and a student are held to each other.

Layers are paired evenly: the last with the last, and of a student of half as many layers each with
every second one.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from burnish.optimizer.analysis.stream import Stream

INPUTS = 3
"""Queries, keys and values: the first inputs of an attention."""


@dataclass(frozen=True)
class Relation:
    """An attention whose queries, keys and values are looked at.

    Attributes:
        query, key, value: their names.
        heads, shared: heads of the queries, and of keys and values; 0 where they are axes.
    """

    query: str
    key: str
    value: str
    heads: int
    shared: int


@dataclass(frozen=True)
class Taps:
    """What is looked at in one of the two; the other has as many of each.

    Attributes:
        hidden: values of the residual stream [batch, sequence, hidden].
        relations: of attentions.
    """

    hidden: tuple[str, ...] = ()
    relations: tuple[Relation, ...] = ()

    @property
    def names(self) -> list[str]:
        """All values that are looked at."""
        of_attentions = ((item.query, item.key, item.value) for item in self.relations)
        return list(dict.fromkeys([*self.hidden, *(name for row in of_attentions for name in row)]))


def paired(teacher: Stream, student: Stream) -> tuple[Taps, Taps]:
    """What is compared of a teacher and a student; nothing where either has no stream."""
    mine, theirs = len(student.layers), len(teacher.layers)
    if not mine or not theirs:
        return Taps(), Taps()
    numbers = [max(0, round((index + 1) * theirs / mine) - 1) for index in range(mine)]
    first = _taps(teacher, numbers)
    second = _taps(student, range(mine))
    if len(first.relations) != len(second.relations):
        first, second = Taps(first.hidden), Taps(second.hidden)
    return first, second


def _taps(stream: Stream, numbers: list[int] | range) -> Taps:
    hidden = tuple(stream.ends[number + 1].name or "" for number in numbers)
    # The last layer's relations alone teach as much as those of all (Wang et al., 2020).
    found = (_relation(node) for node in stream.layers[numbers[-1]])
    return Taps(hidden, tuple(item for item in found if item is not None))


def _relation(node: ir.Node) -> Relation | None:
    """What an attention in one operator is given; None of one in several."""
    if node.op_type != "Attention" or node.domain != "":
        return None
    names = [value.name or "" for value in node.inputs[:INPUTS] if value is not None]
    heads = node.attributes.get_int("q_num_heads", 0)
    shared = node.attributes.get_int("kv_num_heads", 0)
    return Relation(names[0], names[1], names[2], heads, shared)
