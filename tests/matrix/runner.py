"""The matrix: `python tests/matrix/runner.py FOLDER --table FILE`; `--help` shows the rest.

Exports what FOLDER does not hold yet, runs Burnish and its peer on every export, each in a child
of its own, and writes what came of it to FOLDER/results.jsonl and as a table to FILE.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

import burnish
from matrix import exporters, isolation, peer, records, table
from matrix.architectures import ARCHITECTURES
from matrix.comparison import Reference
from matrix.exporters import Cell
from matrix.inputs import TRIALS
from matrix.isolation import Facts
from matrix.truth import truth

HANGING = 300.0
"""Seconds after which either tool is given up on a cell."""

NOT_RUN = {"status": table.NOT_RUN, "error": ""}

HEADS, HIDDEN = 4, 64
"""What the peer must be told."""


def ours(cell: Cell, source: Path) -> Facts:
    """Burnish on one export: its account, its refusals, the error of its artifact."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "model.onnx")
        result = burnish.optimize(source, output=str(target), measure=False, threads=1)
        report = result.report
        reference = Reference(cell.architecture, source)
        archive = source.with_suffix(".npz")
        return {
            "recovered": report["recovered"],
            "worst": reference.worst(target),
            "trials": len(reference.answers),
            "from_torch": reference.from_torch(archive) if archive.exists() else None,
            "rejected": {
                step["name"]: step["reason"]
                for step in report["passes"]
                if step["status"] == "rejected"
            },
            "refusals": [
                {"pass": step["name"], **refusal}
                for step in report["passes"]
                for refusal in step["refusals"]
            ],
            "warnings": report["warnings"],
            "nodes": [report["input"]["nodes"], report["output"]["nodes"]],
        }


def theirs(cell: Cell, source: Path) -> Facts:
    """The peer on one export: what it found, the error of its artifact."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "model.onnx")
        facts = peer.optimize(source, target, HEADS, HIDDEN)
        if facts["status"] != "ok":
            return facts
        error = isolation.call(_error, cell, source, target, seconds=HANGING)
        if error["status"] != "ok":  # its artifact does not load, or does not run
            return {**facts, "worst": None, "broken": error["error"]}
        return {**facts, "worst": error["worst"]}


def _error(cell: Cell, source: Path, target: Path) -> Facts:
    return {"worst": Reference(cell.architecture, source).worst(target)}


def run_all(folder: Path, wanted: list[Cell], jobs: int, *, compared: bool = True) -> None:
    """Export, run Burnish and (where `compared`) its peer, as far as the folder does not hold it.

    A result of another export, or of ours by other code, is made anew.
    """
    context = multiprocessing.get_context("fork")
    workers = [
        context.Process(target=_work, args=(folder, wanted[index::jobs], compared))
        for index in range(jobs)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _work(folder: Path, wanted: list[Cell], compared: bool) -> None:
    code = records.code_digest()
    for cell in wanted:
        source = folder / f"{cell}.onnx"
        exporters.export_all(folder, [cell])
        if not source.exists():
            continue
        start = time.monotonic()
        made = {"cell": str(cell), "export": records.export_digest(source), "code": code}
        line = _line(cell, source, made, records.read(folder).get(str(cell), {}), compared)
        if line is None:
            continue
        records.append(folder, line)
        print(f"{cell}: {table.summary(line)} ({time.monotonic() - start:.0f} s)", flush=True)


def _line(cell: Cell, source: Path, made: Facts, last: Facts, compared: bool) -> Facts | None:
    """The cell's result; None where the last one holds. The peer's holds for all our versions."""
    same_export = last.get("export") == made["export"]
    same_code = same_export and last["code"] == made["code"]
    with_peer = same_export and last["peer"]["status"] != table.NOT_RUN
    if same_code and (with_peer or not compared):
        return None
    mine = last["ours"] if same_code else isolation.call(ours, cell, source, seconds=HANGING)
    other = NOT_RUN
    if with_peer or compared:
        other = last["peer"] if with_peer else theirs(cell, source)
    return {**made, "ours": mine, "peer": other}


def page(folder: Path) -> str:
    """The page on what the folder holds."""
    return table.render(
        exporters.read(folder), list(records.read(folder).values()),
        {item.name: truth(item) for item in ARCHITECTURES},
        types=len(peer.TYPES), trials=len(TRIALS),
    )  # fmt: skip


def main() -> None:
    """Export, run, write the table."""
    parser = argparse.ArgumentParser(description="Architectures times exporters.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("cells", nargs="*")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--no-export", action="store_true", help="only the exports that are there")
    parser.add_argument("--no-peer", action="store_true", help="Burnish alone")
    options = parser.parse_intermixed_args()
    wanted = [cell for cell in exporters.cells() if not options.cells or str(cell) in options.cells]
    if options.no_export:
        known = {line["cell"] for line in exporters.read(options.folder)}
        wanted = [cell for cell in wanted if str(cell) in known]
    run_all(options.folder, wanted, options.jobs, compared=not options.no_peer)
    if options.table:
        options.table.write_text(page(options.folder))


if __name__ == "__main__":
    main()
