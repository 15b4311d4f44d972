"""What a compilation compares: the original's answers, and a model on its way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from burnish.optimizer.contract import Array, relative_l2
from burnish.optimizer.fidelity import Fidelity
from burnish.optimizer.measure import Timing
from burnish.optimizer.pipeline import Compiled


@dataclass(frozen=True)
class Reference:
    """The original's answers.

    Attributes:
        folders: the feeds, stored.
        outputs: by feed.
        description: "on made-up inputs", or the data's name.
        groups: of each feed; "" where there are none.
        probes: further feeds, some of which the model may not accept; see `verify.Checker`.
    """

    folders: list[Path]
    outputs: list[dict[str, Array]]
    description: str
    probes: list[Path]
    groups: list[str]

    def error(self, answers: Sequence[Mapping[str, Array]]) -> float:
        """How far answers to the feeds are from these: relative L2, the largest of all outputs."""
        return max(
            relative_l2(expected[name], found[name])
            for expected, found in zip(self.outputs, answers, strict=True)
            for name in expected
        )

    def split(self) -> tuple[Reference, Reference]:
        """The feeds for calibration, and those held out; each group's are shared out in turn.

        A group of a single feed has it in both, since nothing else would be known of it.
        """
        used, held = [], []
        for name in dict.fromkeys(self.groups):
            members = [index for index, group in enumerate(self.groups) if group == name]
            used += members[::2]
            held += members[1::2] or members
        held_out = self._of(held)
        if not {*used} & {*held}:
            held_out = replace(held_out, description=f"{self.description}, held out of calibration")
        return self._of(used), held_out

    def some(self, count: int) -> Reference:
        """So many of the feeds, evenly spread, or all where there are no more."""
        spread = np.linspace(0, len(self.folders) - 1, min(count, len(self.folders)))
        return self._of([int(index) for index in spread.round()])

    def _of(self, chosen: list[int]) -> Reference:
        return replace(
            self,
            folders=[self.folders[index] for index in chosen],
            outputs=[self.outputs[index] for index in chosen],
            groups=[self.groups[index] for index in chosen],
        )


@dataclass
class Candidate:
    """A compiled model on its way out.

    Attributes:
        files: where it is staged.
        fidelity: against the original; None where not checked.
        timing: against the original; None where not measured.
        fallen: operators with nodes that the provider left to another one, and how many; None
            where it was not run there, or the runtime does not tell.
    """

    compiled: Compiled
    files: tuple[Path, ...]
    fidelity: Fidelity | None = None
    timing: Timing | None = None
    fallen: list[tuple[str, int]] | None = None
