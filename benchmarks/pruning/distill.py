"""The tagger of the examples, cut and distilled: F1 lost, and how much faster the student is.

    python benchmarks/pruning/distill.py DATA FOLDER [--student SPEC] [--minutes 10 | --steps N]
        [--limit N] [--no-timing]

`DATA` is the folder of annotated sentences that `examples/tagger` is trained on. The student learns
from the words of its training part, without labels; F1 is that of spans on the held-out part, as
`examples/tagger/evaluate.py` has it, of the teacher, of the student before and after training, and
of the student in int8. `optimize bench` times the teacher and what `optimize` makes of the student
in stock sessions: paired, alternating, in separate processes, at batch 8 x 128 and 1 x 32.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[2] / "examples" / "tagger"
sys.path.insert(0, str(EXAMPLE))

from evaluate import Scores, choose_sentences, evaluate_model  # noqa: E402
from tagger_data import load_folder, split_sentences  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

SHAPES = ("batch=8,sequence=128", "batch=1,sequence=32")


def burnish(*arguments: object) -> None:
    """A command of ours, quietly."""
    command = [sys.executable, "-m", "burnish", *map(str, arguments), "-q"]
    subprocess.run(command, check=True)


def texts(data: Path, target: Path) -> int:
    """Write the words of the training part, a sentence a line; how many."""
    sentences = split_sentences(load_folder(data)).train
    target.write_text("".join(" ".join(item.words) + "\n" for item in sentences), "utf-8")
    return len(sentences)


def f1(scores: Scores) -> str:
    """Of all languages, and of the worst one, in percent."""
    each = {name: 100.0 * part["micro"].f1 for name, part in scores.items()}
    return f"{each['all']:.2f} | {min(value for name, value in each.items() if name != 'all'):.2f}"


def times(teacher: Path, student: Path, folder: Path, shape: str) -> str:
    """How many times faster the student is, with the interval of 95 %."""
    facts = folder / "bench.json"
    burnish("bench", teacher, student, "--shape", shape, "--json", facts)
    found: dict[str, Any] = json.loads(facts.read_text())["latency"][0]
    return f"{found['speedup']:.2f} ({found['ci95'][0]:.2f} to {found['ci95'][1]:.2f})"


def main() -> None:
    """Cut, train, evaluate, time, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--student", default="layers=2,heads=3,channels=0.5")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--limit", type=int, help="held-out sentences of a language")
    parser.add_argument("--no-timing", action="store_true")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    teacher, lines = folder / "teacher.onnx", folder / "texts.txt"
    shutil.copy(EXAMPLE / "model.onnx", teacher)
    shutil.copy(EXAMPLE / "tokenizer.json", folder)
    print(f"{texts(arguments.data, lines)} sentences without labels\n")
    asked = ["--steps", arguments.steps] if arguments.steps else ["--minutes", arguments.minutes]
    common = ("--student", arguments.student, "--data", lines, "--threads", arguments.threads)
    cut, student = folder / "cut.onnx", folder / "student.onnx"
    burnish("distill", teacher, *common, "--steps", 1, "--rate", 1e-8, "-o", cut)
    burnish(
        "distill", teacher, *common, *asked, "--batch", 64, "--rate", 2e-3, "--relations", 0,
        "--patience", 40, "-o", student, "--json", folder / "distill.json",
    )  # fmt: skip
    fast, small = folder / "student.opt.onnx", folder / "student.int8.onnx"
    burnish(student, "-o", fast)
    burnish(student, "--int8", "--data", lines, "-o", small)
    sentences = choose_sentences(arguments.data, False, arguments.limit)
    tokenizer = Tokenizer.from_file(str(EXAMPLE / "tokenizer.json"))
    heads = "".join(f" | times faster, {shape}" * (not arguments.no_timing) for shape in SHAPES)
    print(
        f"| model | F1 | worst language | MB{heads} |\n|---|---|---|---{'|---' * heads.count('|')}|"
    )
    named = {"teacher": teacher, "cut": cut, "student": fast, "student, int8": small}
    for name, path in named.items():
        told = f1(evaluate_model(path, tokenizer, sentences))
        row = f"| {name} | {told} | {path.stat().st_size / 1e6:.2f}"
        if not arguments.no_timing:
            row += "".join(f" | {times(teacher, path, folder, shape)}" for shape in SHAPES)
        print(f"{row} |", flush=True)
    training = json.loads((folder / "distill.json").read_text())["training"]
    print(f"\n{training['steps']} steps in {training['seconds']:.0f} s, {training['ended']}")


if __name__ == "__main__":
    main()
