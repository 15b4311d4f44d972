"""`--languages` and `--keep-tokens`: tokens are chosen first, models are then cut to them."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from burnish.driver.request import Request, request_from
from burnish.optimizer.artifact import companion, own_name
from burnish.optimizer.errors import StorageError, UsageError, reason_of
from burnish.optimizer.roles import Role, Slot
from burnish.optimizer.user_data import TOKENIZER
from burnish.optimizer.vocabulary import choice, corpus, rewriting, settings
from burnish.optimizer.vocabulary.coverage import Coverage, coverage
from burnish.optimizer.vocabulary.numbers import Numbers
from burnish.passes.compress.vocabulary.vocabulary import NOT_HERE, Vocabulary

Emit = Callable[[dict[str, Any]], None]
Choose = Callable[[dict[str, Any]], dict[str, Any]]

CONFIG = "config.json"

CHOSEN = "vocabulary.json"
"""What is handed from the choice to compilations."""


@dataclass(frozen=True)
class Chosen:
    """The tokens to keep.

    Attributes:
        kept: their ids, ascending.
        unknown: the id of what has no token; -1 where there is none.
        pieces: how many tokens the tokenizer has, without added ones.
    """

    kept: tuple[int, ...]
    unknown: int
    pieces: int


@functools.cache
def chosen(path: str) -> Chosen:
    """What `choose` has written."""
    content = json.loads(Path(path).read_text())
    return Chosen(tuple(content["kept"]), content["unknown"], content["pieces"])


def digest(request: Request) -> str:
    """A fingerprint of the kept tokens; empty where all are."""
    return Numbers(chosen(request.vocabulary).kept).digest if request.vocabulary else ""


def narrowed(slots: Sequence[Slot], wanted: Chosen) -> list[Slot]:
    """Inputs of which those that take tokens take only the kept ones."""
    rows = max((slot.bound for slot in slots if slot.role is Role.IDS), default=0)
    kept = tuple(old for old in wanted.kept if old < rows)
    return [
        replace(slot, allowed=kept, unknown=wanted.unknown)
        if slot.role is Role.IDS and slot.bound == rows
        else slot
        for slot in slots
    ]


def is_asked(request: Request) -> bool:
    """Whether tokens are to be chosen; raises where options contradict each other."""
    if bool(request.languages) != bool(request.corpus):
        raise UsageError("--languages and --corpus need each other")
    asked = bool(request.languages or request.keep_tokens)
    if request.keep_ids and not (asked or request.vocabulary):
        raise UsageError("--keep-ids is for --languages or --keep-tokens")
    return asked


def prepared(request: Request, beside: Path, folder: Path, run: Choose) -> tuple[Request, Any]:
    """The request with the chosen tokens, and what the report says of them.

    Args:
        request: asks for a choice.
        beside: folder of the tokenizer and of configurations.
        folder: for what is made.
        run: does `choose`.
    """
    file = Path(request.tokenizer or companion(beside / Path(request.model).name, TOKENIZER))
    if not file.exists():
        raise UsageError(
            f"tokens are chosen from a {TOKENIZER}, and there is no {file}",
            hint="--tokenizer FILE",
        )
    facts = run(asdict(request) | {"file": str(file), "beside": str(beside), "folder": str(folder)})
    whole = without(request)
    if facts["refused"]:
        return whole, facts
    tokens, tokenizer = str(folder / CHOSEN), str(folder / TOKENIZER)
    keep = request.keep_ids
    return replace(whole, vocabulary=tokens, tokenizer=tokenizer, keep_ids=keep), facts


def without(request: Request) -> Request:
    """The request with all tokens."""
    return replace(request, languages=(), corpus=None, keep_tokens=None, keep_ids=False)


def choose(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Choose tokens and write them with their tokenizer; the facts.

    Args:
        argument: the request, `file` of the tokenizer, `beside` and `folder` as in `prepared`.
        emit: told of each step.
    """
    request, folder = request_from(argument), Path(argument["folder"])
    tokenizer = rewriting.read(Path(argument["file"]))
    emit({"stage": "reading the corpus"})
    texts = corpus.read(Path(request.corpus), request.languages) if request.corpus else {}
    emit({"stage": "choosing tokens"})
    wanted = settings.ids_in(Path(argument["beside"])) & {*tokenizer.pieces.values()}
    if request.keep_tokens:
        wanted |= choice.listed_in(Path(request.keep_tokens), tokenizer)
    numbers = Numbers(choice.chosen(tokenizer, texts, wanted))
    found = coverage(tokenizer, numbers, texts)
    unknown = tokenizer.kind.unknown
    content = {"kept": numbers.kept, "unknown": -1 if unknown is None else unknown,
               "pieces": len(tokenizer.kind.pieces)}  # fmt: skip
    (folder / CHOSEN).write_text(json.dumps(content))
    cut = json.dumps(tokenizer.cut(numbers), ensure_ascii=False)
    (folder / TOKENIZER).write_text(cut, "utf-8")
    return {
        "before": len(tokenizer.pieces),
        "after": len(numbers.kept),
        "languages": {language: item.as_json() for language, item in found.items()},
        "keep_ids": request.keep_ids,
        "refused": _too_little(found, request.min_coverage),
    }


