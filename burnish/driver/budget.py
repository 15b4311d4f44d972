"""Which places a compression is gentler to where it loses too much everywhere.

It is gentler in two steps. The first is finer, and costs little: in int8 an activation gets a range
for each token instead of one for the whole tensor, weights in blocks get 8 bits instead of 4. The
second leaves the place in float. A place that by itself loses more than the promise of a lossy pass
is spared first; then the whole model's loss is held to the user's budget.

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
from burnish.optimizer.contract import LOSSY, Pass, Sparing
from burnish.optimizer.pipeline import Compiled
from burnish.optimizer.regions import inner_nodes

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
    """Finds the mildest retreat from a compression that loses no more than it may.

    Args:
        bench: the model, and the request with its budget.
        compile_: runs passes on a model, checked unless `trusted`.
        judge: stages what was compiled and compares it with the original.
        without: does a compilation again without one of its steps, for a reason.

    Attributes:
        over_budget: `name` and `reason` of the compressions that no retreat made cheap enough.
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
        self.over_budget: list[dict[str, str]] = []

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
        transform, least = compiled.steps[index].transform, spent
        sparing = isinstance(transform, Sparing)
        for spared in self._gentler(compiled, index, spent) if sparing else ():
            attempt = self._again(compiled, index, spared)
            if attempt.steps[index].status != "kept":  # nothing of it is left
                continue
            candidate = self._judge(attempt)
            assert candidate.fidelity is not None
            if candidate.fidelity.drop <= budget:
                self._bench.warnings.append(
                    f"{transform.name} everywhere loses {spent:.3g} where the budget is "
                    f"{budget:g}: {spared.described(_finer(transform))}"
                )
                return candidate
            least = min(least, candidate.fidelity.drop)
        reason = f"it loses {spent:.3g} where the budget is {budget:g}"
        if least < spent:
            reason += f", and {least:.3g} at the least that was tried"
        self.over_budget.append({"name": transform.name, "reason": reason})
        # Once more, since another pass that spends may be left.
        return self.within_budget(self._without(compiled, index, reason))

    def _without_broken(self, compiled: Compiled) -> Compiled:
        """The compilation with those places spared that broke the promise of a compression."""
        first, transform = "", None
        while broken := _broken(compiled):
            index, found = broken
            transform = compiled.steps[index].transform
            finer = [
                item.name
                for item in found
                if _has_finer(transform, item) and item.name not in self._broken.finer
            ]
            others = {item.name for item in found} - {*finer}
            spared = self._broken + Spared(tuple(finer), tuple(others))
            if spared == self._broken:
                break
            self._broken, first = spared, first or found[0].name
            compiled = self._again(compiled, index, Spared())
        if transform is not None and first:
            self._bench.warnings.append(
                f"{self._broken.described(_finer(transform))}, since {transform.name} loses more "
                f"than {LOSSY.rel_l2:g} of the norm there ({first} the first)"
            )
        return compiled

    def _gentler(self, compiled: Compiled, index: int, spent: float) -> Iterator[Spared]:
        """Ever more places to spare: finer by kinds, then in float beside it."""
        transform = compiled.steps[index].transform
        found = places(compiled.snapshots[index], compiled.steps[index].errors)
        names = kinds(found)

        def gain(label: str, spared: Spared) -> float:
            self._bench.emit({"stage": f"what {label} costs"})
            judged = self._judge(self._again(compiled, index, spared, trusted=True)).fidelity
            return spent - judged.drop if judged else 0.0

        coarse = dict.fromkeys(item.kind for item in found if _has_finer(transform, item))
        gains = {kind: gain(f"{kind} as they are", Spared(names[kind])) for kind in coarse}
        finer: tuple[str, ...] = ()
        for kind in rank(found, gains):
            finer = (*finer, *names[kind])
            yield Spared() + Spared(finer)
        if finer:
            spent -= gain(f"{transform.name} at its finest", Spared(finer))
        base = Spared(finer)
        gains = {kind: gain(kind, base + Spared((), keep)) for kind, keep in names.items()}
        order = rank(found, gains)
        first = [place for place in found if order and place.kind == order[0]]
        alone = {
            place.name: gain(place.name, base + Spared((), (place.name,)))
            for place in first[:MOST_ALONE]
        }
        for keep in ladder(found, order, alone):
            yield base + Spared((), keep)

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


def _finer(transform: Pass) -> str:
    """What a compression gives to the places that it is gentler to, in words."""
    return transform.finer_is if isinstance(transform, Sparing) else ""


def _has_finer(transform: Pass, place: Place) -> bool:
    """Whether there is a gentler form of a compression for the place."""
    if not isinstance(transform, Sparing) or not transform.finer_is:
        return False
    return place.kind != LOOKUPS or transform.finer_lookups


def _broken(compiled: Compiled) -> tuple[int, list[Place]] | None:
    """The step of a compression that was rejected, and the places that broke its promise."""
    for index, step in enumerate(compiled.steps):
        if isinstance(step.transform, Sparing) and step.status == "rejected":
            found = places(compiled.snapshots[index], step.errors)
            broken = [item for item in found if item.error > LOSSY.rel_l2]
            return (index, broken) if broken else None
    return None
