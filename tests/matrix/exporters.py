"""Every architecture through every exporter: `python tests/matrix/exporters.py FOLDER`.

Each cell is exported by a process of its own, which is ended when it hangs; what became of it is
one line of FOLDER/cells.jsonl. A cell that is there already is not exported again.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import exporting
import torch

from matrix import isolation
from matrix.architectures import ARCHITECTURES, BY_NAME, Architecture, built
from matrix.inputs import REFERENCE, TRACED

HANGING = 150.0
"""Seconds after which an export is given up."""


@dataclass(frozen=True)
class Exporter:
    """A way to export: `kind` is torchscript or dynamo, `attention` eager or sdpa."""

    kind: str
    attention: str
    opset: int

    def __str__(self) -> str:
        return f"{self.kind}-{self.attention}-{self.opset}"


EXPORTERS = (
    Exporter("torchscript", "sdpa", 17),
    Exporter("dynamo", "sdpa", 20),
    Exporter("dynamo", "eager", 23),
    Exporter("torchscript", "eager", 17),
    Exporter("dynamo", "sdpa", 23),
    Exporter("dynamo", "eager", 20),
    Exporter("dynamo", "sdpa", 18),
    Exporter("dynamo", "eager", 18),
)
"""The most telling first: a run that is cut short has seen every architecture."""

FIRST = 3
"""So many exporters are run on every architecture before any other is."""


@dataclass(frozen=True)
class Cell:
    """One architecture through one exporter."""

    architecture: Architecture
    exporter: Exporter

    def __str__(self) -> str:
        return f"{self.architecture.name}-{self.exporter}"


def cells() -> Iterator[Cell]:
    """All of the matrix, in the order in which it is exported."""
    for exporters in (EXPORTERS[:FIRST], EXPORTERS[FIRST:]):
        for architecture in ARCHITECTURES:
            for exporter in exporters:
                yield Cell(architecture, exporter)


def parse(name: str) -> Cell:
    """The cell that a file is named after.

    Raises:
        KeyError: where the matrix has none of that name.
    """
    architecture, kind, attention, opset = name.rsplit("-", 3)
    return Cell(BY_NAME[architecture], Exporter(kind, attention, int(opset)))


def export(cell: Cell, path: Path) -> dict[str, Any]:
    """Write the cell's model to `path` and say how.

    Where dynamo finds that an axis is not as free as it was told, it decides by itself which are.
    """
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    partial = path.with_name(f"{path.stem}.partial.onnx")
    try:
        _write(cell, partial, automatic=False)
        axes = "named"
    except Exception:
        if cell.exporter.kind != "dynamo":
            raise
        _write(cell, partial, automatic=True)
        axes = "automatic"
    _save_reference(cell, path)
    partial.rename(path)
    return {"axes": axes, "bytes": path.stat().st_size}


def _write(cell: Cell, path: Path, *, automatic: bool) -> None:
    module = built(cell.architecture, cell.exporter.attention)
    exporting.export(
        module, cell.architecture.inputs(TRACED), path, cell.exporter.kind, cell.exporter.opset,
        automatic=automatic,
    )  # fmt: skip


def _save_reference(cell: Cell, path: Path) -> None:
    """What torch answers to `REFERENCE`: `out.INDEX` in an archive beside the export."""
    inputs = cell.architecture.inputs(REFERENCE)
    module = exporting.wrapped(built(cell.architecture, cell.exporter.attention), inputs)
    with torch.no_grad():
        result = module(*(value for value, _ in inputs.values()))
    outputs = (result,) if isinstance(result, torch.Tensor) else result
    arrays = {f"out.{index}": value.numpy() for index, value in enumerate(outputs)}
    np.savez(path.with_suffix(".npz"), **arrays)


def export_all(folder: Path, wanted: Iterable[Cell]) -> None:
    """Export the cells that the folder does not hold yet, one process at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "cells.jsonl"
    known = {line["cell"] for line in read(folder)}
    for cell in wanted:
        if str(cell) in known:
            continue
        start = time.monotonic()
        facts = isolation.call(export, cell, folder / f"{cell}.onnx", seconds=HANGING)
        line = {"cell": str(cell), **facts, "seconds": round(time.monotonic() - start, 1)}
        with record.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def read(folder: Path) -> list[dict[str, Any]]:
    """What became of the exports in the folder."""
    record = folder / "cells.jsonl"
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


if __name__ == "__main__":
    names = sys.argv[2:]
    chosen = [cell for cell in cells() if not names or str(cell) in names]
    export_all(Path(sys.argv[1]), chosen)
