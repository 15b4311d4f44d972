"""What is taken for granted of inputs, and said."""

from __future__ import annotations

from collections.abc import Iterable

from burnish.optimizer.analysis.masks.bounds import lower
from burnish.optimizer.analysis.masks.functions import divided
from burnish.optimizer.analysis.masks.rewrite import substitute, topological
from burnish.optimizer.analysis.masks.show import show
from burnish.optimizer.analysis.masks.terms import Term, add, const, linear, total


class Assumptions:
    """Sentences about sizes and values, gathered while a mask is worked out."""

    def __init__(self, given: Iterable[str]) -> None:
        self._sentences = dict.fromkeys(sorted(given))

    def relaxed(self, term: Term) -> Term:
        """The term with positions in a flattened mask taken apart again.

        `(batch * total + key) // total` is `batch` where no key is past the mask's end, which the
        sizes alone may not show; then it is said.
        """
        found = {
            item: substitute(item, self._splits(item))
            for item in topological(term)
            if item.op == "lookup"
        }
        return substitute(term, {old: new for old, new in found.items() if old is not new})

    def _splits(self, lookup: Term) -> dict[Term, Term]:
        """What stands in the place of quotients and rests in the indices of a lookup."""
        found: dict[Term, Term] = {}
        for term in topological(lookup):
            if term.op != "call" or term.value not in ("floor_div", "mod"):
                continue
            left, right = term.args
            multiple, rest = divided(left, right)
            if right.op != "const" and lower(rest) >= 0:
                self._sentences[f"{show(_most(rest))} <= {show(right)}"] = None
                found[term] = multiple if term.value == "floor_div" else rest
        return found

    def sentences(self, binary: Iterable[Term]) -> tuple[str, ...]:
        """All of them, with the values that were taken to be 0 or 1."""
        masks = sorted({f"{show(item)} is 0 or 1" for item in binary})
        return (*self._sentences, *masks)


def _most(rest: Term) -> Term:
    """One more than the largest value of a sum of positions."""
    coefficients, constant = linear(rest)
    pieces = []
    for atom, factor in coefficients.items():
        most = add(atom.args[0], const(-1)) if atom.op == "index" else atom
        pieces.append(total(*_scaled(most, factor)))
    return add(*pieces, const(constant + 1))


def _scaled(term: Term, factor: float) -> tuple[dict[Term, float], float]:
    coefficients, constant = linear(term)
    return {atom: item * factor for atom, item in coefficients.items()}, constant * factor
