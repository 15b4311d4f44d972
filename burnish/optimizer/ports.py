"""Ports that differ between the artifact and what a compilation works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from burnish.optimizer import caches, static_caches
from burnish.optimizer.caches import Cache
from burnish.optimizer.contract import Array, Feeds
from burnish.optimizer.renumbering import Renumbering
from burnish.optimizer.signature import Signature
from burnish.optimizer.static_caches import StaticCache


@dataclass(frozen=True)
class Ports:
    """What the caller of the artifact hands over and gets in another form.

    Attributes:
        caches: those that are integers there.
        renumbering: of token ids; None where they are as they were.
        static: caches whose new positions alone are handed over there.
    """

    caches: tuple[Cache, ...] = ()
    renumbering: Renumbering | None = None
    static: tuple[StaticCache, ...] = ()

    def exposed(self, model: ir.Model) -> ir.Model:
        """The model as it is written; the model itself where no port differs."""
        model = static_caches.exposed(caches.exposed(model, self.caches), self.static)
        return model if self.renumbering is None else self.renumbering.exposed(model)

    def signature(self, original: Signature) -> Signature:
        """The signature that the artifact has to have."""
        changed = static_caches.signature(original, self.static)
        changed = caches.signature(changed, self.caches)
        return changed if self.renumbering is None else self.renumbering.signature(changed)

    def given(self, feed: Feeds) -> Feeds:
        """A feed of the caller's as the artifact takes it."""
        given = static_caches.given(caches.rounded(feed, self.caches), self.static)
        return given if self.renumbering is None else self.renumbering.renumbered(given)

    def taken(self, outputs: Feeds, feed: Feeds) -> dict[str, Array]:
        """What the artifact gives, as the caller's model would for the caller's feed."""
        taken = caches.restored(static_caches.taken(outputs, feed, self.static), self.caches)
        return taken if self.renumbering is None else self.renumbering.restored(taken)

    def as_json(self) -> list[dict[str, Any]]:
        """Ports that have another type or hold something else, as the report shows them."""
        types = [port for item in self.caches for port in item.as_json()]
        return types + [port for item in self.static for port in item.as_json()]

    def __bool__(self) -> bool:
        return bool(self.caches or self.static) or self.renumbering is not None
