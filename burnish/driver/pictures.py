"""Pictures of the masks of a model's attentions, each made once, as data for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import onnx_ir as ir

from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.chunks import Chunks
from burnish.optimizer.analysis.costs.attentions import geometry
from burnish.optimizer.analysis.masks import Mask, Masks
from burnish.optimizer.analysis.masks.picture import Picture, banded, picture
from burnish.optimizer.analysis.masks.reach import reach_of
from burnish.optimizer.analysis.matching import optional

Known = Mapping[str, tuple[int, ...]]

LEAST, MOST, DRAWN = 2, 8, 4
"""Windows that a picture has to show at least and at most, and those that it shows otherwise."""


class Gallery:
    """Makes the pictures of one model.

    Args:
        model: whose attentions are asked for.
        sizes: by symbolic dimension; `sequence` among them.
        known: shapes of its values at those sizes, by name.
        masks: the normal forms of its masks.
    """

    def __init__(
        self, model: ir.Model, sizes: Mapping[str, int], known: Known, masks: Masks
    ) -> None:
        self._model = model
        self._masks = masks
        self._settings: dict[int, tuple[Mapping[str, int], Known]] = {0: (sizes, known)}
        self._made: dict[object, Picture | None] = {}

    def of_operator(self, node: ir.Node) -> dict[str, Any] | None:
        """The picture of an attention that is one operator; None where its mask is not known."""
        value = optional(node, 3) if node.domain == "" else None
        causal = any(
            node.attributes.get_int(name, 0) > 0 for name in ("is_causal", "unidirectional")
        )
        if node.domain and node.op_type != "GroupQueryAttention":
            return None
        causal |= node.op_type == "GroupQueryAttention"
        mask = self._masks.of(value) if value is not None else None
        sizes, known = self._setting(mask)
        found = geometry(node, known)
        if found is None or not found.queries or not found.keys:
            return None
        made = self._make(mask, found.queries, found.keys, sizes, known)
        if made is None or not causal:
            return made.as_json() if made else None
        limit = banded(found.queries, found.keys, right=0)
        return replace(made, seen=made.seen & limit.seen).as_json()

    def of_value(self, value: ir.Value | None) -> dict[str, Any] | None:
        """The picture of a mask that is added to scores; None where it is not known."""
        if value is None:
            return None
        mask = self._masks.of(value)
        sizes, known = self._setting(mask)
        shape = known.get(value.name or "", ())
        if len(shape) < 2 or min(shape[-2:]) < 2:
            return None
        made = self._make(mask, shape[-2], shape[-1], sizes, known)
        return made.as_json() if made else None

    def of_chunks(self, window: Chunks) -> dict[str, Any]:
        """The picture of a window that is proven of an attention in chunks."""
        length = DRAWN * (window.left + window.right + 1)
        made = banded(length, length, left=window.left, right=window.right)
        named = (window.mask,) if window.mask else ()
        return Picture(length, length, made.seen, named).as_json()

    def _make(
        self,
        mask: Mask | None,
        queries: int,
        keys: int,
        sizes: Mapping[str, int],
        known: Known,
    ) -> Picture | None:
        key = (mask, queries, keys)
        if key not in self._made:
            self._made[key] = (
                banded(queries, keys)
                if mask is None
                else picture(mask, queries, keys, sizes, known)
            )
        return self._made[key]

    def _setting(self, mask: Mask | None) -> tuple[Mapping[str, int], Known]:
        """Sizes to draw a mask at: other ones where its window would not be seen at those."""
        sizes, known = self._settings[0]
        reach = reach_of(mask)[0] if mask is not None else None
        length = sizes.get("sequence", 0)
        if reach is None or LEAST * reach.width <= length <= MOST * reach.width:
            return sizes, known
        wanted = DRAWN * reach.width
        if wanted not in self._settings:
            other = {name: wanted if size == length else size for name, size in sizes.items()}
            self._settings[wanted] = (other, shapes.infer(self._model, other))
        return self._settings[wanted]