def _too_little(found: Mapping[str, Coverage], least: float) -> str:
    """Why tokens are not cut; empty where they may be."""
    for language, item in found.items():
        if item.changed:
            return f"{item.changed} held-out sentences of {language} would be split otherwise"
    language = min(found, key=lambda name: found[name].kept, default="")
    if language and found[language].kept < least:
        return (
            f"{found[language].kept:.4f} of the tokens of {language} are kept on held-out text, "
            f"less than --min-coverage {least:g}: the corpus is too small or of another kind"
        )
    return ""


def told(facts: dict[str, Any], reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The facts with what became of the cut: `cut`, else why not.

    Args:
        facts: of `choose`.
        reports: of the compilations of all graphs.
    """
    facts = {key: facts[key] for key in ("before", "after", "languages", "keep_ids", "refused")}
    refused = facts.pop("refused")
    steps = [step for item in reports for step in item["passes"] if step["name"] == Vocabulary.name]
    cut = any(step["status"] == "kept" for step in steps)
    others = (step for step in steps if step["status"] != "kept" and step["detail"] != NOT_HERE)
    refused = refused or next((_why(step) for step in others), "" if cut else NOT_HERE)
    return facts | {"cut": cut and not refused, "reason": refused, "tokenizer": None}


def _why(step: dict[str, Any]) -> str:
    first = step["refusals"][0] if step["refusals"] else None
    return f"{first['node']}: {first['reason']}" if first else step["reason"] or step["detail"]


def publish(request: Request, wanted: Request, written: Sequence[Path]) -> str:
    """Put the new tokenizer, and the configuration, beside each model that was written.

    Args:
        request: as it came.
        wanted: with the chosen tokens.
        written: the models; the first is the one that was asked for.

    Returns:
        The tokenizer of the first; empty where ids are the old ones.
    """
    if request.keep_ids or request.dry_run or not (wanted.vocabulary and wanted.tokenizer):
        return ""
    tokens, home = chosen(wanted.vocabulary), Path(request.model).parent
    config = settings.renumbered(home / CONFIG, Numbers(tokens.kept), tokens.pieces)
    try:
        for model in written:
            if config:
                _write(own_name(model, CONFIG), config)
            _write(own_name(model, TOKENIZER), Path(wanted.tokenizer).read_text("utf-8"))
    except OSError as error:
        raise StorageError(f"the tokenizer cannot be written: {reason_of(error)}") from None
    return str(own_name(written[0], TOKENIZER))


def _write(path: Path, text: str) -> None:
    """Write a file, or leave what was there."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, "utf-8")
    os.replace(fresh, path)


def put_into(request: Request, folder: Path) -> str:
    """Put the new tokenizer and the new ids into an artifact folder; the tokenizer's name."""
    if request.keep_ids or request.vocabulary is None or request.tokenizer is None:
        return ""
    wanted = chosen(request.vocabulary)
    (folder / TOKENIZER).write_bytes(Path(request.tokenizer).read_bytes())
    settings.rewrite(folder, Numbers(wanted.kept), wanted.pieces)
    return TOKENIZER
