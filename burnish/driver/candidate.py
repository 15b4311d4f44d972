"""What a compilation compares: the original's answers, and a model on its way out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from burnish.optimizer.contract import Array
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


@dataclass
class Candidate:
    """A compiled model on its way out.

    Attributes:
        files: where it is staged.
        fidelity: against the original; None where not checked.
        timing: against the original; None where not measured.
    """

    compiled: Compiled
    files: tuple[Path, ...]
    fidelity: Fidelity | None = None
    timing: Timing | None = None
