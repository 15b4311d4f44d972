"""The tagger of the examples, cut and distilled: F1 lost, and how much faster the student is.

    python benchmarks/pruning/distill.py DATA FOLDER [--student SPEC] [--minutes 10 | --steps N]
        [--limit N] [--no-timing] [--options="OPTIONS"]

`DATA` is the folder of annotated sentences that `examples/tagger` is trained on. The student learns
from the words of its training part, without labels; F1 is that of spans on the held-out part, as
`examples/tagger/evaluate.py` has it, of the teacher, of the student before and after training, and
of the student in int8. `optimize bench` times the teacher and what `optimize` makes of the student
in stock sessions: paired, alternating, in separate processes, at batch 8 x 128 and 1 x 32.
`SPEC` may be a file that `tagger.py` made, `FOLDER/pruned-0.8.onnx`, which learns at a lower rate:
--options="--rate 6e-4". `OPTIONS` are those of `optimize distill` beyond, or instead of, the ones
here.
"""

from __future__ import annotations

import argparse
import json
import random
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

LEARNING = (
    "--optimizer", "muon", "--rate", 3e-3, "--batch", 64, "--hidden", 0, "--relations", 0,
    "--patience", 40,
)  # fmt: skip
"""How the student learns."""

SHAPES = ("batch=8,sequence=128", "batch=1,sequence=32")


def burnish(*arguments: object, statuses: tuple[int, ...] = (0,)) -> None:
    """A command of ours, quietly; it ends with one of some statuses."""
    command = [sys.executable, "-m", "burnish", *map(str, arguments), "-q"]
    if subprocess.run(command, check=False).returncode not in statuses:
        raise SystemExit(f"error: {' '.join(command)}")


def texts(data: Path, target: Path) -> int:
    """Write the words of the training part, a sentence a line; how many.

    Languages are mixed: calibration reads the first lines, which would all be of one.
    """
    sentences = split_sentences(load_folder(data)).train
    random.Random(0).shuffle(sentences)
    target.write_text("".join(" ".join(item.words) + "\n" for item in sentences), "utf-8")
    return len(sentences)


def prepared(data: Path, folder: Path) -> tuple[Path, Path, int]:
    """The teacher with its tokenizer and the texts, in a folder; and how many texts."""
    folder.mkdir(parents=True, exist_ok=True)
    teacher, lines = folder / "teacher.onnx", folder / "texts.txt"
    shutil.copy(EXAMPLE / "model.onnx", teacher)
    shutil.copy(EXAMPLE / "tokenizer.json", folder)
    return teacher, lines, texts(data, lines)


def f1(scores: Scores, whole: Scores) -> str:
    """Of all languages, lost of that, and lost of the language that loses most, in percent."""
    lost = {name: 100.0 * (whole[name]["micro"].f1 - part["micro"].f1)
            for name, part in scores.items()}  # fmt: skip
    worst = max(value for name, value in lost.items() if name != "all")
    return f"{100.0 * scores['all']['micro'].f1:.2f} | {lost['all']:.2f} | {worst:.2f}"


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
    parser.add_argument("--options", default="", help='of `optimize distill`: --options="--rate 1"')
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    teacher, lines, count = prepared(arguments.data, folder)
    print(f"{count} sentences without labels\n")
    asked = ["--steps", arguments.steps] if arguments.steps else ["--minutes", arguments.minutes]
    common = ("--student", arguments.student, "--data", lines, "--threads", arguments.threads)
    cut, student = folder / "cut.onnx", folder / "student.onnx"
    burnish("distill", teacher, *common, "--steps", 1, "--rate", 1e-8, "-o", cut)
    burnish(
        "distill", teacher, *common, *asked, *LEARNING, *arguments.options.split(),
        "-o", student, "--json", folder / "distill.json",
    )  # fmt: skip
    fast, small = folder / "student.opt.onnx", folder / "student.int8.onnx"
    burnish(student, "-o", fast)
    burnish(student, "--int8", "--data", lines, "-o", small)
    sentences = choose_sentences(arguments.data, False, arguments.limit)
    tokenizer = Tokenizer.from_file(str(EXAMPLE / "tokenizer.json"))
    heads = "".join(f" | times faster, {shape}" * (not arguments.no_timing) for shape in SHAPES)
    print(
        f"| model | F1 | lost | worst language lost | MB{heads} |\n"
        f"|---|---|---|---|---{'|---' * heads.count('|')}|"
    )
    named = {"teacher": teacher, "cut": cut, "student": fast, "student, int8": small}
    whole = evaluate_model(teacher, tokenizer, sentences)
    for name, path in named.items():
        told = f1(evaluate_model(path, tokenizer, sentences), whole)
        row = f"| {name} | {told} | {path.stat().st_size / 1e6:.2f}"
        if not arguments.no_timing:
            row += "".join(f" | {times(teacher, path, folder, shape)}" for shape in SHAPES)
        print(f"{row} |", flush=True)
    training = json.loads((folder / "distill.json").read_text())["training"]
    print(f"\n{training['steps']} steps in {training['seconds']:.0f} s, {training['ended']}")


if __name__ == "__main__":
    main()
