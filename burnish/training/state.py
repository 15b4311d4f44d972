"""Where training stands, in one file that is there whole or not at all; no pickles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from burnish.optimizer.contract import Array
from burnish.optimizer.errors import StorageError, UsageError
from burnish.optimizer.saving import write_with
from burnish.training import muon

ABOUT = "about"
"""Name of the entry that holds the numbers, as JSON."""

MOMENTS = ("exp_avg", "exp_avg_sq", "step", muon.KEY)
"""What an optimizer keeps of a weight."""


@dataclass
class State:
    """What training has come to.

    Attributes:
        order: digest of what is trained on what, and how.
        step: steps that are done.
        seconds: that they took.
        best: the largest fidelity to the teacher that was seen, and the loss at that.
        best_step: where.
        stale: judgements since then.
        history: `step`, `loss` and `fidelity` of each judgement.
    """

    order: str = ""
    step: int = 0
    seconds: float = 0.0
    best: tuple[float, float] = (-1.0, float("inf"))
    best_step: int = 0
    stale: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def write(
    path: Path, state: State, weights: Sequence[Tensor], optimizer: torch.optim.Optimizer,
    best: Sequence[Tensor],
) -> None:  # fmt: skip
    """Write all that going on takes.

    Raises:
        StorageError: where writing failed; what was there before still is.
    """
    arrays: dict[str, Array] = {ABOUT: np.array(json.dumps(asdict(state)))}
    for index, weight in enumerate(weights):
        moments = optimizer.state.get(weight, {})
        for name in MOMENTS:
            if name in moments:
                arrays[f"{name}.{index}"] = moments[name].detach().numpy()
        arrays[f"weight.{index}"] = weight.detach().numpy()
        arrays[f"best.{index}"] = best[index].numpy()
    write_with(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def read(
    path: Path, order: str, weights: Sequence[Tensor], optimizer: torch.optim.Optimizer,
    best: list[Tensor],
) -> State:  # fmt: skip
    """Take up what was written for the same order.

    Raises:
        StorageError: there is no such file.
        UsageError: it is of another teacher, student, data, or other options.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about: dict[str, Any] = json.loads(str(arrays.pop(ABOUT)))
    except FileNotFoundError:
        told = f"there is nothing to go on with: {path} does not exist"
        raise StorageError(told, hint="leaving out --resume") from None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        raise StorageError(f"{path} does not hold what training has come to") from None
    if about["order"] != order:
        told = f"{path} is of another teacher, student or data, or of other options"
        raise UsageError(told, hint="leaving out --resume")
    for index, weight in enumerate(weights):
        weight.data.copy_(torch.from_numpy(arrays[f"weight.{index}"]))
        best[index] = torch.from_numpy(arrays[f"best.{index}"])
        moments = {name: arrays.get(f"{name}.{index}") for name in MOMENTS}
        optimizer.state[weight] = {
            name: torch.from_numpy(array) for name, array in moments.items() if array is not None
        }
    return State(**about | {"best": tuple(about["best"])})
