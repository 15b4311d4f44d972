"""Rules of attentions that are one operator, by heads; keys and values by the groups of heads."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.anchors.flow import given
from burnish.optimizer.contract import Array
from burnish.optimizer.partition.shards.layout import Layout, Parts, factors
from burnish.optimizer.partition.shards.local import Local
from burnish.optimizer.partition.shards.rules.elementwise import Wants
from burnish.optimizer.partition.shards.site import Site


def _heads(site: Site, parts: Parts | None, heads: int) -> Array | None:
    """Which heads each rank has, of an axis of heads, or of heads and channels."""
    if parts is None or not heads or parts.size % heads:
        return None
    masks = factors(parts.mask, [heads, parts.size // heads])
    if masks is None or not masks[1].all():
        site.units.add((parts.size // heads, parts.size))
        return None
    return masks[0]


def _groups(site: Site, queries: Array, count: int) -> Array | None:
    """Which of so many heads of keys each rank needs; each has as many heads of queries."""
    heads = queries.shape[1]
    if not count or heads % count:
        return None
    masks = factors(queries, [count, heads // count])
    if masks is None:
        site.units.add((heads // count, heads))
        return None
    return masks[0]


def _spread(mask: Array, size: int | None) -> Parts | None:
    """Parts of an axis of that size that heads make with their channels."""
    if not size or size % mask.shape[1]:
        return None
    return Parts.of(np.repeat(mask, size // mask.shape[1], axis=1))


class _Wants:
    """Collects the layouts of inputs; `failed` where one cannot be said."""

    def __init__(self, site: Site) -> None:
        self._site, self.layouts, self.failed = site, site.whole(), False

    def heads(self, place: int, axis: int, mask: Array) -> None:
        """An input whose axis is heads, or heads and channels; of size 1 it is broadcast."""
        shape = self._site.shape(place)
        if given(self._site.node, place) is None or (shape is not None and shape[axis] == 1):
            return
        parts = _spread(mask, shape[axis] if shape is not None else None)
        self.failed |= parts is None
        if parts is not None:
            self.layouts[place] = Layout.of({axis % len(shape or ()): parts})

    def parts(self, place: int, axis: int, parts: Parts | None) -> None:
        """An input whose axis has these parts."""
        if given(self._site.node, place) is None:
            return
        self.failed |= parts is None
        if parts is not None:
            self.layouts[place] = Layout.of({axis: parts})

    def added(self, place: int, mask: Array) -> None:
        """What is added to scores, [.., heads, queries, keys], broadcast."""
        shape = self._site.shape(place)
        if given(self._site.node, place) is None:
            return
        self.failed |= shape is None
        if shape is not None and len(shape) > 2:
            self.heads(place, len(shape) - 3, mask)

    def done(self) -> Wants:
        return None if self.failed else self.layouts


def standard(site: Site) -> Wants:
    """`Attention` of operator set 23: heads are an axis, or given by attributes."""
    query, key = site.shape(0), site.shape(1)
    if query is None or key is None or site.wanted[0] is None:
        return None
    flat = len(query) == 3
    axis = 2 if flat else 1
    heads = site.node.attributes.get_int("q_num_heads", 0) if flat else query[1]
    keys = site.node.attributes.get_int("kv_num_heads", 0) if flat else key[1]
    if any(at != axis for at, _ in site.wanted[0].axes):
        return None
    queries = _heads(site, site.wanted[0][axis], heads)
    groups = _groups(site, queries, keys) if queries is not None else None
    if queries is None or groups is None:
        return None
    wants = _Wants(site)
    wants.heads(0, axis, queries)
    for place in (1, 2):
        wants.heads(place, axis, groups)
    wants.added(3, queries)
    for place in (4, 5):
        wants.heads(place, 1, groups)
    for place, mask in ((1, groups), (2, groups), (3, queries)):
        site.gives[place] = Layout.of({1: Parts.of(mask)})
    return wants.done()


def standard_locally(local: Local) -> None:
    """The numbers of heads, where attributes give them."""
    shape = local.facts.shape(local.before.inputs[0])
    if shape is None or len(shape) == 4:
        return
    _counted(local, 2, "q_num_heads", shape[2], local.gives[0])
    keys = local.facts.shape(local.before.inputs[1])
    _counted(local, 2, "kv_num_heads", (keys or shape)[2], local.wants[1])


def _counted(local: Local, axis: int, name: str, size: int, layout: Layout) -> None:
    count = local.count(layout, axis)
    if count is not None:
        local.set(name, local.before.attributes.get_int(name, 0) * count // size)


def rotary(site: Site) -> Wants:
    """Rotations are those of each head."""
    shape = site.shape(0)
    if shape is None:
        return None
    if len(shape) == 4 and any(axis != 1 for axis, _ in site.layout.axes):
        return None
    if len(shape) == 3:
        heads = site.node.attributes.get_int("num_heads", 0)
        table = site.shape(2 if site.node.domain else 1)
        if not heads and table is not None:
            heads = shape[2] // (2 * table[-1])
        if any(axis != 2 for axis, _ in site.layout.axes):
            return None
        if _heads(site, site.layout[2], heads) is None:
            return None
    return [site.layout, *site.whole()[1:]]


def rotary_locally(local: Local) -> None:
    """The number of heads, where it is given."""
    shape = local.facts.shape(local.before.inputs[0])
    if shape is not None and len(shape) == 3:
        _counted(local, 2, "num_heads", shape[2], local.gives[0])


def _fused(site: Site, keys: str) -> tuple[Array, Array] | None:
    """Heads of queries and of keys on ranks, of ONNX Runtime's operators."""
    first = site.wanted[0]
    if first is None or any(axis != 2 for axis, _ in first.axes):
        return None
    heads = site.node.attributes.get_int("num_heads", 0)
    queries = _heads(site, first[2], heads)
    if queries is None:
        return None
    groups = _groups(site, queries, site.node.attributes.get_int(keys, heads))
    return None if groups is None else (queries, groups)


