"""Which places int8 is gentler to where it loses too much everywhere.

It is gentler in two steps: an activation gets a range for each token instead of one for the whole
tensor, which costs little time; then the place stays in float. A place that by itself loses more
than the promise of a lossy pass is spared first; then the whole model's loss is held to the user's
budget.

Places are of a kind where they have the same sizes. What a kind costs is measured by sparing it,
and so is each place of the kind that costs most. This is a coarse search: it takes two runs per
kind and a few more, not one per place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from burnish.driver.candidate import Candidate
from burnish.driver.plan import Spared, passes_for
from burnish.driver.workbench import Workbench
from burnish.optimizer import pipeline
from burnish.optimizer.analysis.products import find_products
from burnish.optimizer.pipeline import Compiled
from burnish.optimizer.regions import inner_nodes
from burnish.passes.compress.int8.dynamic import DynamicInt8

MOST_ALONE = 8
"""Places that are tried one by one."""

LOOKUPS = "lookups"
"""The kind of what is read from tables."""


@dataclass(frozen=True)
class Place:
    """A value that int8 changed.

    Attributes:
        name: of the value.
        kind: sizes of the product that gives it, or `LOOKUPS`.
        error: relative L2 error of the value by itself.
        parameters: weights behind it.
    """

    name: str
    kind: str
    error: float
    parameters: int


def places(model: ir.Model, errors: Mapping[str, float]) -> list[Place]:
    """The places behind the errors that a check of int8 found, worst first.

    The error of a node with subgraphs is that of every place in them.
    """
    products = {product.output.name: product for product in find_products(model)[0]}
    tables = {
        node.outputs[0].name: math.prod(node.inputs[0].const_value.shape.numpy())
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        if node.op_type == "Gather" and node.inputs[0] and node.inputs[0].const_value is not None
    }
    found = []
    for name, error in _places_of(model, errors, {*products, *tables}).items():
        if product := products.get(name):
            kind, parameters = f"products of {product.k} x {product.n}", product.k * product.n
        else:
            kind, parameters = LOOKUPS, tables.get(name, 1)
        found.append(Place(name, kind, error, parameters))
    return sorted(found, key=lambda place: (-place.error, place.name))


def _places_of(
    model: ir.Model, errors: Mapping[str, float], names: set[str | None]
) -> dict[str, float]:
    """The errors by the names of places, which may lie in subgraphs of what was compared."""
    inside: dict[str | None, set[str]] = {}
    for node in model.graph:
        values = [value.name or "" for inner in inner_nodes(node) for value in inner.outputs]
        inside |= {output.name: names.intersection(values) for output in node.outputs}  # type: ignore[misc]
    found: dict[str, float] = {}
    for name, error in errors.items():
        for place in inside.get(name) or {name}:
            found[place] = max(found.get(place, 0.0), error)
    return found


def kinds(found: list[Place]) -> dict[str, tuple[str, ...]]:
    """Names of the places by kind."""
    groups: dict[str, tuple[str, ...]] = {}
    for place in found:
        groups[place.kind] = (*groups.get(place.kind, ()), place.name)
    return groups


def rank(found: list[Place], gains: Mapping[str, float]) -> list[str]:
    """The kinds that gain anything, most for their weights first.

    Args:
        found: see `places`.
        gains: what leaving a whole kind in float takes from the loss.
    """
    weights = dict.fromkeys(gains, 1)
    for place in found:
        if place.kind in weights:
            weights[place.kind] += place.parameters
    useful = [kind for kind in gains if gains[kind] > 0]
    return sorted(useful, key=lambda kind: gains[kind] / weights[kind], reverse=True)


def ladder(
    found: list[Place], order: list[str], gains: Mapping[str, float]
) -> Iterator[tuple[str, ...]]:
    """Ever larger sets of places: 1, 2, 4, ... of the first kind, then of the next beside it.

    Args:
        found: see `places`.
        order: kinds, see `rank`.
        gains: what sparing single places takes from the loss, where that was measured.
    """
    kept: tuple[str, ...] = ()
    for kind in order:
        members = [place.name for place in found if place.kind == kind]
        members.sort(key=lambda name: gains.get(name, 0.0), reverse=True)
        count = 1
        while count < len(members):
            yield tuple(sorted((*kept, *members[:count])))
            count *= 2
        kept = (*kept, *members)
        yield tuple(sorted(kept))


class Search:
    """Finds the mildest retreat from int8 that loses no more than it may.

    Args:
        bench: the model, and the request with its budget.
        compile_: runs passes on a model, checked unless `trusted`.
        judge: stages what was compiled and compares it with the original.
        without: does a compilation again without one of its steps, for a reason.
    """

    def __init__(
        self,
        bench: Workbench,
        compile_: Callable[..., Compiled],
        judge: Callable[[Compiled], Candidate],
        without: Callable[[Compiled, int, str], Compiled],
    ) -> None:
        self._bench = bench
        self._compile = compile_
        self._judge = judge
        self._without = without
        self._broken = Spared()

    def within_budget(self, compiled: Compiled) -> Candidate:
        """The first of ever gentler compilations whose loss stays within the budget."""
        compiled = self._without_broken(compiled)
        budget = self._bench.request.max_drop
        candidate = self._judge(compiled)
        if candidate.fidelity is None or candidate.fidelity.drop <= budget:
            return candidate
        spent = candidate.fidelity.drop
        index = pipeline.first_lossy(compiled)
        if index is None:
            return candidate
        in_int8 = isinstance(compiled.steps[index].transform, DynamicInt8)
        for spared in self._gentler(compiled, index, spent) if in_int8 else ():
            candidate = self._judge(self._again(compiled, index, spared))
            assert candidate.fidelity is not None
            if candidate.fidelity.drop <= budget:
                self._bench.warnings.append(
                    f"int8 everywhere loses {spent:.3g} where the budget is {budget:g}: {spared}"
                )
                return candidate
        reason = f"it loses {spent:.3g} where the budget is {budget:g}"
        # Once more, since another pass that spends may be left.
        return self.within_budget(self._without(compiled, index, reason))

    def _without_broken(self, compiled: Compiled) -> Compiled:
        """The compilation with those places spared that broke the promise of int8."""
        while broken := _broken(compiled):
            index, found, bound = broken
            finer = [
                item.name
                for item in found
                if item.kind != LOOKUPS and item.name not in self._broken.by_token
            ]
            spared = Spared(tuple(finer), tuple({item.name for item in found} - {*finer}))
            if self._broken + spared == self._broken:
                return compiled
            self._broken += spared
            self._bench.warnings.append(
                f"{spared}, since int8 loses more than {bound:g} of the norm there "
                f"({found[0].name} the first)"
            )
            compiled = self._again(compiled, index, Spared())
        return compiled

    def _gentler(self, compiled: Compiled, index: int, spent: float) -> Iterator[Spared]:
        """Ever more places to spare: a range for each token by kinds, then float beside it."""
        found = places(compiled.snapshots[index], compiled.steps[index].errors)
        names = kinds(found)

        def loss(label: str, spared: Spared) -> float:
            self._bench.emit({"stage": f"what {label} costs"})
            judged = self._judge(self._again(compiled, index, spared, trusted=True)).fidelity
            return judged.drop if judged else spent

        finer = {
            kind: spent - loss(f"{kind} by tensor", Spared(by_token=names[kind]))
            for kind in names
            if kind != LOOKUPS
        }
        by_token: tuple[str, ...] = ()
        for kind in rank(found, finer):
            by_token = (*by_token, *names[kind])
            yield Spared() + Spared(by_token=by_token)
        if by_token:
            spent = loss("int8 by token", Spared(by_token=by_token))
        gains = {kind: spent - loss(kind, Spared(by_token, keep)) for kind, keep in names.items()}
        order = rank(found, gains)
        first = [place for place in found if order and place.kind == order[0]]
        alone = {
            place.name: spent - loss(place.name, Spared(by_token, (place.name,)))
            for place in first[:MOST_ALONE]
        }
        for keep in ladder(found, order, alone):
            yield Spared() + Spared(by_token, keep)

    def _again(
        self, compiled: Compiled, index: int, spared: Spared, *, trusted: bool = False
    ) -> Compiled:
        """The compilation with its passes from `index` on run anew, gentler to some places."""
        later = passes_for(self._bench.request, self._broken + spared)[index:]
        tail = self._compile(later, compiled.snapshots[index], trusted=trusted)
        return Compiled(
            tail.model,
            compiled.steps[:index] + tail.steps,
            compiled.snapshots[:index] + tail.snapshots,
        )


def _broken(compiled: Compiled) -> tuple[int, list[Place], float] | None:
    """The step of int8 that was rejected, the places that broke its promise, and its bound."""
    for index, step in enumerate(compiled.steps):
        if isinstance(step.transform, DynamicInt8) and step.status == "rejected":
            bound = step.transform.promise.rel_l2
            found = places(compiled.snapshots[index], step.errors)
            broken = [item for item in found if item.error > bound]
            return (index, broken, bound) if broken else None
    return None
