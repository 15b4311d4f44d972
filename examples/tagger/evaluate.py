"""Compare taggers by span-level precision, recall and F1 on annotated sentences.

Usage: python evaluate.py MODEL [MODEL ...] --data DIR [--limit N] [--threads T] [--all]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from tagger_data import LANGUAGES, Sentence, load_folder, split_sentences
from tagger_runtime import open_model, tag_words
from tagger_scores import ENTITY_TYPES, Score, entity_spans, span_scores

__all__ = ["Score", "entity_spans", "evaluate_model", "largest_drop", "span_scores"]

Scores = dict[str, dict[str, Score]]


def choose_sentences(data: Path, everything: bool, limit: int | None) -> list[Sentence]:
    """Read the sentences to evaluate on.

    Args:
        data: folder of `<language>.*` files, or one file.
        everything: take all sentences instead of the held-out part.
        limit: at most this many sentences a language, the first ones.
    """
    sentences = load_folder(data)
    chosen = sentences if everything else split_sentences(sentences).held_out
    by_language = [
        [sentence for sentence in chosen if sentence.language == language][:limit]
        for language in LANGUAGES
    ]
    return [sentence for group in by_language for sentence in group]


def evaluate_model(
    path: Path, tokenizer: Tokenizer, sentences: Sequence[Sentence], threads: int = 0
) -> Scores:
    """Score one model.

    Returns:
        For each language and for "all", the scores of each class and of "micro".
    """
    session = open_model(path, threads)
    predicted = tag_words(session, tokenizer, [sentence.words for sentence in sentences])
    scores: Scores = {}
    for language in (*LANGUAGES, "all"):
        chosen = [
            index
            for index, sentence in enumerate(sentences)
            if language in (sentence.language, "all")
        ]
        if chosen:
            gold = [sentences[index].labels for index in chosen]
            scores[language] = span_scores(gold, [predicted[index] for index in chosen])
    return scores


def largest_drop(models: Sequence[Scores]) -> tuple[float, str]:
    """Return the largest fall of a language's F1 from the first model, in points, and where.

    Negative where every later model is better in every language; 0 with one model alone.
    """
    falls = [
        (100.0 * (scores["micro"].f1 - later[language]["micro"].f1), language)
        for later in models[1:]
        for language, scores in models[0].items()
        if language != "all"
    ]
    return max(falls, default=(0.0, ""))


def titles(count: int) -> list[str]:
    """Name the models by their order: before, after (numbered if there are several)."""
    later = ["after"] if count == 2 else [f"after {index}" for index in range(1, count)]
    return ["before", *later] if count > 1 else ["model"]


def comparison(title: str, rows: Sequence[tuple[str, Sequence[Score]]]) -> Table:
    """Build one table: a row for each name, with the scores of every model side by side."""
    names = titles(len(rows[0][1]))
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("support", justify="right", no_wrap=True)
    for name in names:
        for measure in ("P", "R", "F1"):
            table.add_column(f"{name}\n{measure}", justify="right", no_wrap=True)
    for name in names[1:]:
        label = "difference" if len(names) == 2 else f"diff. {name.split()[-1]}"
        table.add_column(f"{label}\nF1", justify="right", no_wrap=True)
    for name, scores in rows:
        cells = [name, str(scores[0].support)]
        for score in scores:
            values = (score.precision, score.recall, score.f1)
            cells.extend(f"{100.0 * value:.2f}" for value in values)
        cells.extend(f"{100.0 * (score.f1 - scores[0].f1):+.2f}" for score in scores[1:])
        table.add_row(*cells)
    return table


def print_tables(console: Console, models: Sequence[Scores], details: bool) -> None:
    """Print the scores by class and by language, and with `details` by both."""
    classes = (*ENTITY_TYPES, "micro")
    rows = [(kind, [scores["all"][kind] for scores in models]) for kind in classes]
    console.print(comparison("By class, all languages (percent)", rows))
    rows = [(language, [scores[language]["micro"] for scores in models]) for language in models[0]]
    console.print(comparison("By language, all classes (percent)", rows))
    if details:
        rows = [
            (f"{language} {kind}", [scores[language][kind] for scores in models])
            for language in models[0]
            if language != "all"
            for kind in ENTITY_TYPES
        ]
        console.print(comparison("By language and class (percent)", rows))


def figures(paths: Sequence[Path], models: Sequence[Scores], sentences: int) -> dict[str, object]:
    """Return the scores as plain values for JSON, shares in 0 to 1."""

    def plain(score: Score) -> dict[str, float | int]:
        return {
            "precision": score.precision,
            "recall": score.recall,
            "f1": score.f1,
            "support": score.support,
        }

    entries = [
        {
            "model": str(path),
            "scores": {
                language: {kind: plain(score) for kind, score in by_class.items()}
                for language, by_class in scores.items()
            },
        }
        for path, scores in zip(paths, models, strict=True)
    ]
    return {"sentences": sentences, "models": entries}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Compare taggers by span-level F1.")
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="ONNX files")
    parser.add_argument("--data", type=Path, required=True, help="folder of <language>.* files")
    parser.add_argument("--limit", type=int, help="at most this many sentences a language")
    parser.add_argument("--threads", type=int, default=0, help="0: ONNX Runtime's own choice")
    parser.add_argument("--all", action="store_true", help="all sentences, not the held-out part")
    parser.add_argument("--tokenizer", type=Path, help="default: beside the first model")
    parser.add_argument("--details", action="store_true", help="also by language and class")
    parser.add_argument("--max-drop", type=float, metavar="POINTS", help="fail beyond this fall")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    return parser.parse_args(arguments)


def main() -> int:
    """Evaluate the models; returns 1 if F1 falls by more than `--max-drop`, else 0."""
    arguments = parse_arguments()
    beside = arguments.models[0].parent / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(arguments.tokenizer or beside))
    sentences = choose_sentences(arguments.data, arguments.all, arguments.limit)
    models = [
        evaluate_model(path, tokenizer, sentences, arguments.threads) for path in arguments.models
    ]
    # Output that goes to a file or a pipe has no width of its own: leave room for all columns.
    console = Console() if sys.stdout.isatty() else Console(width=140)
    part = "all" if arguments.all else "held-out"
    console.print(f"{len(sentences)} {part} sentences")
    for name, path in zip(titles(len(models)), arguments.models, strict=True):
        console.print(f"{name}: {path}", highlight=False, soft_wrap=True)
    print_tables(console, models, arguments.details)
    if arguments.json:
        text = json.dumps(figures(arguments.models, models, len(sentences)), indent=2)
        arguments.json.write_text(text + "\n", encoding="utf-8")
    drop, language = largest_drop(models)
    if arguments.max_drop is not None and drop > arguments.max_drop:
        console.print(f"F1 of {language} falls by {drop:.2f} points, allowed {arguments.max_drop}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
