"""Translations per second: an artifact beside PyTorch's eager `generate`, with the same weights.

    python benchmarks/generation/translation.py CHECKPOINT ARTIFACT [ARTIFACT ...] --data FILE
        [--texts 96] [--rounds 7] [--batches 1,8] [--threads N]

`CHECKPOINT` is what `examples/translation/train.py` writes, each `ARTIFACT` what `optimize` makes
of it, and `FILE` what `examples/translation/translation_data.py` writes. Each round opens each of
them once, in a process of its own and one after the other, in an order that turns; it warms up on
the first batch, then translates the same texts greedily, sorted by length. A rate is new tokens
over the seconds of all of that but opening and warming up, so reading the text and writing it are
in it. Ratios are of the rounds, with a 95 % bootstrap interval. *The same* counts texts whose
tokens are all PyTorch's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Rows = list[list[int]]
Translate = Callable[[list[str], str], Rows]
"""Texts and the tag of a language; new tokens of each, up to the one that ends it."""


def ours(folder: Path, threads: int) -> Translate:
    """By the runtime of artifacts."""
    from burnish.runtimes.generate import open_generator

    generator = open_generator(folder, threads=threads)
    return lambda texts, language: generator.generate(texts, language=language).ids


def pytorch(folder: Path, threads: int) -> Translate:
    """By PyTorch's `generate`, eager."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForSeq2SeqLM

    if threads:
        torch.set_num_threads(threads)
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = model.generation_config
    tokenizer.enable_padding(pad_id=config.pad_token_id)

    def translate(texts: list[str], language: str) -> Rows:
        encoded = tokenizer.encode_batch(texts)
        with torch.inference_mode():
            made = model.generate(
                torch.tensor([row.ids for row in encoded]),
                attention_mask=torch.tensor([row.attention_mask for row in encoded]),
                forced_bos_token_id=tokenizer.token_to_id(f"__{language}__"),
                do_sample=False,
                num_beams=1,
            )
        rows = [row[1:] for row in made.tolist()]  # without what the decoder begins with
        tokenizer.decode_batch(rows)
        return [ended(row, config.eos_token_id) for row in rows]

    return translate


def ended(row: list[int], end: int) -> list[int]:
    """A row up to the token that ends it."""
    return row[: row.index(end) + 1] if end in row else row


def texts_of(path: Path, count: int) -> dict[str, list[str]]:
    """So many texts in all, of each language as many, sorted by length."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["language"], []).append(row["text"])
    each = count // len(found)
    step = max(1, min(map(len, found.values())) // each)
    return {tag: sorted(texts[::step][:each], key=len) for tag, texts in found.items()}


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds, and the tokens of each text, of one way to translate."""
    open_one = ours if (arguments.checkpoint / "manifest.json").exists() else pytorch
    translate = open_one(arguments.checkpoint, arguments.threads)
    size = int(arguments.batches)
    work = [
        (texts[start : start + size], language)
        for language, texts in texts_of(arguments.data, arguments.texts).items()
        for start in range(0, len(texts), size)
    ]
    translate(*work[0])
    start = time.perf_counter()
    made = [row for batch in work for row in translate(*batch)]
    return {"seconds": time.perf_counter() - start, "tokens": made}


def in_a_process(folder: Path, size: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The same, in a process of its own."""
    command = [
        sys.executable, __file__, str(folder), "--data", str(arguments.data), "--alone",
        "--texts", str(arguments.texts), "--batches", str(size),
        "--threads", str(arguments.threads),
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def raced(size: int, arguments: argparse.Namespace) -> None:
    """Print the rates at one size of batches."""
    from burnish.optimizer.measure import timing

    folders = [arguments.checkpoint, *arguments.artifacts]
    found: dict[Path, list[dict[str, Any]]] = {folder: [] for folder in folders}
    for turn in range(arguments.rounds):
        for place in range(len(folders)):
            folder = folders[(place + turn) % len(folders)]
            found[folder].append(in_a_process(folder, size, arguments))
    first = found[arguments.checkpoint]
    for folder, rounds in found.items():
        seconds = [item["seconds"] for item in rounds]
        ratio = timing([item["seconds"] for item in first], seconds)
        tokens = rounds[0]["tokens"]
        new = sum(map(len, tokens))
        same = sum(a == b for a, b in zip(tokens, first[0]["tokens"], strict=True))
        name = "PyTorch, eager" if folder == arguments.checkpoint else folder.name
        times = f"{ratio.speedup:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
        rate = new / statistics.median(seconds)
        print(f"| {size} | {name} | {rate:.0f} | {times} | {same} of {len(tokens)} |", flush=True)


def main() -> None:
    """Race, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("artifacts", type=Path, nargs="*")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--alone", action="store_true", help="time one, and print JSON")
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(measured(arguments)))
        return
    print("| batch | | tokens per second | times PyTorch's | the same |")
    print("|---|---|---|---|---|")
    for size in arguments.batches.split(","):
        raced(int(size), arguments)


if __name__ == "__main__":
    main()
