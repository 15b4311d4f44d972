"""From a checkpoint to ONNX files that give what PyTorch gives."""

from __future__ import annotations

import gc
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from burnish.optimizer.contract import Array, relative_l2
from burnish.optimizer.errors import BurnishError, UnsupportedModel, first_line
from burnish.optimizer.frontend import models
from burnish.optimizer.frontend.checkpoint import Checkpoint
from burnish.optimizer.frontend.exporters import WAYS, Way, export
from burnish.optimizer.frontend.parts import Part, parts_of
from burnish.optimizer.frontend.samples import TRACED, TRIALS, Sample
from burnish.optimizer.frontend.tasks import CACHED, Task

TOLERANCE = 1e-4
"""Relative L2 error against PyTorch up to which an export is taken."""

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
"""Colours in the texts of exporters."""

Run = Callable[[Path, list[dict[str, Array]]], list[list[Array]]]
"""Runs a model file on feeds; the outputs of each."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trial:
    """A sample, and what the model answers to it."""

    sample: Sample
    answer: list[Array]

    @property
    def feed(self) -> dict[str, Array]:
        """The sample as arrays."""
        return {name: value.numpy() for name, value in self.sample.values.items()}


def exported(
    checkpoint: Checkpoint, task: Task, folder: Path, *, trust_code: bool, run: Run, say: Say
) -> dict[str, Any]:
    """Export by the first way whose files answer as PyTorch does; what was done, as data.

    Raises:
        UnsupportedModel: there is none; what came of each is said.
        BurnishError: the checkpoint cannot be loaded.
    """
    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    tried: list[dict[str, str]] = []
    for way in WAYS:
        say(f"exporting by {way}")
        with tempfile.TemporaryDirectory(dir=folder) as name:
            try:
                trials = _written(checkpoint, task, Path(name), way, trust_code=trust_code)
                gc.collect()
                say("comparing with PyTorch")
                errors = {part: _error(Path(name) / part, trials[part], run) for part in trials}
            except BurnishError:
                raise
            except Exception as error:  # an exporter fails in ways of its own
                tried.append({"way": str(way), "reason": _reason(error)})
                continue
            worst = max(errors.values())
            if not worst <= TOLERANCE:
                reason = f"its answers are not PyTorch's (relative error {worst:.2g})"
                tried.append({"way": str(way), "reason": reason})
                continue
            for part in trials:
                shutil.move(Path(name) / part, folder / part)
        return {
            "task": task.name,
            "selects": task.kind == CACHED,
            "way": str(way),
            "tried": tried,
            "error": worst,
            "parts": list(trials),
            "versions": {
                "torch": torch.__version__, "transformers": transformers.__version__
            },
        }  # fmt: skip
    told = "; ".join(f"{item['way']}: {item['reason']}" for item in tried)
    raise UnsupportedModel(f"no exporter of PyTorch takes it: {told}")


def _reason(error: BaseException) -> str:
    """The first line of what an exporter stumbled over; what it wraps it in says less."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {ESCAPES.sub('', first_line(error))}"[:300]


def _written(
    checkpoint: Checkpoint, task: Task, folder: Path, way: Way, *, trust_code: bool
) -> dict[str, list[Trial]]:
    """Write each graph to `NAME/NAME.onnx`; trials for each. The model itself is gone then."""
    model = models.load(checkpoint, task, way.attention, trust_code=trust_code)
    found = {}
    for part in parts_of(model, task):
        found[part.name] = _trials(part)
        torch.manual_seed(0)
        path = folder / part.name / f"{part.name}.onnx"
        export(part.module, part.make(TRACED), part.outputs, path, way)
    return found


def _trials(part: Part) -> list[Trial]:
    found = []
    for index, sizes in enumerate(TRIALS):
        torch.manual_seed(index + 1)
        sample = part.make(sizes)
        with torch.no_grad():
            answer = part.module(*sample.values.values())
        found.append(Trial(sample, [value.float().numpy() for value in answer]))
    return found


def _error(folder: Path, trials: list[Trial], run: Run) -> float:
    """The largest relative L2 error of any output in any trial."""
    path = folder / f"{folder.name}.onnx"
    results = run(path, [trial.feed for trial in trials])
    worst = 0.0
    for trial, outputs in zip(trials, results, strict=True):
        for wanted, given in zip(trial.answer, outputs, strict=True):
            if wanted.shape != given.shape:
                raise ValueError(f"an output has the shape {given.shape}, not {wanted.shape}")
            rows = _rows(trial.sample, wanted)
            worst = max(worst, relative_l2(wanted[rows], given[rows]))
    return worst


def _rows(sample: Sample, output: Array) -> Any:
    """An index of the rows of an output that belong to tokens."""
    mask = sample.values.get("attention_mask")
    if sample.seen is None or mask is None:
        return ...
    seen, whole = sample.seen.numpy().astype(bool), mask.numpy().astype(bool)
    if output.ndim == 4 and output.shape[2] == whole.shape[1]:
        return np.broadcast_to(whole[:, None, :], output.shape[:3])
    return seen if output.shape[:2] == seen.shape else ...
