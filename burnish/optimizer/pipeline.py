"""Run passes: apply, check, keep or roll back, explain, record.

    for each pass:  copy -> apply -> untouched? -> check the promise -> keep or roll back

The copy shares all weights, so that rolling back is free whatever the model's size.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import onnx_ir as ir

from burnish.optimizer import caches, static_caches
from burnish.optimizer.contract import Context, Kind, Outcome, Pass, Promise
from burnish.optimizer.errors import BurnishError
from burnish.optimizer.model import count_nodes, separate_names, value_names
from burnish.optimizer.ports import Ports
from burnish.optimizer.regions import identical
from burnish.optimizer.report import alike
from burnish.optimizer.undefined import Undefined
from burnish.optimizer.verify import Verdict

MOST_REASON = 300
"""Characters of a reason; libraries put whole graphs into their messages."""


class Check(Protocol):
    """Compares a model before and after a pass; see `verify.Checker.check`."""

    def __call__(
        self,
        before: ir.Model,
        after: ir.Model,
        promise: Promise,
        undefined: Sequence[Undefined] = (),
        lengths: Sequence[int] = (),
    ) -> Verdict: ...


@dataclass(frozen=True)
class Step:
    """What became of one pass.

    Attributes:
        status: `kept`, `rejected` (it broke its promise or failed), `unchanged` or `skipped`.
        reason: why it was rejected or skipped, or left everything as it was.
        error: largest relative L2 error over the values it changed; None where not checked.
        errors: that error by value.
        nodes: nodes of the model afterwards.
    """

    transform: Pass
    status: str
    outcome: Outcome
    reason: str = ""
    error: float | None = None
    errors: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    nodes: int = 0

    def as_json(self) -> dict[str, Any]:
        """The step as the report shows it."""
        return {
            "name": self.transform.name,
            "phase": self.transform.phase.value,
            "options": self.transform.options(),
            "status": self.status,
            "reason": self.reason,
            "rewrites": self.outcome.rewrites if self.status == "kept" else 0,
            "refusals": [
                {"node": item.node, "reason": item.reason} for item in self.outcome.refusals
            ],
            "promise": self.transform.promise.kind.value,
            "error": self.error,
            "seconds": round(self.seconds, 3),
            "speedup": self.outcome.speedup,
            "detail": self.outcome.detail,
            "nodes": self.nodes,
        }


@dataclass(frozen=True)
class Compiled:
    """A model after the passes, with its history; `snapshots[i]` is the model before step i."""

    model: ir.Model
    steps: tuple[Step, ...]
    snapshots: tuple[ir.Model, ...]

    def after(self, index: int) -> Compiled:
        """The compilation as it was after the step of that index, which was kept."""
        model = self.snapshots[index + 1] if index + 1 < len(self.snapshots) else self.model
        return Compiled(model, self.steps[: index + 1], self.snapshots[: index + 1])

    @property
    def kept(self) -> list[Step]:
        """The steps whose rewrites are in the result."""
        return [step for step in self.steps if step.status == "kept"]

    @property
    def undefined(self) -> list[Undefined]:
        """Elements of outputs that have a fixed value by definition, and count for nothing."""
        return [item for step in self.kept for item in step.outcome.undefined]

    @property
    def ports(self) -> Ports:
        """Ports that differ in the artifact, as far as this model has what takes their places."""
        kept, model = [step.outcome for step in self.kept], self.model
        integers = caches.within((item for step in kept for item in step.caches), model)
        static = static_caches.within((item for step in kept for item in step.static), model)
        steps = (step.renumbering for step in kept)
        numbers = (item for item in steps if item is not None and item.is_in(model))
        return Ports(tuple(integers), next(numbers, None), tuple(static))

    @property
    def lost_ports(self) -> bool:
        """Whether a later pass made away with what takes the place of a port."""
        kept, ports = self.kept, self.ports
        integers = sum(len(step.outcome.caches) for step in kept)
        static = sum(len(step.outcome.static) for step in kept)
        numbers = any(step.outcome.renumbering is not None for step in kept)
        lost = integers > len(ports.caches) or static > len(ports.static)
        return lost or numbers > (ports.renumbering is not None)


def run(
    model: ir.Model,
    passes: Sequence[Pass],
    context: Context,
    check: Check | None,
    progress: Callable[[str], None] = lambda name: None,
) -> Compiled:
    """Run the passes in order; `check` of None applies them on trust."""
    steps: list[Step] = []
    snapshots: list[ir.Model] = []
    gc.unfreeze()  # models of an earlier run may be garbage by now
    for transform in passes:
        progress(transform.name)
        _set_aside()
        snapshots.append(model)
        start = time.monotonic()
        model, step = _attempt(model, transform, context, check)
        seconds = time.monotonic() - start
        steps.append(replace(step, seconds=seconds, nodes=count_nodes(model)))
    return Compiled(model, tuple(steps), tuple(snapshots))


def _set_aside() -> None:
    """Take what is alive out of the garbage collector's sight, and out of its way what is not.

    Snapshots stay until the end; walks through all of them would take more and more time.
    """
    gc.collect()
    gc.freeze()


def _attempt(
    model: ir.Model, transform: Pass, context: Context, check: Check | None
) -> tuple[ir.Model, Step]:
    """The model after the pass, or the model as it was, and what happened."""
    candidate = model.clone()
    try:
        outcome: Any = transform.apply(candidate, context)
    except BurnishError as error:
        return model, _rejected(transform, Outcome(), error.message)
    except (Exception, SystemExit) as error:  # a pass, or a library, must not end the run
        reason = f"it failed: {type(error).__name__}: {error}"
        return model, _rejected(transform, Outcome(), reason)
    if not isinstance(outcome, Outcome):
        return model, _rejected(transform, Outcome(), "it returned no outcome")
    if outcome.rewrites == 0:
        if not identical(model, candidate):
            reason = "it reported no rewrite but changed the graph"
            return model, _rejected(transform, outcome, reason)
        return model, Step(transform, "unchanged", outcome, _why_unchanged(transform, outcome))
    separate_names(candidate, context.shapes.keys() - value_names(model.graph))
    _keep_ports(model, candidate)
    if check is None:
        return candidate, Step(transform, "kept", outcome)
    try:
        verdict = check(model, candidate, transform.promise, outcome.undefined, outcome.lengths)
    except Exception as error:  # a graph so broken that it cannot even be compared
        reason = f"its result cannot be checked: {type(error).__name__}: {error}"
        return model, _rejected(transform, outcome, reason)
    if verdict.problem:
        rejected = _rejected(transform, outcome, verdict.problem)
        return model, _with_errors(rejected, verdict)
    return candidate, _with_errors(Step(transform, "kept", outcome), verdict)


def _keep_ports(before: ir.Model, after: ir.Model) -> None:
    """Let outputs that new nodes give say of themselves what they said before.

    A type or a size that contradicts what was declared stays, for the check to see.
    """
    for old, new in zip(before.graph.outputs, after.graph.outputs, strict=False):
        if old.name != new.name or old is new:
            continue
        new.doc_string = old.doc_string
        new.metadata_props.clear()
        new.metadata_props.update(old.metadata_props)
        if new.type is None or new.type == old.type:
            new.type = old.type
            if _agree(old.shape, new.shape):
                new.shape = old.shape


def _agree(old: ir.Shape | None, new: ir.Shape | None) -> bool:
    """Whether two declared shapes can be of one tensor: no two numbers differ."""
    if old is None or new is None:
        return True
    if len(old) != len(new):
        return False
    pairs = zip(old, new, strict=True)
    return all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))


def _why_unchanged(transform: Pass, outcome: Outcome) -> str:
    """The commonest reason why a pass left its places alone.

    One that was asked for by name owes a word also where it found no place at all.
    """
    if not outcome.refusals:
        return outcome.detail if transform.asked else ""
    reasons = Counter(alike(refusal.reason) for refusal in outcome.refusals)
    kind, count = reasons.most_common(1)[0]
    first = next(item.reason for item in outcome.refusals if alike(item.reason) == kind)
    return f"{len(outcome.refusals)} places left alone, {count} of them since {first}"


def _rejected(transform: Pass, outcome: Outcome, reason: str) -> Step:
    return Step(transform, "rejected", outcome, " ".join(reason.split())[:MOST_REASON])


def _with_errors(step: Step, verdict: Verdict) -> Step:
    errors = dict(verdict.errors)
    for name, later in reversed([*step.outcome.hidden.items()]):
        found = [errors[item] for item in later if item in errors]
        if found:
            errors[name] = max(found)
    return replace(step, error=verdict.error, errors=errors)


def first_lossy(compiled: Compiled) -> int | None:
    """Index of the first step that spends the user's budget; None where there is none."""
    for index, step in enumerate(compiled.steps):
        if step.status == "kept" and step.transform.promise.kind is Kind.LOSSY:
            return index
    return None


