"""What a recipe may say: the options of the main job, by the names they have at the prompt.

One table (`OPTIONS`) holds their kinds and bounds; the schema is made from it, and so is what a
request is told as. What is about one run alone (where files go, what is printed) is no part of a
recipe, and neither is leave to run somebody's code, which has to be given at the prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from burnish.driver.prunable import IMPORTANCES
from burnish.driver.recipe_kinds import (
    BYTES,
    FLAG,
    INTEGER,
    NAMES,
    NUMBER,
    NUMBERS,
    PATH,
    RELEASE,
    SHARE,
    SIZES,
    TEXT,
    Kind,
    Schema,
)
from burnish.driver.request import INT8, PRECISIONS, STATIC, Request
from burnish.driver.values import precision_of
from burnish.optimizer.errors import UsageError
from burnish.passes.compress.masks.methods import METHODS
from burnish.runtimes.providers import AUTO, PROVIDERS
from burnish.runtimes.targets import NATIVE, TARGETS

DESCRIPTION = "description"
"""The key of a recipe that is for its readers."""

AT_THE_PROMPT = {
    "model", "output", "json", "html", "junit", "recipe", "print-recipe", "dry-run", "quiet",
    "verbose", "debug", "allow-pickle", "trust-remote-code",
}  # fmt: skip
"""Options that are no part of a recipe."""

BY_PRECISION = ("int8", "int4", "fp16", "precision", "static", "points")
"""Options that a precision at the prompt takes the place of."""


@dataclass(frozen=True)
class Option:
    """One key.

    Attributes:
        kind: of its value.
        about: what it does, in a line.
        low, high: bounds of a number, both allowed.
        choices: the values there are; empty for any.
        field: of the request, where that has another name.
    """

    kind: Kind
    about: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    field: str = ""


OPTIONS: dict[str, Option] = {
    "level": Option(INTEGER, "-O: 0 copy, 1 exact, 2 exact and rounding, 3 likewise.", 0, 3),
    "int8": Option(FLAG, "8-bit products and embeddings."),
    "int4": Option(FLAG, "Weights and embeddings in 4 bits, in blocks."),
    "fp16": Option(FLAG, "float16 where it holds the values; on processors for storage."),
    "precision": Option(
        TEXT,
        "One of them by name; auto measures.",
        choices=(*(name.replace("_", "-") for name in PRECISIONS), AUTO),
    ),
    "points": Option(FLAG, "Of a search or precision auto: write the whole Pareto list."),
    "static": Option(FLAG, "int8 with ranges of activations fixed from data."),
    "keep-embeddings": Option(FLAG, "Leave lookup tables in float32."),
    "force": Option(FLAG, "Few bits also where they are slower, for their size."),
    "provider": Option(TEXT, "Where it will run.", choices=(*PROVIDERS, AUTO)),
    "target": Option(
        TEXT, "Processor to compile for.", choices=(NATIVE, *TARGETS), field="target_cpu"
    ),
    "data": Option(PATH, ".npz, a folder of .npz, .jsonl or .txt."),
    "tokenizer": Option(PATH, "tokenizer.json for texts."),
    "max-drop": Option(NUMBER, "Loss the answer may have.", 0, 1),
    "speedup": Option(NUMBER, "Searched for with data; exit with 1 where not reached.", 0),
    "shape": Option(SIZES, "Sizes to tune and time at."),
    "threads": Option(INTEGER, "0: as many as the runtime takes.", 0),
    "opset": Option(INTEGER, "Raise the operator set to this.", 1),
    "min-ort": Option(RELEASE, "Exit with 1 where it needs a later ONNX Runtime."),
    "pack": Option(FLAG, "Leave padding out; its rows of outputs become zero."),
    "kv-cache": Option(TEXT, "How caches are handed on; ports change.", choices=(INT8, STATIC)),
    "fast-gelu": Option(FLAG, "GELU by the tanh formula: another function."),
    "window": Option(INTEGER, "Queries see so many keys around them: lossy.", 0),
    "global-tokens": Option(INTEGER, "First tokens that see all, and all see.", 0, 256),
    "layers": Option(NUMBERS, "Attentions that get the window."),
    "prune": Option(SHARE, "Heads, channels, layers that go: a share, or auto."),
    "importance": Option(TEXT, "What those go by; activations: quicker.", choices=IMPORTANCES),
    "low-rank": Option(FLAG, "Weights as products of two of low rank, if faster."),
    "sparsity": Option(TEXT, "Weights that become zero: a share, or 2:4."),
    "mask": Option(TEXT, "How those are chosen.", choices=METHODS),
    "sparse-storage": Option(FLAG, "Store weights with many zeros without those."),
    "languages": Option(NAMES, "Keep their tokens only, as the corpus shows them."),
    "corpus": Option(PATH, "Folder of texts by language."),
    "keep-tokens": Option(PATH, "Keep these tokens: an id or a piece a line."),
    "keep-ids": Option(FLAG, "Ids and logits stay numbered as they were."),
    "min-coverage": Option(NUMBER, "Share of a language's tokens that must be kept.", 0, 1),
    "seed": Option(INTEGER, "Of made-up inputs."),
    "memory-limit": Option(BYTES, "For all processes together."),
    "time-limit": Option(NUMBER, "Wall-clock limit in seconds.", 0.1, 1e8),
    "tuning": Option(PATH, "Record of measured choices to replay."),
    "task": Option(TEXT, "What a checkpoint's model is for."),
    "no-check": Option(FLAG, "Skip the numerical verification.", field="check"),
    "no-measure": Option(FLAG, "Skip timing; choose by rules.", field="measure"),
}
"""Every key, in the order of `optimize model --help`."""


def checked(values: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Options by their names at the prompt, as the user gave them.

    Args:
        values: plain values by key; `max_drop` is read as `max-drop`.
        folder: that of the file they come from, which their relative paths start at.

    Raises:
        UsageError: a key that there is not, or a value that is not of its kind.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("_", "-")
        if name not in OPTIONS:
            raise _unknown(str(key), name)
        if name in found:
            raise UsageError(f"{name} is there twice")
        option = OPTIONS[name]
        _check(name, option, value)
        relative = folder is not None and option.kind is PATH
        found[name] = str(folder / value) if folder is not None and relative else value
    fields_of(found)  # texts that stand for something must do so
    return found


def fields_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a request for what `checked` gave.

    Raises:
        UsageError: a text that does not stand for what it should.
    """
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name == "precision":
            found |= {key: True for key, asked in precision_of(value).items() if asked}
            continue
        option = OPTIONS[name]
        made = option.kind.made(value)
        found[field_of(name)] = not made if name.startswith("no-") else made
    return found


