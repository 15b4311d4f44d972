"""Which places a compression is gentler to where it loses too much everywhere.

It is gentler in two steps. The first is finer, and costs little: in int8 an activation gets a range
for each token instead of one for the whole tensor, weights in blocks get 8 bits instead of 4. The
second leaves the place in float. A place that by itself loses more than the promise of a lossy pass
is spared first; then the whole model's loss is held to the user's budget.

What places cost is measured one by one, on the feeds of the calibration, and with that and the
times of the tuner a way is laid from everything compressed to everything in float (`assignment`).
On the way the first assignment within the budget is looked for, judged on the feeds held out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from burnish.driver.assignment import Form, Step, Unit, way
from burnish.driver.candidate import Candidate
from burnish.driver.places import LOOKUPS, Place, everything, places, together
from burnish.driver.plan import Spared, passes_for
from burnish.driver.workbench import Workbench
from burnish.optimizer import pipeline
from burnish.optimizer.analysis.costs.products import matrix_flops
from burnish.optimizer.contract import Pass, Sparing
from burnish.optimizer.pipeline import Compiled
from burnish.passes.compress.pruning.prune import Prune

MOST_ALONE = 64
"""Units that are measured one by one; where there are more, those of one kind are together."""

LONGEST_ALONE = 2e13
"""Floating-point operations of those runs: a few minutes on two cores."""

ATTEMPTS = 8
"""Assignments that are compiled, checked and judged."""

UNUSABLE = 1e6
"""Energy of an answer that is no number."""


class Search:
    """Finds the fastest retreat from a compression that loses no more than it may.

    Args:
        bench: the model, and the request with its budget.
        compile_: runs passes on a model, checked unless `trusted`.
        judge: stages what was compiled and compares it with the original.
        sense: likewise, on the feeds of the calibration.
        without: does a compilation again without one of its steps, for a reason.

    Attributes:
        over_budget: `name` and `reason` of the compressions that no retreat made cheap enough.
    """

    def __init__(
        self,
        bench: Workbench,
        compile_: Callable[..., Compiled],
        judge: Callable[[Compiled], Candidate],
        sense: Callable[[Compiled], Candidate],
        without: Callable[[Compiled, int, str], Compiled],
    ) -> None:
        self._bench = bench
        self._compile = compile_
        self._judge = judge
        self._sense = sense
        self._without = without
        self._broken = Spared()
        self._least = 0.0
        self.over_budget: list[dict[str, str]] = []

    def within_budget(self, compiled: Compiled) -> Candidate:
        """The fastest of gentler compilations whose loss stays within the budget."""
        compiled = self._without_broken(compiled)
        budget = self._bench.request.max_drop
        candidate = self._judge(compiled)
        if candidate.fidelity is None or candidate.fidelity.drop <= budget:
            return candidate
        spent = self._least = candidate.fidelity.drop
        index = _spender(compiled)
        if index is None:
            return candidate
        transform = compiled.steps[index].transform
        if isinstance(transform, Sparing):
            steps = way(self._units(compiled, index))
            found = self._first_within(compiled, index, steps, spent)
            if found is not None:
                candidate, spared = found
                self._bench.warnings.append(
                    f"{transform.name} everywhere loses {spent:.3g} where the budget is "
                    f"{budget:g}: {spared.described(transform)}"
                )
                return candidate
        reason = f"it loses {spent:.3g} where the budget is {budget:g}"
        if self._least < spent:
            reason += f", and {self._least:.3g} at the least that was tried"
        self.over_budget.append({"name": transform.name, "reason": reason})
        # Once more, since another pass that spends may be left.
        return self.within_budget(self._without(compiled, index, reason))

    def _first_within(
        self, compiled: Compiled, index: int, steps: Sequence[Step], spent: float
    ) -> tuple[Candidate, Spared] | None:
        """The earliest step of the way that keeps to the budget, as far as attempts reach.

        Losses are foretold from the energies, and the foretelling corrected by what is found; a
        step is taken to lose no more than those before it.
        """
        budget = self._bench.request.max_drop
        low, high, factor = -1, len(steps), spent
        found: tuple[Candidate, Spared] | None = None
        last: Candidate | None = None
        for _ in range(ATTEMPTS):
            if high - low <= 1:
                break
            within = (i for i in range(low + 1, high) if steps[i].energy * factor <= budget)
            at = next(within, high - 1)
            attempt = self._again(compiled, index, steps[at].spared)
            if attempt.steps[index].status != "kept":  # nothing of it is left
                high = at
                continue
            candidate = last = self._judge(attempt)
            assert candidate.fidelity is not None
            drop = candidate.fidelity.drop
            self._least = min(self._least, drop)
            if steps[at].energy and drop:
                factor = drop / steps[at].energy
            if drop <= budget:
                high, found = at, (candidate, steps[at].spared)
            else:
                low = at
        if found is not None and found[0] is not last:
            # What was judged since has taken the place of its files.
            return self._judge(found[0].compiled), found[1]
        return found

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
        if isinstance(transform, Sparing) and first:
            self._bench.warnings.append(
                f"{self._broken.described(transform)}, since {transform.name} loses more "
                f"than {transform.promise.rel_l2:g} of the norm there ({first} the first)"
            )
        return compiled

    def _units(self, compiled: Compiled, index: int) -> list[Unit]:
        """What changed, with what it costs the answer and the time."""
        step, before = compiled.steps[index], compiled.snapshots[index]
        found = places(before, step.errors)
        all_finer = tuple(place.name for place in found if _has_finer(step.transform, place))
        finest = None
        if all_finer:
            finest = self._again(compiled, index, Spared(finer=all_finer)).steps[index]
        units = []
        for members, energy in self._energies(compiled, index, found):
            names = tuple(place.name for place in members)
            known = [step.outcome.times.get(name, (0.0, 0.0)) for name in names]
            coarse = Form(energy, sum(after for _, after in known))
            finer = None
            if finest is not None and {*names} & {*all_finer}:
                left = _energy_of(members, finest.errors) / (_energy_of(members, step.errors) or 1)
                times = [finest.outcome.times.get(name, (0.0, 0.0))[1] for name in names]
                finer = Form(energy * left, sum(times))
            parameters = sum(place.parameters for place in members)
            exact = sum(before for before, _ in known)
            units.append(Unit(names, parameters, coarse, finer, exact))
        return units

    def _energies(
        self, compiled: Compiled, index: int, found: list[Place]
    ) -> list[tuple[tuple[Place, ...], float]]:
        """What goes together, with the squared error of the answer where it alone is compressed."""
        units = together(found)
        many = self._many(units)
        kinds: dict[str, list[tuple[Place, ...]]] = {}
        for number, unit in enumerate(units):
            kinds.setdefault(unit[0].kind if many else str(number), []).append(unit)
        every = everything(compiled.snapshots[index]) | {place.name for place in found}
        result = []
        for number, members in enumerate(kinds.values(), start=1):
            self._bench.emit({"stage": f"what places cost, {number} of {len(kinds)}"})
            names = {place.name for unit in members for place in unit}
            spared = Spared(keep=tuple(sorted(every - names)))
            alone = self._sense(self._again(compiled, index, spared, trusted=True)).fidelity
            outputs = alone.outputs.values() if alone is not None else ()
            energy = max((item.rel_l2**2 for item in outputs), default=UNUSABLE)
            errors = compiled.steps[index].errors
            whole = sum(_energy_of(unit, errors) for unit in members) or 1.0
            for unit in members:
                share = _energy_of(unit, errors) / whole
                result.append((unit, min(energy, UNUSABLE) * share))
        return result

    def _many(self, units: Sequence[object]) -> bool:
        """Whether there are too many units to be measured one by one."""
        work = sum(matrix_flops(self._bench.loaded.model, self._bench.shapes()).values())
        return len(units) > MOST_ALONE or work * len(units) > LONGEST_ALONE

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


def _spender(compiled: Compiled) -> int | None:
    """The first step that spends the budget; pruning last, since it was held to its part of it."""
    first = pipeline.first_lossy(compiled)
    if first is None or not isinstance(compiled.steps[first].transform, Prune):
        return first
    steps = list(compiled.steps)
    steps[first] = pipeline.rejected(steps[first], "")
    later = pipeline.first_lossy(replace(compiled, steps=tuple(steps)))
    return first if later is None else later


def _energy_of(members: Sequence[Place], errors: Mapping[str, float]) -> float:
    """The sum of the squared errors of some places by themselves."""
    return sum(min(errors.get(place.name, place.error), 1.0) ** 2 for place in members)


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
            broken = [item for item in found if item.error > step.transform.promise.rel_l2]
            return (index, broken) if broken else None
    return None
