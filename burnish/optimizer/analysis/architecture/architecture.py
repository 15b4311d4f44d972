"""The architecture of a recovered graph, as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from burnish.optimizer.analysis.anchors import attentions as attention_anchors
from burnish.optimizer.analysis.anchors.flow import Flow, given
from burnish.optimizer.analysis.anchors.normalization import normalizations
from burnish.optimizer.analysis.anchors.rotary import rotaries
from burnish.optimizer.analysis.architecture.gates import activation_names
from burnish.optimizer.analysis.architecture.sources import CROSS, SELF
from burnish.optimizer.analysis.costs.attentions import shape_of
from burnish.optimizer.analysis.costs.products import CONVOLUTIONS, Cost
from burnish.optimizer.analysis.costs.work import RESIDUALS, Places
from burnish.optimizer.analysis.products import find_products
from burnish.optimizer.roles import Role, Slot

Shapes = Mapping[str, tuple[int, ...]]

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)

TYPES = 4
"""Rows of the largest table that holds types of tokens rather than positions."""

FARTHEST = 24
"""Values that are looked at between an index and what it is counted over."""

NORMS = {"LayerNormalization": "LayerNorm", "RMSNormalization": "RMSNorm"}
"""What normalizations are called by those who write about architectures."""


@dataclass(frozen=True)
class Architecture:
    """What kind of network a graph is.

    Attributes:
        kind: encoder, decoder, decoder with cross-attention, encoder and decoder, transformer
            (where a mask does not tell), or network without attention.
        layers: those with an attention of a sequence with itself.
        heads, kv_heads, head_size: of all attentions, each number once, in order.
        windows: attentions that see a window: `left`, `right`, `count`, and `of` how many.
        positions: RoPE, ALiBi, relative positions, or a table of so many positions.
        activations, normalizations: those of the layers, the commonest first.
        hidden, feed_forward: widths between layers and inside of them, each once, in order.
        vocabulary: rows of the largest table that ids look up; 0 where there is none.
        limit: positions that the model knows; 0 where nothing limits them.
        patches: sides of what an image is cut into; empty where none is read so.
    """

    kind: str
    layers: int
    heads: tuple[int, ...]
    kv_heads: tuple[int, ...]
    head_size: tuple[int, ...]
    windows: tuple[dict[str, int], ...]
    positions: tuple[str, ...]
    activations: tuple[str, ...]
    normalizations: tuple[str, ...]
    hidden: tuple[int, ...]
    feed_forward: tuple[int, ...]
    vocabulary: int
    limit: int
    patches: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """The architecture as the report shows it."""
        return asdict(self)


def architecture(
    model: ir.Model,
    places: Places,
    shapes: Shapes,
    slots: Sequence[Slot],
    attentions: Sequence[Mapping[str, Any]],
) -> Architecture:
    """The architecture of a model after recovery.

    Args:
        model: the recovered graph.
        places: where its nodes are.
        shapes: of its values.
        slots: its inputs with their roles.
        attentions: see `driver.recovery.attentions`.
    """
    flow = places.flow
    limit = _positions(flow, slots)
    hidden = _hidden(flow, places, shapes)
    return Architecture(
        kind=_kind(attentions, slots),
        layers=_layers(flow, places, attentions),
        heads=_each(item["heads"] for item in attentions),
        kv_heads=_each(item["kv_heads"] for item in attentions),
        head_size=_each(item["head_size"] for item in attentions),
        windows=tuple(_windows(attentions)),
        positions=tuple(_position_names(flow, attentions, limit)),
        activations=tuple(activation_names(flow, places)),
        normalizations=tuple(_norm_names(flow)),
        hidden=hidden,
        feed_forward=_feed_forward(model, places, hidden),
        vocabulary=max((slot.bound for slot in slots if slot.role is Role.IDS), default=0),
        limit=limit,
        patches=_patches(flow, places),
    )


def _layers(flow: Flow, places: Places, attentions: Sequence[Mapping[str, Any]]) -> int:
    """Places one behind the other that have an attention, recognized or not, of their own text."""
    found = {places.of(Cost(anchor.node, None))[0] for anchor in attention_anchors(flow)}
    own = {item["layer"] for item in attentions if item["source"] == SELF}
    return len(found - ({item["layer"] for item in attentions} - own))


def _each(numbers: Iterable[int | None]) -> tuple[int, ...]:
    return tuple(sorted({number for number in numbers if number}))


def _kind(attentions: Sequence[Mapping[str, Any]], slots: Sequence[Slot]) -> str:
    if not attentions:
        return "network without attention"
    own = [item["causal"] for item in attentions if item["source"] == SELF]
    cached = any(slot.role is Role.PAST for slot in slots)
    if any(item["source"] == CROSS for item in attentions):
        both = False in own and not cached
        return "encoder and decoder" if both else "decoder with cross-attention"
    if cached or (own and all(own)):
        return "decoder"
    # A window or an opaque mask beside causal ones leaves open what the whole is.
    return "encoder" if not any(item is None for item in own) else "transformer"


def _windows(attentions: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, int]]:
    counts = Counter(tuple(item["window"]) for item in attentions if item["window"])
    for (left, right), count in counts.most_common():
        yield {"left": left, "right": right, "count": count, "of": len(attentions)}


def _position_names(
    flow: Flow, attentions: Sequence[Mapping[str, Any]], limit: int
) -> Iterator[str]:
    if any(True for _ in rotaries(flow)):
        yield "RoPE"
    names = dict.fromkeys(item["positions"] for item in attentions if item["positions"])
    for name in names:
        yield "relative positions" if name == "relative" else name
    if limit:
        yield f"{limit:,} positions"


def _positions(flow: Flow, slots: Sequence[Slot]) -> int:
    """Rows of a table of positions: looked up by positions or sliced, and added to what is read."""
    rows = [slot.bound for slot in slots if slot.role is Role.POSITIONS and slot.bound < 1 << 30]
    for node in flow.nodes:
        if node.op_type == "Gather" and _is_counted(given(node, 1)):
            rows.append(_rows_of_table(given(node, 0)))
        if node.op_type not in ("Add", "Sum") or flow.from_product(node.outputs[0]):
            continue
        rows += [_rows_of_table(value) for value in node.inputs if not flow.is_data(value)]
    return min((count for count in rows if count > TYPES), default=0)


def _is_counted(value: ir.Value | None) -> bool:
    """Whether indices are counted over a mask, as positions of padded texts are."""
    near = [value] if value is not None else []
    for current in near:  # grows while it is walked
        node = current.producer()
        if node is None or len(near) > FARTHEST:
            continue
        if node.op_type == "CumSum":
            return True
        near += [item for item in node.inputs if item is not None and item not in near]
    return False


def _rows_of_table(value: ir.Value | None) -> int:
    """Rows of a stored table [..., rows, width] that a value is a part of; 0 where it is none."""
    for _ in range(6):
        if value is None:
            return 0
        node = value.producer()
        if node is None:
            break
        if node.op_type not in ("Gather", "Slice", "Unsqueeze", "Squeeze", "Expand", "Cast"):
            return 0
        value = given(node, 0)
    tensor = value.const_value if value is not None else None
    if tensor is None or tensor.dtype not in FLOATS:
        return 0
    shape = [int(size) for size in tensor.shape.numpy()]
    wide = len(shape) > 1 and all(size == 1 for size in shape[:-2])
    return shape[-2] if wide and shape[-2] > 1 and shape[-1] > 1 else 0


def _norm_names(flow: Flow) -> Iterator[str]:
    counts = Counter(anchor.form for anchor in normalizations(flow))
    for form, _ in counts.most_common(1):
        simple = form.replace("Skip", "").replace("Simplified", "RMS").replace("RMSLayer", "RMS")
        yield NORMS.get(simple, form)


def _hidden(flow: Flow, places: Places, shapes: Shapes) -> tuple[int, ...]:
    """The widths of what goes around layers, each that a tenth of the sums have."""
    widths: Counter[int] = Counter()
    for node in flow.nodes:
        data = [value for value in node.inputs if flow.is_data(value)]
        if node.op_type not in RESIDUALS or len(data) < 2 or not places.layer_of(node):
            continue
        shape = shape_of(node.outputs[0], shapes)
        if shape is not None and len(shape) == 3 and shape[-1] > 1:
            widths[shape[-1]] += 1
    return _common(widths)


def _feed_forward(model: ir.Model, places: Places, hidden: tuple[int, ...]) -> tuple[int, ...]:
    """The widths that feed-forward layers come back from: what gates is not counted with them."""
    widths: Counter[int] = Counter()
    for product in find_products(model, FLOATS)[0]:
        layer, part = places.of(Cost(product.nodes[0], None))
        if part == "feed_forward" and layer and product.n in hidden and product.k > product.n:
            widths[product.k] += 1
    return _common(widths)


def _common(counts: Counter[int]) -> tuple[int, ...]:
    least = 0.1 * sum(counts.values())
    return tuple(sorted(width for width, count in counts.items() if count >= least))


def _patches(flow: Flow, places: Places) -> tuple[int, ...]:
    """The kernel of a convolution before all layers whose steps are as wide as it is."""
    for node in flow.nodes:
        if node.op_type not in CONVOLUTIONS or places.layer_of(node):
            continue
        kernel = given(node, 1)
        sides = tuple(kernel.shape or ())[2:] if kernel is not None else ()
        steps = tuple(node.attributes.get_ints("strides", ()))
        if len(sides) > 1 and steps == sides and all(isinstance(side, int) for side in sides):
            return tuple(int(side) for side in steps)
    return ()
