"""Features that rotate in pairs: what sums of terms say about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import onnx_ir as ir


class Term(NamedTuple):
    """`sign * x[feature] * content`; without a table the content is 1.

    Attributes:
        content: number of what is multiplied by (see `Columns`), made positive.
        own: -1 where the table's column holds the negative of the content.
        places: axes along which the table varies, counted from the features backwards.
        tail: trailing axes of the table that `column` counts.
    """

    feature: int
    sign: int
    content: int = 0
    own: int = 1
    places: tuple[int, ...] = ()
    table: ir.Value | None = None
    tail: int = 1
    column: int = 0


Entry = tuple[Term, ...]
Form = tuple[Entry, ...]
"""Each element of the trailing axes, flattened."""


@dataclass(frozen=True)
class Factor:
    """Columns of a table, in the order of the pairs of features.

    Attributes:
        table: value whose last `tail` axes, flattened, are the columns.
        columns: those to take.
        negative: whether the negative of them is meant.
    """

    table: ir.Value
    tail: int
    columns: tuple[int, ...]
    negative: bool = False


@dataclass(frozen=True)
class Rotation:
    """`output` is `source` with its first `width` features rotated in pairs.

    Attributes:
        source, output: values [..., features] of the same shape.
        width: features that are rotated.
        interleaved: whether pairs are neighbours; else they are half of `width` apart.
        cosine, sine: the factors, as `RotaryEmbedding` names them.
        problem: why the factors are not those of a rotation; empty where they are.
    """

    source: ir.Value
    output: ir.Value
    width: int
    interleaved: bool
    cosine: Factor | None
    sine: Factor | None
    problem: str = ""


def negated(entry: Entry) -> Entry:
    """The terms with their signs turned."""
    return tuple(term._replace(sign=-term.sign) for term in entry)


def rotation_of(source: ir.Value, output: ir.Value, form: Form) -> Rotation | None:
    """What the form says, where its features meet in pairs."""
    width = len(form)
    while width and form[width - 1] == (Term(width - 1, 1),):
        width -= 1
    width += width % 2
    if not width or any(len(entry) != 2 for entry in form[:width]):
        return None
    half = width // 2
    for interleaved, step in ((False, half), (True, 1)):
        starts = range(0, width, 2) if interleaved else range(half)
        pairs = [(start, start + step) for start in starts]
        if all(
            {term.feature for term in form[place]} == {first, second}
            for first, second in pairs
            for place in (first, second)
        ):
            cosine, sine, problem = _factors(form, pairs)
            return Rotation(source, output, width, interleaved, cosine, sine, problem)
    return None


def _factors(form: Form, pairs: list[tuple[int, int]]) -> tuple[Factor | None, Factor | None, str]:
    """The factors of `a' = a cos - b sin`, `b' = b cos + a sin`, or why they are none."""
    cosines, sines = [], []
    for a, b in pairs:
        terms = {(place, term.feature): term for place in (a, b) for term in form[place]}
        first, second, cross, other = terms[a, a], terms[b, b], terms[b, a], terms[a, b]
        if (first.content, first.places) != (second.content, second.places):
            return None, None, f"features {a} and {b}, a pair, have different cosines"
        if first.sign != second.sign:
            return None, None, f"the cosines of features {a} and {b}, a pair, differ in sign"
        if (cross.content, cross.places) != (other.content, other.places):
            return None, None, f"features {a} and {b}, a pair, have different sines"
        if cross.sign == other.sign:
            return None, None, f"the sines of features {a} and {b}, a pair, have the same sign"
        cosines.append((first, second._replace(sign=first.sign)))
        sines.append((cross, other._replace(sign=cross.sign)))
    cosine, sine = _factor(cosines), _factor(sines)
    if cosine is None or sine is None:
        return None, None, "its cosines or its sines are in several tables"
    return cosine, sine, ""


def _factor(choices: list[tuple[Term, Term]]) -> Factor | None:
    """The columns that hold what is multiplied by, all of one table and one sign."""
    found = []
    for terms in zip(*choices, strict=True):
        table, signs = terms[0].table, {term.sign * term.own for term in terms}
        if table is not None and len(signs) == 1 and all(term.table is table for term in terms):
            columns = tuple(term.column for term in terms)
            found.append(Factor(table, terms[0].tail, columns, -1 in signs))
    return min(found, key=lambda factor: (factor.negative, factor.columns), default=None)
