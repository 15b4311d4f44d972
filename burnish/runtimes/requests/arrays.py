"""Named arrays: the inputs of a model as nested lists, and its outputs likewise.

Requests are joined along the first axis where all inputs and outputs share its name, and where two
made-up requests have been answered together as each by itself. So models whose ranges are those of
a whole run (int8) answer one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.optimizer.contract import relative_l2
from burnish.optimizer.errors import BurnishError, UsageError
from burnish.runtimes.arrays import Array
from burnish.runtimes.requests.interface import (
    MOST_INPUTS,
    Answers,
    Request,
    fields_of,
    one_by_one,
)
from burnish.runtimes.tasks.ports import Opened

SAME = 1e-5
"""Relative L2 error up to which a joined answer is that of the request by itself."""

LONGEST_EXAMPLE = 64
"""Numbers that an example may hold."""


@dataclass(frozen=True)
class Asked:
    """A request: inputs by name, and the outputs it wants."""

    feed: dict[str, Array]
    outputs: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Its size along the first axis."""
        return next((len(array) for array in self.feed.values() if array.ndim), 1)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What requests have in common that can be joined."""
        shapes = tuple((name, array.shape[1:]) for name, array in sorted(self.feed.items()))
        return self.outputs, shapes


class ArrayAnswers:
    """Answers of an opened model; see `interface.Answerer`.

    Args:
        opened: the model; closed with this.
        samples: made-up inputs that it takes, two of the same sizes, or none.
    """

    task = ""

    def __init__(
        self,
        opened: Opened,
        samples: Sequence[Mapping[str, Array]],
    ) -> None:
        self._opened = opened
        self._samples = [dict(item) for item in samples]
        self.joins = self._is_by_rows() and self._joins_samples()

    def read(self, request: Request) -> Asked:
        fields_of(request, ("inputs", "outputs"))
        given, names = request.get("inputs"), self._opened.inputs
        if not isinstance(given, dict):
            raise UsageError("there are no inputs", hint='{"inputs": {"NAME": [[...]]}}')
        fields_of(given, names)
        if missing := [name for name in names if name not in given]:
            raise UsageError(f"input {missing[0]} is missing", hint=", ".join(names))
        outputs = request.get("outputs", self._opened.outputs)
        if not isinstance(outputs, list) or not outputs:
            raise UsageError("outputs is a list of names", hint=", ".join(self._opened.outputs))
        if unknown := [name for name in outputs if name not in self._opened.outputs]:
            hint = ", ".join(self._opened.outputs)
            raise UsageError(f"there is no output {unknown[0]}", hint=hint)
        asked = Asked({name: self._array(name, given[name]) for name in names}, tuple(outputs))
        if asked.rows > MOST_INPUTS:
            raise UsageError(f"{asked.rows} rows in one request", hint=f"at most {MOST_INPUTS}")
        return asked

    def _array(self, name: str, values: Any) -> Array:
        try:
            found = self._opened.cast(name, values)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"{name} is no array of its type: nested lists of numbers") from None
        sizes = self._opened.fixed(name)
        if sizes and found.ndim != len(sizes):
            raise UsageError(f"{name} has {found.ndim} axes, and the model's {len(sizes)}")
        return found

    def answer(self, requests: Sequence[Asked]) -> Answers:
        found: list[dict[str, Any] | BurnishError | None] = [None] * len(requests)
        for group in self._groups(requests):
            together = [requests[index] for index in group]
            for index, answer in zip(group, self._joined(together), strict=True):
                found[index] = answer
        return [item for item in found if item is not None]

    def _groups(self, requests: Sequence[Asked]) -> list[list[int]]:
        if not self.joins:
            return [[index] for index in range(len(requests))]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for index, item in enumerate(requests):
            even = all(array.ndim and len(array) == item.rows for array in item.feed.values())
            groups.setdefault(item.kind if even else (index,), []).append(index)
        return list(groups.values())

    def _joined(self, requests: Sequence[Asked]) -> Answers:
        try:
            outputs = self._run(requests)
        except BurnishError as error:
            return [error] if len(requests) == 1 else one_by_one(self, requests)
        return [{"outputs": {k: plain(v) for k, v in item.items()}} for item in outputs]

    def _run(self, requests: Sequence[Asked]) -> list[dict[str, Array]]:
        """The outputs of requests of one kind."""
        if len(requests) == 1:
            return [self._opened.run(requests[0].outputs, requests[0].feed)]
        names = requests[0].feed
        feed = {name: np.concatenate([item.feed[name] for item in requests]) for name in names}
        found = self._opened.run(requests[0].outputs, feed)
        ends = np.cumsum([item.rows for item in requests])[:-1]
        parts = {name: np.split(array, ends) for name, array in found.items()}
        return [
            {name: part[index] for name, part in parts.items()} for index in range(len(requests))
        ]

    def _is_by_rows(self) -> bool:
        """Whether the first axis of all ports has one name, which no other axis has."""
        session = self._opened.session
        ports = [*session.get_inputs(), *session.get_outputs()]
        shapes = [list(getattr(port, "shape", None) or ()) for port in ports]
        firsts = {shape[0] if shape else None for shape in shapes}
        others = {size for shape in shapes for size in shape[1:]}
        return len(firsts) == 1 and not firsts & others and isinstance(firsts.pop(), str)

    def _joins_samples(self) -> bool:
        """Whether two made-up requests together are answered as each by itself."""
        if len(self._samples) < 2:
            return False
        asked = [Asked(feed, tuple(self._opened.outputs)) for feed in self._samples[:2]]
        if asked[0].kind != asked[1].kind:
            return False
        try:
            alone = [self._run([item])[0] for item in asked]
            joined = self._run(asked)
        except BurnishError:
            return False
        pairs = zip(alone, joined, strict=True)
        return all(_same(one[name], other[name]) for one, other in pairs for name in one)

    def probe(self) -> None:
        for feed in self._samples[:1]:
            self._opened.run(self._opened.outputs, feed)

    def example(self) -> dict[str, Any]:
        for feed in self._samples[:1]:
            if sum(array.size for array in feed.values()) <= LONGEST_EXAMPLE:
                return {"inputs": {name: plain(array) for name, array in feed.items()}}
        return {"inputs": {name: [["..."]] for name in self._opened.inputs}}

    def about(self) -> dict[str, Any]:
        session = self._opened.session
        told = {}
        for kind, ports in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
            told[kind] = {
                port.name: {
                    "type": getattr(port, "type", ""),
                    "shape": list(getattr(port, "shape", None) or ()),
                }
                for port in ports
            }
        return {**told, "joined": self.joins}

    def close(self) -> None:
        self._opened.session.close()


def _same(one: Array, other: Array) -> bool:
    return one.shape == other.shape and relative_l2(one, other) <= SAME


def plain(array: Array) -> Any:
    """An array as nested lists; numbers that JSON has none for as the words of its readers."""
    found = array.tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return _worded(found)
    return found


def _worded(value: Any) -> Any:
    if isinstance(value, list):
        return [_worded(item) for item in value]
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