def options_of(request: Request) -> dict[str, Any]:
    """The options that a request differs from the usual one by, as plain values."""
    usual = Request(request.model)
    found: dict[str, Any] = {}
    for name in OPTIONS:
        if name == "precision":
            other = [kind for kind in PRECISIONS if kind not in OPTIONS and getattr(request, kind)]
            if other or request.auto_precision:
                found[name] = other[0].replace("_", "-") if other else AUTO
            continue
        value = getattr(request, field_of(name))
        if value != getattr(usual, field_of(name)):
            found[name] = not value if name.startswith("no-") else _plain(value)
    return found


def field_of(name: str) -> str:
    """The request's field for an option that has one."""
    return OPTIONS[name].field or name.replace("-", "_")


def options_for(names: Iterable[str]) -> set[str]:
    """The options that fields of a request stand for."""
    by_field = {field_of(name): name for name in OPTIONS}
    by_field |= {
        name: "precision" for name in (*PRECISIONS, "auto_precision") if name not in OPTIONS
    }
    return {by_field[name] for name in names if name in by_field}


def schema() -> Schema:
    """JSON Schema of a recipe."""
    properties: Schema = {DESCRIPTION: {"type": "string", "description": "For its readers."}}
    for name, option in OPTIONS.items():
        bounds = {"minimum": option.low, "maximum": option.high}
        properties[name] = {
            "description": option.about,
            **option.kind.schema,
            **{key: value for key, value in bounds.items() if value is not None},
            **({"enum": list(option.choices)} if option.choices else {}),
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Burnish recipe",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _unknown(key: str, name: str) -> UsageError:
    if name in AT_THE_PROMPT:
        return UsageError(f"{key} is no part of a recipe", hint=f"--{name} at the prompt")
    nearest = get_close_matches(name, OPTIONS, 1, 0.5)
    return UsageError(
        f"there is no option {key}", hint=nearest[0] if nearest else "optimize model --help"
    )


def _check(name: str, option: Option, value: Any) -> None:
    """Raise where a value is not of its option's kind, or out of its bounds."""
    if not option.kind.accepts(value):
        quoted = option.kind in (TEXT, PATH, NAMES, RELEASE) and not isinstance(value, dict)
        raise UsageError(
            f"{name} is {option.kind.name}, not {_said(value)}",
            hint="quotes" if quoted and value not in (None, "") else "",
        )
    low, high = option.low, option.high
    if (low is not None and value < low) or (high is not None and value > high):
        ends = f"{low:g} to {high:g}" if high is not None else f"{low:g} or more"
        raise UsageError(f"{name} is {ends}, not {_said(value)}")
    if option.choices and value not in option.choices:
        nearest = get_close_matches(value, option.choices, 1, 0.5)
        known = ", ".join(nearest or option.choices)
        raise UsageError(f"{name} has no {_said(value)}", hint=known)


def _said(value: Any) -> str:
    """A value as YAML has it."""
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple | list) else value
