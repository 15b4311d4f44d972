"""Putting terms in the place of positions, and what a term depends on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from burnish.optimizer.analysis.masks import logic, terms
from burnish.optimizer.analysis.masks.functions import call
from burnish.optimizer.analysis.masks.terms import Term


def rebuild(term: Term, args: tuple[Term, ...]) -> Term:
    """The term with other operands, simplified anew."""
    op = term.op
    if op == "sum":
        coefficients, constant = term.value
        scaled = (
            terms.scaled(item, factor) for item, factor in zip(args, coefficients, strict=True)
        )
        return terms.add(terms.const(constant), *scaled)
    if op == "product":
        result = args[0]
        for item in args[1:]:
            result = terms.times(result, item)
        return result
    simple: dict[str, Callable[..., Term]] = {
        "where": terms.where,
        "and": logic.both,
        "or": logic.either,
        "not": logic.negation,
        "at_most": logic.at_most,
        "below": lambda item: logic.less(item, terms.ZERO),
        "zero": lambda item: logic.equal(item, terms.ZERO),
        "index": lambda extent: terms.index(term.value, extent),
        "lookup": lambda *indices: terms.lookup(term.value, indices),
        "pick": lambda position, *items: terms.pick(position, items),
        "call": lambda *items: call(term.value, *items),
    }
    return simple[op](*args)


def substitute(term: Term, replacements: Mapping[Term, Term]) -> Term:
    """The term with other terms in the place of some."""
    if not replacements:
        return term
    done: dict[Term, Term] = dict(replacements)
    for item in topological(term, done):
        args = tuple(done[part] for part in item.args)
        unchanged = all(new is old for new, old in zip(args, item.args, strict=True))
        done[item] = item if unchanged else rebuild(item, args)
    return done[term]


def topological(term: Term, known: Mapping[Term, object] | None = None) -> Iterator[Term]:
    """The term's parts, each once and after its operands; not those that are known."""
    seen: set[Term] = set(known or ())
    stack: list[tuple[Term, bool]] = [(term, False)]
    while stack:
        item, ready = stack.pop()
        if ready:
            yield item
            continue
        if item in seen:
            continue
        seen.add(item)
        stack.append((item, True))
        stack += [(part, False) for part in item.args if part not in seen]


def axes(term: Term) -> frozenset[int | str]:
    """The axes whose positions it depends on."""
    return frozenset(item.value for item in topological(term) if item.op == "index")


def contains(term: Term, ops: set[str]) -> bool:
    """Whether a part of it is of one of those operators."""
    return any(item.op in ops for item in topological(term))
