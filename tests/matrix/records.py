"""What came of the cells: lines of FOLDER/results.jsonl, each of one export and one Burnish."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import burnish
from matrix.isolation import Facts

FILE = "results.jsonl"


def read(folder: Path) -> dict[str, Facts]:
    """The last line of every cell."""
    record = folder / FILE
    lines = record.read_text().splitlines() if record.exists() else []
    return {line["cell"]: line for line in map(json.loads, lines)}


def append(folder: Path, line: Facts) -> None:
    """Add a line; several processes may."""
    with (folder / FILE).open("a") as file:
        file.write(json.dumps(line) + "\n")


def export_digest(path: Path) -> str:
    """Of an export: what both tools' results depend on."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def code_digest() -> str:
    """Of Burnish itself: its results are those of this code."""
    folder = Path(burnish.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
