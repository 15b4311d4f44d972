"""The tagger of the examples, pruned and not trained: F1 lost, and how much faster it is.

    python benchmarks/pruning/tagger.py DATA FOLDER [--cuts 0.2 0.3 0.4 0.5 2x] [--limit N]
        [--threads N] [--time]

`DATA` is the folder of annotated sentences that `examples/tagger` is trained on. `optimize --prune`
gets the words of the training part, without labels and with languages mixed; F1 is that of spans
on the held-out part, as `examples/tagger/evaluate.py` has it. The first row is `optimize` alone.
A cut is a share of the operations, or a speed-up ("2x": `--prune auto --speedup 2`), for which
widths are chosen by measured times at batch 8 x 128. With `--time` each result is timed against
the original in stock sessions (paired, alternating, in separate processes), and forms of operators
are chosen by measured times; without it, by rules.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from distill import EXAMPLE, SHAPES, burnish, f1, prepared, times
from evaluate import choose_sentences, evaluate_model
from tokenizers import Tokenizer

ALLOWED = 0.3
"""Share of first choices that may change: more than any row loses."""


def pruned(
    teacher: Path, asked: str, lines: Path, threads: int, *, measured: bool = True
) -> tuple[Path, str]:
    """What `optimize` makes of the teacher, and how much of it is left, in cells."""
    target = teacher.with_name(f"pruned-{asked}.onnx")
    common = ("--threads", threads, "-o", target)
    if not float(asked.rstrip("x")):
        burnish(teacher, *common)
        return target, "all | all | 1.00"
    facts = target.with_suffix(".json")
    how = ("auto", "--speedup", asked[:-1]) if asked.endswith("x") else (asked,)
    how += ("--shape", SHAPES[0]) if measured else ("--no-measure",)
    allowed = ("--data", lines, "--max-drop", ALLOWED, "--json", facts)
    burnish(teacher, "--prune", *how, *allowed, *common, statuses=(0, 1))
    told: dict[str, Any] = json.loads(facts.read_text())["pruning"]
    cells = []
    for kind in ("heads", "channels"):
        rows = [row for row in told["sites"] if row["kind"] == kind]
        left = ", ".join(map(_left, rows))
        cells.append(f"{left} of {rows[0]['before']}")
    return target, f"{cells[0]} | {cells[1]} | {told['flops_ratio']:.2f}"


def _left(row: dict[str, Any]) -> str:
    """What stays of a site: units, elements of heads, the rank of its products."""
    sizes = " of " + "/".join(map(str, row["sizes"])) if row["sizes"] else ""
    return f"{row['after']}{sizes}" + (f" in rank {row['rank']}" if row["rank"] else "")


def main() -> None:
    """Prune by each share, evaluate, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cuts", nargs="+", default=["0.2", "0.3", "0.4", "0.5", "2x"])
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--limit", type=int, help="held-out sentences of a language")
    parser.add_argument("--time", action="store_true")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    teacher, lines, _ = prepared(arguments.data, folder)
    sentences = choose_sentences(arguments.data, False, arguments.limit)
    tokenizer = Tokenizer.from_file(str(EXAMPLE / "tokenizer.json"))
    whole = evaluate_model(teacher, tokenizer, sentences)
    timed = SHAPES if arguments.time else ()
    heads = "".join(f" | times faster, {shape}" for shape in timed)
    print(
        "| cut | heads | channels | times fewer operations | F1 | lost | worst language lost",
        end="",
    )
    print(f"{heads} |\n{'|---' * (7 + len(timed))}|")
    for cut in ("0", *arguments.cuts):
        path, left = pruned(teacher, cut, lines, arguments.threads, measured=arguments.time)
        told = f1(evaluate_model(path, tokenizer, sentences), whole)
        row = f"| {cut} | {left} | {told}"
        row += "".join(f" | {times(teacher, path, folder, shape)}" for shape in timed)
        print(f"{row} |", flush=True)


if __name__ == "__main__":
    main()
