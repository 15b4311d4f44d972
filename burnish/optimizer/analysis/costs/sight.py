"""How far an attention sees: causal or not, within which window, with which biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import given
from burnish.optimizer.analysis.costs.attentions import MASKS, shape_of
from burnish.optimizer.analysis.masks import Alibi, Causal, Mask, Masks, Ordered, Prefix, Relative
from burnish.optimizer.analysis.masks.reach import reach_of

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Sight:
    """What is known of the keys that a query sees.

    Attributes:
        causal: whether keys after the query are hidden; None where that is not known.
        window: keys before and after its own that a query sees; None where there is no window.
        positions: how scores depend on distances: `ALiBi` or `relative`; empty where they do not.
        opaque: what of the mask was not understood; empty where nothing.
    """

    causal: bool | None = False
    window: tuple[int, int] | None = None
    positions: str = ""
    opaque: str = ""

    def as_json(self) -> dict[str, Any]:
        """As the facts of an attention hold it."""
        return {
            "causal": self.causal,
            "window": list(self.window) if self.window else None,
            "positions": self.positions,
            "opaque": self.opaque,
        }


def sight_of(node: ir.Node, shapes: Shapes, masks: Masks) -> Sight:
    """The sight of an attention that is one operator."""
    if node.op_type == "GroupQueryAttention":
        width = node.attributes.get_int("local_window_size", -1)
        return Sight(True, (width - 1, 0) if width > 0 else None)
    flagged = any(node.attributes.get_int(name, 0) for name in ("is_causal", "unidirectional"))
    found = Sight(True) if flagged else Sight()
    for place in MASKS.get((node.domain, node.op_type), ()):
        value = given(node, place)
        if value is None:
            continue
        if not node.domain:
            return seen_through(masks.of(value), flagged)
        sizes = shape_of(value, shapes)
        # A vector or a matrix over keys says nothing of queries; anything larger may.
        if not flagged and (sizes is None or len(sizes) > 2):
            found = Sight(None, opaque=f"{value.name} is a tensor of ONNX Runtime's own operator")
    return found


def seen_through(mask: Mask, flagged: bool = False) -> Sight:
    """What a mask, beside an attribute that may hide later keys, leaves to see."""
    opaque = "; ".join(f"{item.reason} at {item.node}" for item in mask.opaque)
    causal: bool | None = flagged or any(mask.all(kind) for kind in (Causal, Prefix, Ordered))
    if not causal and opaque:
        causal = None
    positions = "ALiBi" if mask.all(Alibi) else "relative" if mask.all(Relative) else ""
    reach = reach_of(mask)[0]
    window = (reach.left, reach.right) if reach is not None else None
    if reach is not None and reach.right <= 0:
        causal = True
    return Sight(causal, window, positions, opaque)
