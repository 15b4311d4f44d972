"""Generated tokens, ours against PyTorch's `generate`, with the same weights.

    python benchmarks/generation/equality.py [--new 200] [--seeds 3] [--exporter dynamo] [NAME ...]

Nine architectures of `tests/generating.py` (two layers, random weights), three seeds of weights
each, exported by the front end's wrappers without passes. Rows of 9, 4, 13 and 1 tokens are a
batch: greedy, by three beams, with tokens that end a text, and with guesses of up to 8 tokens,
which are also run on each row alone. `--exporter optimize` is the whole way: a checkpoint, compiled
by rules. A cell is the number of rows whose tokens all are PyTorch's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import torch
from generating import MODELS, artifact, built, prompts, reference

import burnish
from burnish.runtimes.generate import open_generator

LENGTHS = (9, 4, 13, 1)
GUESSES = 8
COLUMNS = ("greedy", "guessed", "guessed alone", "runs saved", "ended", "beams", "beams ended")


def compared(name: str, seed: int, new: int, exporter: str) -> dict[str, tuple[int, int]]:
    """For each column, how many of how many rows (or runs)."""
    model = built(name, seed)
    with tempfile.TemporaryDirectory() as folder:
        made = whole_way if exporter == "optimize" else artifact
        generator = open_generator(made(name, Path(folder), model, exporter), threads=1)
        asked: dict[str, Any] = {"ids": prompts(LENGTHS, seed), "max_new_tokens": new}
        torch_asked = {"rows": asked["ids"], "max_new_tokens": new}
        greedy = reference(model, **torch_asked)
        plain = generator.generate(**asked)
        guessed = generator.generate(**asked, speculate=GUESSES)
        alone = [
            generator.generate(ids=[row], max_new_tokens=new, speculate=GUESSES)
            for row in asked["ids"]
        ]
        ends = [row[len(row) // 2 + place] for place, row in enumerate(greedy[:2])]
        beam_options = {"num_beams": 3, "max_new_tokens": new}
        ending = {"eos_token_id": ends, "max_new_tokens": new}
        found = {
            "greedy": alike(plain.ids, greedy),
            "guessed": alike(guessed.ids, greedy),
            "guessed alone": alike([made.ids[0] for made in alone], greedy),
            "runs saved": (sum(new - made.count.runs for made in alone), new * len(alone)),
        }
        for column, options in (
            ("ended", ending), ("beams", beam_options), ("beams ended", ending | beam_options)
        ):  # fmt: skip
            expected = reference(model, asked["ids"], **options)
            found[column] = alike(generator.generate(ids=asked["ids"], **options).ids, expected)
        generator.close()
    return found


def whole_way(name: str, folder: Path, model: Any, exporter: str) -> Path:
    """An artifact that `optimize` makes of a checkpoint, without timing."""
    model.save_pretrained(folder / name)
    made = folder / f"{name}.opt"
    burnish.optimize(folder / name, output=str(made), measure=False)
    return made


def alike(ours: list[list[int]], theirs: list[list[int]]) -> tuple[int, int]:
    """Rows that are equal, of how many."""
    return sum(a == b for a, b in zip(ours, theirs, strict=True)), len(theirs)


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--new", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    ways = ["", "dynamo", "torchscript", "optimize"]
    parser.add_argument("--exporter", default="", choices=ways)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # more only wait for each other, at these sizes
    print(f"| architecture | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for name in arguments.names or [name for name in MODELS if name != "whisper"]:
        totals = dict.fromkeys(COLUMNS, (0, 0))
        for seed in range(arguments.seeds):
            found = compared(name, seed, arguments.new, arguments.exporter)
            totals = {key: (a + found[key][0], b + found[key][1]) for key, (a, b) in totals.items()}
        cells = [f"{right} of {count}" for right, count in totals.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
