"""Tag plain text with the example tagger.

Usage: python tag.py MODEL [--text "..." | --file FILE]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort
from rich.console import Console
from rich.text import Text
from tokenizers import Encoding, Tokenizer

from tagger_runtime import open_model, tag_encodings
from tagger_scores import entity_spans

STYLES = {"PER": "bold green", "LOC": "bold cyan", "ORG": "bold magenta"}


def word_ranges(encoding: Encoding) -> list[tuple[int, int]]:
    """Return start and end (exclusive) of each word in characters of the text."""
    ranges: dict[int, tuple[int, int]] = {}
    for word, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
        if word is not None:
            ranges[word] = (ranges.get(word, (start, end))[0], end)
    return [ranges[word] for word in sorted(ranges)]


def tag_texts(
    session: ort.InferenceSession, tokenizer: Tokenizer, texts: Sequence[str]
) -> list[list[tuple[str, int, int]]]:
    """Find the entities of plain texts.

    Returns:
        For each text its entities as type, start and end (exclusive) in characters.
    """
    encodings = tokenizer.encode_batch(list(texts))
    ranges = [word_ranges(encoding) for encoding in encodings]
    labels = tag_encodings(session, encodings, [len(words) for words in ranges])
    return [
        [(kind, words[start][0], words[end - 1][1]) for kind, start, end in entity_spans(tags)]
        for words, tags in zip(ranges, labels, strict=True)
    ]


def render(text: str, entities: Sequence[tuple[str, int, int]]) -> Text:
    """Return the text with every entity in brackets and coloured, its type behind it."""
    rendered = Text()
    position = 0
    for kind, start, end in entities:
        rendered.append(text[position:start])
        rendered.append(f"[{text[start:end]} {kind}]", style=STYLES[kind])
        position = end
    rendered.append(text[position:])
    return rendered


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description="Find names of persons, places, organizations.")
    parser.add_argument("model", type=Path, help="ONNX file of the tagger")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--text", help="one text to tag")
    source.add_argument("--file", type=Path, default=here / "sentences.txt", help="a text a line")
    parser.add_argument("--tokenizer", type=Path, help="default: tokenizer.json beside the model")
    return parser.parse_args(arguments)


def main() -> int:
    """Tag the text or the file's lines and print them."""
    arguments = parse_arguments()
    beside = arguments.model.parent / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer or beside))
    if arguments.text is not None:
        texts = [arguments.text]
    else:
        lines = arguments.file.read_text(encoding="utf-8").splitlines()
        texts = [line for line in lines if line.strip()]
    console = Console(highlight=False, soft_wrap=True)
    found = tag_texts(open_model(arguments.model), tokenizer, texts)
    for text, entities in zip(texts, found, strict=True):
        console.print(render(text, entities))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
