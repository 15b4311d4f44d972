"""The kinds of values that recipes hold: what is accepted, its schema, and what a request gets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from burnish.driver.values import bytes_of, languages_of, layers_of, release_of, shape_of

Schema = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of value.

    Attributes:
        name: in words.
        schema: in JSON Schema.
        accepts: whether a plain value is of it.
        made: the request's value of it.
    """

    name: str
    schema: Schema
    accepts: Callable[[Any], bool]
    made: Callable[[Any], Any] = lambda value: value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return _whole(value) or (isinstance(value, float) and math.isfinite(value))


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _list(value: Any, of: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(of, value))


def _sizes(value: Any) -> bool:
    if not isinstance(value, dict):
        return _text(value)
    return all(_text(name) and _whole(size) and size > 0 for name, size in value.items())


_TEXT: Schema = {"type": "string", "minLength": 1}
_COUNT: Schema = {"type": "integer", "minimum": 0}

FLAG = Kind("true or false", {"type": "boolean"}, lambda value: isinstance(value, bool))
INTEGER = Kind("a whole number", {"type": "integer"}, _whole)
NUMBER = Kind("a number", {"type": "number"}, _number)
TEXT = Kind("a text", _TEXT, _text)
PATH = Kind("a path", _TEXT, _text)
RELEASE = Kind('a release in quotes, as "1.20"', _TEXT, _text, release_of)
SIZES = Kind(
    "sizes by name, as {batch: 8, sequence: 128}",
    {"anyOf": [{"type": "object", "additionalProperties": _COUNT | {"minimum": 1}}, _TEXT]},
    _sizes,
    lambda value: shape_of(value) if isinstance(value, str) else dict(value),
)  # fmt: skip
SHARE = Kind(
    "a share between 0 and 1, or auto",
    {"anyOf": [{"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, _TEXT]},
    lambda value: _text(value) or (_number(value) and 0 < value < 1),
    str,
)
NAMES = Kind(
    "a list of texts",
    {"anyOf": [{"type": "array", "items": _TEXT}, _TEXT]},
    lambda value: _text(value) or _list(value, _text),
    lambda value: languages_of(value if isinstance(value, str) else ",".join(value)),
)
NUMBERS = Kind(
    'a list of numbers, or a text as "0-3,7"',
    {"anyOf": [{"type": "array", "items": _COUNT}, _TEXT]},
    lambda value: _text(value) or _list(value, lambda item: _whole(item) and item >= 0),
    lambda value: layers_of(value if isinstance(value, str) else ",".join(map(str, value))),
)
BYTES = Kind(
    "a size, as 1.5GB",
    {"anyOf": [{"type": "integer", "minimum": 1_000_000}, _TEXT]},
    lambda value: _text(value) or _whole(value),
    lambda value: bytes_of(str(value)),
)
