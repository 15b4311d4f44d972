"""The account of recovery: how many of each kind there are, how many were recovered, why not all.

What is expected is counted where no pass that recovers anything has run: after the first `clean`,
which follows the passes that inline, fold and raise (in the input where there is no such step).
What is found is counted after the last pass of the phase `recover`. Operators that are a kind by
themselves, in the input already, are expected and found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from burnish.optimizer.analysis.anchors import KINDS, Anchor, Flow, find_anchors
from burnish.optimizer.analysis.chunks import FORM, window_of
from burnish.optimizer.analysis.products import label
from burnish.optimizer.contract import Phase
from burnish.optimizer.pipeline import Compiled, Step

BASE = "clean"
"""The first pass of this name ends what does not recover anything."""

PASSES = {
    "attention": ("attention",),
    "normalization": ("layer-norm", "rms-norm"),
    "activation": ("gelu", "silu", "quick-gelu"),
    "rotary": ("rotary",),
    "linear": ("linear",),
}
"""The passes that recover a kind."""

PREFERRED = {"LayerNormalization": "layer-norm", "RMSNormalization": "rms-norm"}
"""By the nearest form: the pass whose word counts most."""

UNSEEN = "no pass looked at it"
GONE = "it is no longer in the graph: equal to another one, or of no use"

NAME = re.compile(r"[^\s,;'\"()]+")


@dataclass(frozen=True)
class Miss:
    """A place that was not recovered.

    Attributes:
        node: label of its anchor (the softmax of an attention).
        nearest: the form that it comes nearest to.
        reason: why it is not in that form.
        differs: label or value of the node where it differs, if the reason names one.
    """

    node: str
    nearest: str
    reason: str
    differs: str


@dataclass(frozen=True)
class Count:
    """How many of one kind are there and were recovered."""

    expected: int
    found: int
    missed: tuple[Miss, ...]

    def as_json(self) -> dict[str, Any]:
        """The count as the report shows it."""
        missed = [vars(miss) for miss in self.missed]
        return {"expected": self.expected, "found": self.found, "missed": missed}


def account(compiled: Compiled) -> dict[str, Count]:
    """The counts by kind, of a compilation whose first steps are those of the phase `recover`."""
    last = _recovering(compiled.steps)
    recovered = recovered_model(compiled)
    source = find_anchors(_model(compiled, _first(compiled.steps[:last])))
    reached = find_anchors(recovered)
    explanations = _Explanations(compiled.steps[:last], recovered)
    attending = (s for s in compiled.steps[:last] if s.transform.name in PASSES["attention"])
    if any(step.status in ("kept", "unchanged") for step in attending):
        reached["attention"] = explanations.with_windows(reached["attention"])
    return {kind: _count(kind, source[kind], reached[kind], explanations) for kind in KINDS}


def recovered_model(compiled: Compiled) -> ir.Model:
    """The model after the last step of the phase `recover`."""
    return _model(compiled, _recovering(compiled.steps))


def _recovering(steps: Iterable[Step]) -> int:
    """How many steps are of the phase `recover`."""
    return sum(1 for step in steps if step.transform.phase is Phase.RECOVER)


def _first(steps: tuple[Step, ...]) -> int:
    """How many steps recover nothing, up to and with the first `clean`."""
    for index, step in enumerate(steps):
        if step.transform.name == BASE:
            return index + 1
    return 0


def _model(compiled: Compiled, index: int) -> ir.Model:
    """The model before the step of that index."""
    return compiled.snapshots[index] if index < len(compiled.snapshots) else compiled.model


def _count(
    kind: str, source: list[Anchor], reached: list[Anchor], explanations: _Explanations
) -> Count:
    """What is left as it was is missed; what is neither left nor found has gone."""
    left = [anchor for anchor in reached if not anchor.found]
    found = min(len(reached) - len(left), max(0, len(source) - len(left)))
    missed = [explanations.miss(kind, anchor) for anchor in left]
    gone = len(source) - found - len(missed)
    missed += [Miss("", "", GONE, "")] * max(0, gone)
    return Count(len(source), found, tuple(missed))


class _Explanations:
    """What the passes said of the places that they left alone."""

    def __init__(self, steps: Iterable[Step], model: ir.Model) -> None:
        self._model = model
        self._said: dict[str, list[tuple[str, str]]] = {}
        self._rejected: dict[str, str] = {}
        for step in steps:
            name = step.transform.name
            if step.status == "rejected":
                self._rejected[name] = step.reason
            for refusal in step.outcome.refusals:
                self._said.setdefault(refusal.node, []).append((name, refusal.reason))
        self._labels: dict[str, str] = {}
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            names = (node.name or "", *(value.name or "" for value in node.outputs))
            self._labels |= {name: label(node) for name in names if name}

    def with_windows(self, anchors: list[Anchor]) -> list[Anchor]:
        """The attentions, those found that no pass spoke of but whose window can be proven."""
        flow = Flow(self._model)
        told = []
        for anchor in anchors:
            if not anchor.found and not self._of(anchor):
                window = window_of(self._model, anchor, flow)
                if isinstance(window, str):
                    word = ("attention", f"{UNSEEN}, and {window}")
                    self._said.setdefault(label(anchor.node), []).append(word)
                else:
                    anchor = replace(anchor, found=True, form=FORM)
            told.append(anchor)
        return told

    def _of(self, anchor: Anchor) -> list[tuple[str, str]]:
        """The passes that spoke of an anchor, and what they said."""
        names = {label(node): None for node in (anchor.node, *anchor.parts)}
        for node in (anchor.node, *anchor.parts):
            names |= {value.name or "": None for value in node.outputs}
        return [item for name in names for item in self._said.get(name, ())]

    def miss(self, kind: str, anchor: Anchor) -> Miss:
        """Why an anchor is not in its form."""
        said = self._of(anchor)
        order = (PREFERRED.get(anchor.form), *PASSES[kind])
        said.sort(key=lambda item: order.index(item[0]) if item[0] in order else len(order))
        reason = said[0][1] if said else self._without_word(kind)
        differs = next(self._named(reason), "") if said else ""
        return Miss(label(anchor.node), anchor.form, reason, differs)

    def _without_word(self, kind: str) -> str:
        """Why a kind was not recovered where no pass named the place."""
        for name in PASSES[kind]:
            if name in self._rejected:
                return f"{name} was taken back: {self._rejected[name]}"
        return UNSEEN

    def _named(self, reason: str) -> Iterator[str]:
        """The nodes that a reason names, by themselves or by a value that they give."""
        for match in NAME.finditer(reason):
            word = match.group().rstrip(".:")
            if word in self._labels and _is_name(word):
                yield self._labels[word]


def _is_name(word: str) -> bool:
    """Whether a word is hardly one of the language: names of nodes may be."""
    return not word.isalpha() or "_" in word
