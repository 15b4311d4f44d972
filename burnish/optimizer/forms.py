"""What becomes of the places of a model that are each written in the form measured fastest."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import onnx_ir as ir

from burnish.optimizer.analysis.products import label
from burnish.optimizer.contract import Choice, Outcome, Refusal

FUSED = "com.microsoft"
"""Domain of ONNX Runtime's own operators, which every build of it has."""

AS_IT_IS = "as it is"
"""The form that a place has, with whatever ONNX Runtime makes of it when it loads the model."""


@dataclass
class Tally:
    """Counts what was chosen for the places of one model.

    Attributes:
        what: the places, in words ("activations").
    """

    what: str
    _counts: Counter[str] = field(default_factory=Counter)
    _refusals: list[Refusal] = field(default_factory=list)
    _gains: list[float] = field(default_factory=list)

    def refuse(self, node: ir.Node, reason: str) -> None:
        """Leave a place alone."""
        self._refusals.append(Refusal(label(node), reason))

    def takes(self, node: ir.Node, choice: Choice) -> bool:
        """Whether a place gets another form than it has."""
        if choice.winner != AS_IT_IS:
            self._counts[choice.winner] += 1
            self._gains += [choice.speedup] if choice.measured else []
            return True
        measured = f"no other form is measurably faster ({choice.speedup:.2f} times)"
        self.refuse(node, measured if choice.measured else "it stays by rule (not measured)")
        return False

    def outcome(self, model: ir.Model, *own: str, lengths: tuple[int, ...] = ()) -> Outcome:
        """The outcome; the model imports the domain that the forms `own` are written in."""
        if any(self._counts[name] for name in own):
            model.opset_imports[FUSED] = 1
        done = sum(self._counts.values())
        speedup = (
            math.exp(sum(map(math.log, self._gains)) / len(self._gains)) if self._gains else None
        )
        detail = ", ".join(f"{count} as {name}" for name, count in self._counts.items())
        detail = detail and f"{self.what}: {detail}"
        return Outcome(done, tuple(self._refusals), speedup, detail, lengths=lengths)
