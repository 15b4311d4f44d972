"""An architecture in one line of words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def headline(facts: Mapping[str, Any]) -> str:
    """The line, from an architecture as data: "encoder, 22 layers, 12 heads, RoPE, GeGLU, ..."."""
    return ", ".join(filter(None, _parts(facts)))


def _parts(facts: Mapping[str, Any]) -> Iterator[str]:
    yield facts["kind"]
    if facts["layers"]:
        yield f"{facts['layers']} layer{'s' * (facts['layers'] > 1)}"
    yield _heads(facts)
    yield from _local(facts["windows"])
    yield from facts["positions"]
    yield from facts["activations"]
    yield from facts["normalizations"]
    if facts["hidden"]:
        yield f"hidden {_numbers(facts['hidden'])}"
    if facts["feed_forward"]:
        yield f"feed-forward {_numbers(facts['feed_forward'])}"
    if facts["patches"]:
        yield f"patches of {' x '.join(map(str, facts['patches']))}"
    if facts["vocabulary"]:
        yield f"vocabulary {facts['vocabulary']:,}"


def _heads(facts: Mapping[str, Any]) -> str:
    if not facts["heads"]:
        return ""
    text = f"{_numbers(facts['heads'])} head{'s' * (facts['heads'] != [1])}"
    if facts["kv_heads"] and facts["kv_heads"] != facts["heads"]:
        text += f" ({_numbers(facts['kv_heads'])} of keys and values)"
    return text + (f" of {_numbers(facts['head_size'])}" if facts["head_size"] else "")


def _numbers(numbers: Sequence[int]) -> str:
    """One number, or the least and the largest of several."""
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _local(windows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for item in windows:
        left, right = item["left"], item["right"]
        if right <= 0:
            reach = f"last {left + 1} keys"
        else:
            reach = f"+-{left}" if left == right else f"-{left} to +{right}"
        if item["count"] == item["of"]:
            yield f"all of them local {reach}"
        else:
            yield f"{item['count']} of {item['of']} local {reach}"
