"""Three languages of a multilingual vocabulary: what is kept, how large it is, that it is equal.

    python benchmarks/vocabulary/languages.py FOLDER --data DATA [--only xlmr] [--small]
        [--no-check]

exports models of the shapes of XLM-R base, multilingual BERT and Llama 2 (random weights, real
tokenizers) where FOLDER lacks them, runs `optimize --languages de,fr,zh -O0`, which does nothing
else, and `--int8` with all that belongs to it. Then 1,000 held-out sentences whose tokens are all
kept go through both pairs of tokenizer and model. With `--no-check` the passes of the second run
are not verified one by one, which takes long where weights are many.

DATA has `ud_pud`, `mt_multi30k` and `tokenizers`. What comes of each is a line of
FOLDER/languages.jsonl; the tables are printed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnxruntime
import sentencepiece

from burnish.optimizer.model import load
from burnish.optimizer.vocabulary import choice, corpus

OPTIMIZE = str(Path(sys.executable).with_name("optimize"))
LANGUAGES = ("de", "fr", "zh")
SENTENCES, BATCH = 1000, 8
EXPORTER = ("dynamo", 20)


def tokenizer_of(name: str, data: Path, path: Path) -> None:
    """Write the tokenizer.json of a model."""
    source = data / "tokenizers"
    if name == "xlmr":
        packed = source / "paraphrase-multilingual-mpnet-base-v2.json.gz"
        path.write_bytes(gzip.decompress(packed.read_bytes()))
    elif name == "mbert":
        with zipfile.ZipFile(source / "mbert-uncased.zip") as archive:
            path.write_bytes(archive.read("tokenizer.json"))
    else:
        content = sentencepiece.tokenizer(source / "tokenizer.model")
        path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def optimize(path: Path, output: Path, tokenizer: Path, data: Path, *more: str) -> dict[str, Any]:
    """The report of the command."""
    told = output.with_suffix(".json")
    command = [
        OPTIMIZE, str(path), "-o", str(output), "--tokenizer", str(tokenizer), "--no-measure",
        "--languages", ",".join(LANGUAGES), "--corpus", str(data), "--json", str(told), "-q", *more,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    report: dict[str, Any] = json.loads(told.read_text())
    return report


def weights(path: Path, rows: int) -> tuple[int, int]:
    """Bytes of constants with an axis of so many tokens, and of all others."""
    tensors = [value.const_value for value in load(path).model.graph.initializers.values()]
    wide = sum(item.nbytes for item in tensors if item is not None and rows in tuple(item.shape))
    return wide, sum(item.nbytes for item in tensors if item is not None) - wide


def held_out(data: Path, before: Any, kept: list[int]) -> list[str]:
    """Sentences whose tokens are all kept, of the languages in turn."""
    known, texts = {*kept}, corpus.read(data, LANGUAGES)
    found = []
    for item in texts.values():
        pairs = zip(item.held, choice.split(before, item.held), strict=True)
        found.append([text for text, ids in pairs if known.issuperset(ids)])
    mixed = [text for row in _in_turn(found) for text in row]
    return mixed[:SENTENCES]


def _in_turn(groups: list[list[str]]) -> Iterator[list[str]]:
    for index in range(max(map(len, groups))):
        yield [group[index] for group in groups if index < len(group)]


def session(path: Path) -> onnxruntime.InferenceSession:
    """ONNX Runtime as it comes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def compared(
    paths: tuple[Path, Path], contents: tuple[dict[str, Any], dict[str, Any]], texts: list[str],
    kept: list[int],
) -> dict[str, float]:  # fmt: skip
    """How far the answers are apart, by their largest, and how many sentences are split alike."""
    old, new = (choice.splitter(content) for content in contents)
    runs, columns = [session(path) for path in paths], np.array(kept)
    found = {"same pieces": 0, "hidden": 0.0, "logits": 0.0}
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        rows = [(old.encode(text), new.encode(text)) for text in batch]
        found["same pieces"] += sum(first.tokens == second.tokens for first, second in rows)
        answers = []
        for side, run in enumerate(runs):
            pieces = [pair[side].ids for pair in rows]
            ids = np.zeros((len(rows), max(map(len, pieces))), np.int64)
            mask = np.zeros_like(ids)
            for row, item in enumerate(pieces):
                ids[row, : len(item)], mask[row, : len(item)] = item, 1
            # Padding is the first token that is kept, which is the same one for both.
            ids[mask == 0] = kept[0] if side == 0 else 0
            answers.append(
                run.run(["logits", "hidden"], {"input_ids": ids, "attention_mask": mask})
            )
        real = mask.astype(bool)
        (logits, hidden), (fewer, states) = answers
        for name, first, second in (
            ("hidden", hidden[real], states[real]),
            ("logits", logits[real][:, columns], fewer[real]),
        ):  # fmt: skip
            found[name] = max(
                found[name], float(np.abs(first - second).max() / np.abs(first).max())
            )
    return found