def group_query(site: Site) -> Wants:
    """`GroupQueryAttention`, packed or not."""
    found = _fused(site, "kv_num_heads")
    query, value = site.shape(0), site.facts.shape(site.node.outputs[0])
    if found is None or query is None or value is None or given(site.node, 12) is not None:
        return None
    queries, groups = found
    wants = _Wants(site)
    if given(site.node, 1) is None:
        size = value[2] // queries.shape[1]
        masks = [np.repeat(mask, size, axis=1) for mask in (queries, groups, groups)]
        wants.parts(0, 2, Parts.of(np.concatenate(masks, axis=1)))
    else:
        wants.heads(0, 2, queries)
    for place in (1, 2):
        wants.heads(place, 2, groups)
    for place in (3, 4):
        wants.heads(place, 1, groups)
    wants.added(10, queries)
    wants.heads(11, 0, queries)
    for place in (1, 2):
        site.gives[place] = Layout.of({1: Parts.of(groups)})
    return wants.done()


def multi_head(site: Site) -> Wants:
    """`MultiHeadAttention`: queries, keys and values apart or packed, keys also by heads."""
    found, query = _fused(site, "num_heads"), site.shape(0)
    if found is None or query is None:
        return None
    heads, _ = found
    wants = _Wants(site)
    wants.heads(0, 2, heads)
    for place in (1, 2):
        shape = site.shape(place)
        if shape is not None:
            wants.heads(place, 1 if len(shape) == 4 else 2, heads)
        else:
            wants.failed |= given(site.node, place) is not None
    bias = site.shape(3)
    if bias is not None:
        spread = _spread(heads, bias[0] // 3)
        triple = None if spread is None else Parts.of(np.tile(spread.mask, (1, 3)))
        wants.parts(3, 0, triple if bias[0] == 3 * query[-1] else None)
    wants.added(5, heads)
    for place in (6, 7):
        wants.heads(place, 1, heads)
    for place in (1, 2, 3):
        site.gives[place] = Layout.of({1: Parts.of(heads)})
    return wants.done()


def projecting(site: Site) -> Wants:
    """ONNX Runtime's `Attention`, which projects by itself: columns of three blocks."""
    found, weight = _fused(site, "num_heads"), site.shape(1)
    widths = site.node.attributes.get_ints("qkv_hidden_sizes", ())
    if found is None or weight is None:
        return None
    heads, _ = found
    sizes = list(widths) or [weight[1] // 3] * 3
    blocks = [_spread(heads, size) for size in sizes]
    masks = [block.mask for block in blocks if block is not None]
    wants = _Wants(site)
    columns = Parts.of(np.concatenate(masks, axis=1)) if len(masks) == 3 else None
    wants.parts(1, 1, columns)
    wants.parts(2, 0, columns)
    wants.heads(4, 2, heads)
    wants.added(5, heads)
    site.gives[1] = Layout.of({2: Parts.of(heads)})
    return wants.done()


def fused_locally(local: Local) -> None:
    """The numbers of heads, and the widths of blocks."""
    parts = local.gives[0][2]
    if parts is None:
        return
    count = parts.count(local.rank)

    def own(size: int) -> int:
        return size * count // parts.size

    local.set("num_heads", own(local.before.attributes.get_int("num_heads", 1)))
    if local.node.op_type == "GroupQueryAttention":
        groups = local.before.attributes.get_int("kv_num_heads", 1)
        local.set("kv_num_heads", int(parts.mask[local.rank].reshape(groups, -1).any(axis=1).sum()))
    if widths := local.before.attributes.get_ints("qkv_hidden_sizes", ()):
        values = [own(width) for width in widths]
        local.node.attributes["qkv_hidden_sizes"] = ir.AttrInt64s("qkv_hidden_sizes", values)
