"""The user's data as what weights are found with: all of it, but for what results are judged on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from burnish.driver.workbench import Workbench
from burnish.optimizer.activations import Activations
from burnish.optimizer.more_data import read_more

JUDGING = 2
"""Feeds that what pruned sites cost is measured on."""


def activations_of(bench: Workbench, used: Sequence[Path], masks: Sequence[str]) -> Activations:
    """Runs parts of the model on the feeds of the calibration and on those beyond what is checked.

    Args:
        bench: the model, and the request with its data.
        used: feeds of the calibration.
        masks: see `Activations`.
    """
    found = [*used]
    if bench.request.data:
        more = read_more(Path(bench.request.data), bench.slots, bench.tokenizer)
        found += bench.executor.store(more)
    judging = found[1 :: max(1, len(found) // JUDGING)][:JUDGING] if len(found) > 3 else []
    learned = [folder for folder in found if folder not in judging]

    def told(text: str) -> None:
        bench.emit({"stage": text})

    return Activations(bench.executor, learned, masks, judging or learned, told)
