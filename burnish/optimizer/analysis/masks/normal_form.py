"""From terms over batch, head, query and key to clauses and biases."""

from __future__ import annotations

from burnish.optimizer.analysis.masks import bands
from burnish.optimizer.analysis.masks.clauses import (
    Added,
    Alibi,
    Bias,
    BlockDiagonal,
    Clause,
    Given,
    Grid,
    KeyPadding,
    Opaque,
    Ordered,
    Prefix,
    Relative,
    Table,
    is_constant,
    looked_up,
    tables,
)
from burnish.optimizer.analysis.masks.logic import either
from burnish.optimizer.analysis.masks.rewrite import axes, substitute, topological
from burnish.optimizer.analysis.masks.terms import (
    FALSE,
    ONE,
    TRUE,
    ZERO,
    Term,
    add,
    is_const,
    linear,
    negated,
    scaled,
    times,
    total,
)
from burnish.optimizer.analysis.products import label

Axes = frozenset[int | str]
KEY, QUERY, BATCH = frozenset({"key"}), frozenset({"query"}), frozenset({"batch"})


def clauses_of(visible: Term, grid: Grid, node: str, binary: frozenset[Term]) -> list[Clause]:
    """The clauses whose conjunction is a condition."""
    if visible is TRUE:
        return []
    if visible is FALSE:
        return [Opaque("it hides every key", node, visible)]
    parts = visible.args if visible.op == "and" else (visible,)
    found: list[Clause] = []
    sides = bands.Sides(grid)
    for part in parts:
        if sides.take(part):
            continue
        found.append(_clause(part, grid, node, binary))
    return [*sides.clauses(), *found]


def _clause(part: Term, grid: Grid, node: str, binary: frozenset[Term]) -> Clause:
    free = axes(part)
    names = looked_up(part)
    taken = any(item in binary for item in topological(part))
    if free <= BATCH | KEY or free <= BATCH | QUERY:
        orientation = "key" if "key" in free else "query" if "query" in free else "batch"
        return KeyPadding(part, names, orientation, taken)
    if part.op == "or" and (prefix := _prefix(part, grid)) is not None:
        return prefix
    compared = _compared(part, grid)
    if compared is not None:
        return compared
    return _given(part) or Opaque(_reason(part), _place(part, node), part)


def _prefix(part: Term, grid: Grid) -> Clause | None:
    """Causal, or a condition on the key that frees it of that."""
    sides, rest = bands.Sides(grid), []
    for item in part.args:
        if not sides.take(item):
            rest.append(item)
    offset = sides.only_upper()
    if offset is None or not rest or any(not axes(item) <= BATCH | KEY for item in rest):
        return None
    return Prefix(offset, either(*rest))


def _compared(part: Term, grid: Grid) -> Clause | None:
    """`f(key) == f(query)`, or `f(key) <= f(query) + offset`."""
    if part.op not in ("zero", "at_most"):
        return None
    of_key: dict[Term, int | float] = {}
    of_query: dict[Term, int | float] = {}
    rest: dict[Term, int | float] = {}
    coefficients, constant = linear(part.args[0])
    for atom, factor in coefficients.items():
        free = axes(atom)
        if {"query", "key"} <= free or "head" in free:
            return None
        group = of_key if "key" in free else of_query if "query" in free else rest
        group[atom] = factor
    key, query = total(of_key, 0), total({a: -f for a, f in of_query.items()}, 0)
    if part.op == "zero" and next(iter(of_key.values()), 1) < 0:
        key, query = negated(key), negated(query)
    if not of_key or substitute(key, {grid.key: grid.query}) is not query:
        return None
    offset = negated(total(rest, constant))
    if part.op == "zero":
        return BlockDiagonal(key, query) if offset is ZERO else None
    return Ordered(key, query, offset)


def _given(part: Term) -> Clause | None:
    """A truth value that an input or a constant holds for each query and key."""
    inner = part.args[0] if part.op == "not" else part
    inner = inner.args[0] if inner.op == "zero" else inner
    coefficients, _ = linear(inner) if inner.op == "sum" else ({inner: 1}, 0)
    sources = tables(inner)
    plain = all(atom.op == "lookup" for atom in coefficients) and len(sources) == 1
    if plain and (sources[0].producer() is None or is_constant(sources[0])):
        return Given(part, looked_up(part))
    return None


def biases_of(term: Term, grid: Grid, node: str) -> list[Bias]:
    """The biases whose sum is a number that is added to scores."""
    if term.op != "sum":
        parts = [] if is_const(term, 0) else [term]
    else:
        coefficients, constant = linear(term)
        parts = [scaled(atom, factor) for atom, factor in coefficients.items()]
        together = [part for part in parts if _steady(part)]
        # Numbers that no input decides are one bias, not several.
        parts = [part for part in parts if not _steady(part)]
        if together or constant:
            parts.append(add(*together, total({}, constant)))
    return [_bias(part, grid, node) for part in parts]


def _steady(part: Term) -> bool:
    return "head" not in axes(part) and _constant_only(part)


def _constant_only(term: Term) -> bool:
    return all(map(is_constant, tables(term)))


def _bias(part: Term, grid: Grid, node: str) -> Bias:
    free = axes(part)
    slopes = [item for item in _factors(part) if axes(item) == frozenset({"head"})]
    rest = [item for item in _factors(part) if axes(item) != frozenset({"head"})]
    if slopes and rest and _constant_only(_product(slopes)):
        distance = _product(rest)
        if "head" not in axes(distance):
            return Alibi(_product(slopes), distance)
    if _constant_only(part):
        return Relative(part) if _shift_invariant(part, grid) and "key" in free else Table(part)
    sources = tables(part)
    if part.op == "lookup" and sources[0].producer() is None:
        return Added(part, looked_up(part))
    return Opaque(_reason(part), _place(part, node), part)


def _factors(part: Term) -> list[Term]:
    if part.op == "product":
        return list(part.args)
    if part.op == "sum" and len(part.args) == 1 and part.value[1] == 0:
        return [*_factors(part.args[0]), total({}, part.value[0][0])]
    return [part]


def _product(factors: list[Term]) -> Term:
    result = ONE
    for item in factors:
        result = times(result, item)
    return result


def _shift_invariant(term: Term, grid: Grid) -> bool:
    """Whether it stays as it is where query and key both move on by one."""
    both: dict[Term, Term] = {
        position: add(position, ONE)
        for position in (grid.query, grid.key)
        if position.op == "index"
    }
    return substitute(term, both) is term


def _reason(part: Term) -> str:
    free = sorted(str(axis) for axis in axes(part))
    return f"no known function of {', '.join(free) or 'nothing'}"


def _place(part: Term, node: str) -> str:
    """The node of a computed value that the term reads, else that of the mask."""
    for value in tables(part):
        maker = value.producer()
        if maker is not None and not is_constant(value):
            return label(maker)
    return node