def first_asked(compiled: Compiled) -> int | None:
    """Index of the step to take back first where the result is slower; None where there is none.

    What gains on padded batches only goes before what spends the user's budget; what lasts stays.
    """
    spending = None
    for index, step in enumerate(compiled.steps):
        if step.status != "kept" or step.transform.lasting:
            continue
        if step.transform.promise.kind is not Kind.LOSSY and step.transform.asked:
            return index
        if spending is None and step.transform.promise.kind is Kind.LOSSY:
            spending = index
    return spending


def without_effect(compiled: Compiled) -> list[str]:
    """The passes that the user asked for and that are not in the result."""
    return [
        f"{step.transform.name} has no effect: {step.reason}"
        for step in compiled.steps
        if step.transform.asked and step.status != "kept"
    ]


def rejected(step: Step, reason: str) -> Step:
    """The step as one that was taken back afterwards."""
    outcome = replace(step.outcome, rewrites=0)
    return replace(step, status="rejected", reason=reason, outcome=outcome)


def undone(compiled: Compiled, reason: str) -> Compiled:
    """The compilation with every step taken back."""
    steps = tuple(
        rejected(step, reason) if step.status == "kept" else step for step in compiled.steps
    )
    return Compiled(compiled.snapshots[0], steps, compiled.snapshots)
