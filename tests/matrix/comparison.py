"""Outputs of two models of one cell on inputs of several sizes and paddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from burnish.optimizer.contract import Array, relative_l2
from matrix.architectures import Architecture
from matrix.inputs import REFERENCE, TRIALS, Batch

Outputs = list[Array]


class Reference:
    """What a model answers as it was written, with none of the runtime's optimizations.

    Attributes:
        answers: outputs by trial; trials that the model itself does not take are not among them.
    """

    def __init__(self, architecture: Architecture, path: Path) -> None:
        self.architecture = architecture
        self.session = session(path, optimized=False)
        self.answers: dict[Batch, Outputs] = {}
        for batch in TRIALS:
            try:
                self.answers[batch] = run(self.session, self.feed(batch))
            except Exception:  # an export may hold to the sizes that it was traced with
                continue

    def feed(self, batch: Batch) -> dict[str, Array]:
        """Sample inputs as arrays."""
        return {name: item.numpy() for name, (item, _) in self.architecture.inputs(batch).items()}

    def worst(self, path: Path) -> float | None:
        """The largest relative L2 error of another model over trials and outputs.

        None where the export itself does not take one trial.
        """
        other = session(path, optimized=True)
        errors = [
            relative_l2(*pair)
            for batch, answer in self.answers.items()
            for pair in self._compared(batch, answer, run(other, self.feed(batch)))
        ]
        return max(errors, default=None)

    def from_torch(self, path: Path) -> float | None:
        """The export's own error from torch; None where it does not take the reference's sizes."""
        with np.load(path) as archive:
            wanted = [archive[name] for name in archive if name.startswith("out.")]
        try:
            answer = run(self.session, self.feed(REFERENCE))
        except Exception:
            return None
        pairs = self._compared(REFERENCE, wanted, answer)
        return max((relative_l2(*pair) for pair in pairs), default=None)

    def _compared(self, batch: Batch, mine: Outputs, theirs: Outputs) -> list[tuple[Array, Array]]:
        """Pairs of outputs; where a padded query sees no key, only the rows of real tokens."""
        pairs = list(zip(mine, theirs, strict=True))
        if batch.padding not in self.architecture.undefined:
            return pairs
        mask = self.feed(batch)["attention_mask"].astype(bool)
        return [
            (one[mask], other[mask])
            for one, other in pairs
            if one.shape == other.shape and one.shape[:2] == mask.shape
        ]


def session(path: Path, *, optimized: bool) -> Any:
    """A session on one thread, with the runtime's own optimizations or none."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(opened: Any, feed: dict[str, Array]) -> Outputs:
    """All outputs for the inputs that the session has; exporters drop those that nothing reads."""
    wanted = {item.name for item in opened.get_inputs()}
    return list(opened.run(None, {name: feed[name] for name in feed if name in wanted}))
