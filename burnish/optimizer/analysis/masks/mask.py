"""The normal form of a mask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import onnx_ir as ir

from burnish.optimizer.analysis.masks.clauses import (
    Bias,
    Causal,
    Clause,
    Grid,
    KeyPadding,
    Opaque,
    Window,
)
from burnish.optimizer.analysis.masks.terms import ZERO, Term

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Mask:
    """A mask as a function of positions.

    Attributes:
        value: the value of the graph, boolean (true where a key is seen) or added to scores.
        boolean: whether it is a truth value.
        positions: of the axes that the value has, as terms, the last two query and key.
        clauses: a key is seen where all of them hold; none: every key.
        biases: numbers added to the scores of keys that are seen.
        levels: numbers that hide, where it is not boolean.
        depends: the axes ("batch", "head", "query", "key") that it depends on.
        assumed: what must hold of the inputs (`total == past + sequence`), in words.
        inverted: whether the value is true where a key is hidden.
    """

    value: ir.Value
    boolean: bool
    positions: tuple[Term, ...]
    clauses: tuple[Clause, ...]
    biases: tuple[Bias, ...]
    levels: frozenset[float]
    depends: frozenset[str]
    assumed: tuple[str, ...]
    inverted: bool = False

    def __str__(self) -> str:
        seen = " & ".join(map(str, self.clauses)) or "full"
        return " + ".join([seen, *map(str, self.biases)])

    @property
    def grid(self) -> Grid:
        """The positions of query and key."""
        return Grid(*(ZERO, ZERO, *self.positions)[-2:])

    def all(self, kind: type[Kind]) -> list[Kind]:
        """The clauses and biases of a kind."""
        return [item for item in (*self.clauses, *self.biases) if isinstance(item, kind)]

    def first(self, kind: type[Kind]) -> Kind | None:
        """The first clause or bias of a kind."""
        return next(iter(self.all(kind)), None)

    @property
    def opaque(self) -> list[Opaque]:
        """What was not understood; empty where the normal form is the whole mask."""
        return self.all(Opaque)

    @property
    def causal(self) -> Causal | None:
        """The causal clause."""
        return self.first(Causal)

    @property
    def window(self) -> Window | None:
        """The window."""
        return self.first(Window)

    @property
    def key_padding(self) -> KeyPadding | None:
        """The clause that says which keys exist."""
        return next((item for item in self.all(KeyPadding) if item.orientation == "key"), None)

    @property
    def bias(self) -> Bias | None:
        """The first bias."""
        return self.biases[0] if self.biases else None

    @property
    def is_full(self) -> bool:
        """Whether it does nothing."""
        return not self.clauses and not self.biases

    def is_causal_only(self) -> bool:
        """Whether it is a causal clause and nothing else."""
        return len(self.clauses) == 1 and self.causal is not None and not self.biases

    @property
    def shared_by_heads(self) -> bool:
        """Whether it is the same for every head."""
        return "head" not in self.depends

    @property
    def shared_by_batch(self) -> bool:
        """Whether it is the same for every sequence of a batch."""
        return "batch" not in self.depends

    @property
    def shared_by_queries(self) -> bool:
        """Whether it is the same for every query, as a mere key padding is."""
        return "query" not in self.depends

    @property
    def empty_rows(self) -> str:
        """What a softmax gives a query that sees no key.

        "undefined" (not a number), "uniform" (all keys alike), "unmasked" (as if there were no
        mask: each score had the same number taken off), "mixed" (several of these), or "open"
        (a boolean mask: who applies it decides).
        """
        if self.boolean:
            return "open"
        kinds = {_empty(level) for level in self.levels}
        if len(self.levels) > 1 and kinds != {"undefined"}:
            return "mixed"
        return kinds.pop() if kinds else "open"


def _empty(level: float) -> str:
    if math.isinf(level):
        return "undefined"
    return "uniform" if level <= -1e30 or -65504.0 >= level > -65600 else "unmasked"


def describe(mask: Mask) -> str:
    """The mask in one line: its normal form, how it hides, and what it was taken for granted."""
    parts = [str(mask)]
    if mask.levels:
        parts.append("hides with " + ", ".join(f"{level:.4g}" for level in sorted(mask.levels)))
        parts.append(f"rows without keys are {mask.empty_rows}")
    if mask.assumed:
        parts.append("if " + ", ".join(mask.assumed))
    return "; ".join(parts)