def measured(name: str, folder: Path, data: Path, *more: str, small: bool) -> dict[str, Any]:
    """All that is told of one model."""
    stem = f"{name}-small" if small else name
    path, tokenizer = folder / f"{stem}.onnx", folder / f"{name}.tokenizer.json"
    if not tokenizer.exists():
        tokenizer_of(name, data, tokenizer)
    if not path.exists():
        models.export(name, path, *EXPORTER, small=small)
    cut, int8 = folder / f"{stem}.cut.onnx", folder / f"{stem}.cut.int8.onnx"
    report = optimize(path, cut, tokenizer, data, "-O0")
    few = optimize(path, int8, tokenizer, data, "--int8", *more)
    told = report["vocabulary"]
    contents = (
        json.loads(tokenizer.read_text("utf-8")),
        json.loads(cut.with_suffix(".tokenizer.json").read_text("utf-8")),
    )
    before = choice.splitter(contents[0])
    pieces = choice.splitter(contents[1])
    kept = [before.token_to_id(pieces.id_to_token(index)) for index in range(told["after"])]
    texts = held_out(data, before, kept)
    rows = models.SHAPES[name][2]["vocab_size"]
    wide, rest = weights(path, rows)
    narrow, left = weights(cut, told["after"])
    return {
        "model": stem, "tokens": rows, "kept": told["after"], "languages": told["languages"],
        "wide": wide, "narrow": narrow, "rest": rest, "left": left,
        "bytes": report["input"]["bytes"], "cut": report["output"]["bytes"],
        "int8": few["output"]["bytes"], "int8 loss": few["fidelity"],
        "sentences": len(texts), **compared((path, cut), contents, texts, kept),
    }  # fmt: skip


def tables(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The results as Markdown."""
    yield (
        "| model | tokens | kept | embedding and head | by kept/original | all else | file "
        "| int8 on top |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        share = row["kept"] / row["tokens"]
        yield (
            f"| {row['model']} | {row['tokens']:,} | {row['kept']:,} ({share:.3f}) "
            f"| {row['wide'] / 1e6:.1f} to {row['narrow'] / 1e6:.1f} MB "
            f"| {row['narrow'] / row['wide'] / share:.4f} | {row['left'] / row['rest']:.4f} "
            f"| {row['cut'] / row['bytes']:.3f} | {row['int8'] / row['bytes']:.3f} |"
        )
    yield ""
    yield "| model | held-out sentences | split alike | hidden states | logits of kept tokens |"
    yield "|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| {row['model']} | {row['sentences']} | {row['same pieces']} | {row['hidden']:.1e} "
            f"| {row['logits']:.1e} |"
        )
    yield ""
    yield "| model | language | held-out sentences | tokens kept | all kept | apart | unknown |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        for language, item in row["languages"].items():
            yield (
                f"| {row['model']} | {language} | {item['sentences']:,} | {item['kept']:.4f} "
                f"| {item['whole']:.3f} | {item['apart']:.4f} | {item['unknown']:.4f} |"
            )


def main() -> None:
    """Measure, and print the tables of all that was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default=",".join(models.SHAPES))
    parser.add_argument("--small", action="store_true", help="Few narrow layers.")
    parser.add_argument("--no-check", action="store_true", help="As of `optimize`.")
    asked = parser.parse_args()
    more = ["--no-check"] if asked.no_check else []
    asked.folder.mkdir(exist_ok=True)
    record = asked.folder / "languages.jsonl"
    lines = record.read_text().splitlines() if record.exists() else []
    rows = {row["model"]: row for row in map(json.loads, lines)}
    for name in asked.only.split(","):
        row = measured(name, asked.folder, asked.data, *more, small=asked.small)
        rows[row["model"]] = row
        record.write_text("".join(json.dumps(item) + "\n" for item in rows.values()))
    print("\n".join(tables(list(rows.values()))))


if __name__ == "__main__":
    main()
