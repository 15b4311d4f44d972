"""Ports that differ between the artifact and what a compilation works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from burnish.optimizer import caches
from burnish.optimizer.caches import Cache
from burnish.optimizer.contract import Array, Feeds
from burnish.optimizer.renumbering import Renumbering
from burnish.optimizer.signature import Signature


@dataclass(frozen=True)
class Ports:
    """What the caller of the artifact hands over and gets in another form.

    Attributes:
        caches: those that are integers there.
        renumbering: of token ids; None where they are as they were.
    """

    caches: tuple[Cache, ...] = ()
    renumbering: Renumbering | None = None

    def exposed(self, model: ir.Model) -> ir.Model:
        """The model as it is written; the model itself where no port differs."""
        model = caches.exposed(model, self.caches)
        return model if self.renumbering is None else self.renumbering.exposed(model)

    def signature(self, original: Signature) -> Signature:
        """The signature that the artifact has to have."""
        changed = caches.signature(original, self.caches)
        return changed if self.renumbering is None else self.renumbering.signature(changed)

    def given(self, feed: Feeds) -> Feeds:
        """A feed of the caller's as the artifact takes it."""
        given = caches.rounded(feed, self.caches)
        return given if self.renumbering is None else self.renumbering.renumbered(given)

    def taken(self, outputs: Feeds) -> dict[str, Array]:
        """What the artifact gives, as the caller's model would."""
        taken = caches.restored(outputs, self.caches)
        return taken if self.renumbering is None else self.renumbering.restored(taken)

    def as_json(self) -> list[dict[str, Any]]:
        """Ports that have another type, as the report shows them."""
        return [port for item in self.caches for port in item.as_json()]

    def __bool__(self) -> bool:
        return bool(self.caches) or self.renumbering is not None
