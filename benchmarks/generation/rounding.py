"""Whether guesses and batches change texts, by how a model rounds activations.

    python benchmarks/generation/rounding.py [--texts 10] [--new 80]

The two-layer Llama of `tests/generating.py` (random weights: close calls everywhere) through
`optimize` in float32, in int8 whose ranges each run finds, and in int8 with fixed ranges. Of so
many texts: how many stay the same with up to 6 guessed tokens, and in a batch with another text.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from generating import built, prompts, tokenizer

import burnish
from burnish.runtimes.generate import open_generator

SENTENCE = "the text goes on and the model reads the text"
WAYS: dict[str, dict[str, Any]] = {
    "float32": {},
    "int8, ranges of each run": {"int8": True},
    "int8, fixed ranges": {"int8": True, "static": True},
}


def main() -> None:
    """Compile, generate, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=10)
    parser.add_argument("--new", type=int, default=80)
    arguments = parser.parse_args()
    print("| model | the same with guesses | in a batch of two |")
    print("|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built("llama").save_pretrained(folder / "llama")
        tokenizer().save(str(folder / "llama" / "tokenizer.json"))
        (folder / "data.txt").write_text("\n".join([SENTENCE] * 6))
        for place, (way, options) in enumerate(WAYS.items()):
            made = folder / f"made{place}"
            given = (
                {**options, "data": str(folder / "data.txt")} if "static" in options else options
            )
            burnish.optimize(
                folder / "llama", output=str(made), measure=False, force=True, max_drop=0.9, **given
            )
            generator = open_generator(made, threads=1)
            guessed = together = 0
            for seed in range(arguments.texts):
                ids = [row * 3 for row in prompts((9,), seed)]
                asked: dict[str, Any] = {"max_new_tokens": arguments.new}
                alone = generator.generate(ids=ids, **asked).ids[0]
                guessed += generator.generate(ids=ids, speculate=6, **asked).ids[0] == alone
                both = [*ids, *prompts((7,), 50 + seed)]
                together += generator.generate(ids=both, **asked).ids[0] == alone
            print(f"| {way} | {guessed} of {arguments.texts} | {together} of {arguments.texts} |")
            generator.close()


if __name__ == "__main__":
    main()
