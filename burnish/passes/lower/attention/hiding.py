"""How ONNX Runtime's operators are told which keys a query does not see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import onnx_ir as ir

from burnish.passes.lower.attention.bias import Masks
from burnish.passes.lower.attention.site import Site
from burnish.passes.lower.attention.writer import Writer


@dataclass(frozen=True)
class Told:
    """What an operator is given of a mask.

    Attributes:
        keys: which keys exist, as 32-bit whole numbers [batch, keys].
        bias: added to the scores, [batch or 1, heads or 1, queries, keys].
        alive: [..., queries, 1], 0 where a query's result is zero.
        attributes: `unidirectional` and `mask_filter_value`.
    """

    keys: ir.Value | None
    bias: ir.Value | None
    alive: ir.Value | None
    attributes: dict[str, int | float]


class Hiding(Protocol):
    """One way to tell an operator of a mask."""

    def refusal(self, site: Site) -> str:
        """Why the mask cannot be told so; empty where it can."""
        ...

    def told(self, masks: Masks, site: Site) -> Told:
        """What the operator is given."""
        ...


@dataclass(frozen=True)
class Added:
    """A tensor over queries and keys that is added to the scores; it can say any mask."""

    def refusal(self, site: Site) -> str:
        return ""

    def told(self, masks: Masks, site: Site) -> Told:
        bias = masks.whole(site)
        return Told(None, bias.added, bias.alive, {})


@dataclass(frozen=True)
class Limited:
    """No tensor: the operator itself hides keys after their query."""

    def refusal(self, site: Site) -> str:
        meaning = site.meaning
        if meaning.rest:
            return meaning.rest
        if meaning.padding is not None:
            return "it hides keys by an input"
        return "" if meaning.causal else "it is not causal"

    def told(self, masks: Masks, site: Site) -> Told:
        return Told(None, None, None, _attributes(site))


@dataclass(frozen=True)
class Padded:
    """One number for each key, and the operator's own causal limit.

    Scores that both rule out get twice the number that hides. In a row without keys that is not
    the mean of all values, which is what one number gives; so such rows have to be zero.
    """

    def refusal(self, site: Site) -> str:
        meaning = site.meaning
        if meaning.rest:
            return meaning.rest
        if meaning.padding is None:
            return "it hides no keys by an input"
        if meaning.causal and not meaning.zero:
            return "causal with padding: a query without keys gives a mean that it cannot say"
        return ""

    def told(self, masks: Masks, site: Site) -> Told:
        alive = masks.alive(site) if site.meaning.zero else None
        return Told(masks.keys(site), None, alive, _attributes(site))


def _attributes(site: Site) -> dict[str, int | float]:
    found: dict[str, int | float] = {"mask_filter_value": site.meaning.level}
    return found | ({"unidirectional": 1} if site.meaning.causal else {})


def alive_only(writer: Writer, site: Site, result: ir.Value, alive: ir.Value | None) -> ir.Value:
    """A result [batch, queries, heads * size] with zeros for queries without keys."""
    if alive is None:
        return result
    facts, node = site.facts, site.node
    apart = writer.node(node, "Mul", [writer.apart(node, result, facts.heads), alive])
    return writer.together(node, apart, facts.heads * facts.value_size)
