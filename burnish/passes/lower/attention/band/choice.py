"""From which length on blocks are faster than scores of all queries with all keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.costs.scores import block_of
from burnish.optimizer.contract import Array, Choice, Context
from burnish.optimizer.forms import FUSED
from burnish.passes.lower.attention.band.band import Band
from burnish.passes.lower.attention.band.blocks import Blocks
from burnish.passes.lower.attention.band.form import InBlocks
from burnish.passes.lower.attention.bias import FLOOR
from burnish.passes.lower.attention.region import Region, builder
from burnish.passes.lower.attention.sample import Sample
from burnish.passes.lower.attention.site import Site, replace, site_of
from burnish.passes.lower.attention.writer import Writer

WINDOWS = (2, 3, 4, 6, 8, 16)
"""Lengths to try, in windows: at two a block form does about as much work as a dense one."""

UNMEASURED = 4
"""Windows from which on blocks are taken unmeasured.

On processors they were 1.0, 2.1, 3.1 and 4.9 times faster at 2, 4, 8 and 16 windows of 129 keys."""

MOST = 1 << 28
"""Scores of one group of heads past which nothing is measured: a gigabyte, several times."""

PROVIDERS = ("cpu",)
"""Those on which it has been measured."""


@dataclass(frozen=True)
class Banding:
    """That an attention is computed in blocks.

    Attributes:
        above: keys from which on, excluded; None where the length is fixed, and it always is.
        choice: how it compares with the dense form there.
    """

    form: InBlocks
    band: Band
    above: int | None
    choice: Choice


def banding_of(
    site: Site, band: Band, sample: Sample, forms: Sequence[str], dense: str, context: Context
) -> Banding | str:
    """Blocks for an attention, or why none; `dense` is the one of `forms` chosen before."""
    if context.provider not in PROVIDERS:
        return "blocks of a window have not been measured on this provider"
    if site.inner is not None:
        return "its past is in integers"
    lengths = [band.width * count for count in WINDOWS if band.width * count > band.first]
    fixed = _fixed(site)
    if fixed is not None:
        lengths = [fixed]
    for length in lengths:
        choice = _measured(site, band, sample, length, (dense, *forms), context)
        if choice is not None:
            form = next(item for item in _candidates(band) if item.name == choice.winner)
            return Banding(form, band, None if fixed is not None else length - 1, choice)
    return f"a window of {band.width} is not faster in blocks at {lengths[-1]} tokens"


def _fixed(site: Site) -> int | None:
    """The number of queries, where the graph fixes that of queries and keys."""
    counts = [value.shape[axis] for value, axis in site.places if value.shape is not None]
    whole = all(isinstance(count, int) for count in counts) and site.past is None
    return int(counts[0]) if whole and counts else None  # type: ignore[arg-type]


def _candidates(band: Band) -> list[InBlocks]:
    """A quarter of the window more work, and twice that in fewer and larger products."""
    quarter = block_of(band.width)
    return [InBlocks(quarter), InBlocks(2 * quarter)]


def _measured(
    site: Site, band: Band, sample: Sample, length: int, forms: Sequence[str], context: Context
) -> Choice | None:
    """The choice at so many keys, where it is for blocks."""
    sizes = [(length, -1 if site.past is None else 0)]
    if site.past is not None:
        sizes.append((1, length - 1))  # one token more, as in decoding
    blocks = {item.name: item for item in _candidates(band)}
    rule = next(iter(blocks)) if length >= UNMEASURED * band.width else forms[0]
    found = None
    for rows, past in sizes:
        small = sample.resized(1, rows, rows, past)
        entrants: dict[str, Callable[[], onnx.ModelProto]]
        entrants = {name: builder(small, name) for name in dict.fromkeys(forms)}
        entrants |= {name: _builder(small, band, item) for name, item in blocks.items()}
        key = f"{small.key} window={band.left}+{band.right}+{band.sinks}"
        key += f" first={band.first}" if band.first else ""
        key += f" {'by head' if band.by_head else ''}{'' if band.full else ' empty rows'}"
        large = small.scores > MOST
        choice = Choice(rule, 1.0, measured=False) if large else context.choose(key, entrants, rule)
        if choice.winner not in blocks:
            return None
        found = found or choice
    return found


def _builder(sample: Sample, band: Band, form: InBlocks) -> Callable[[], onnx.ModelProto]:
    def build() -> onnx.ModelProto:
        graph = ir.Graph([], [], nodes=[], opset_imports={"": 23, FUSED: 1}, name="sample")
        node, _, _ = Region(sample, graph).write()
        model = ir.Model(graph, ir_version=11)
        site = site_of(node, sample.facts, sample.meaning, {})
        writer = Writer(graph)
        shared = _Made(writer, sample, band)
        results = form.build(writer, shared, site, band, flat=sample.facts.flat)
        replace(writer, site, results)
        return ir.to_proto(model)

    return build


@dataclass(frozen=True)
class _Made:
    """Blocks as constants: layers share them, so that they are no part of what is timed."""

    writer: Writer
    sample: Sample
    band: Band

    def blocks(self, site: Site, band: Band, block: int) -> Blocks:
        sample, constant = self.sample, self.writer.constant
        rows, total = sample.rows, sample.total
        block = min(block, rows)
        span = block + band.left + band.right
        starts = np.arange(-(-rows // block))[:, None] * block
        queries = starts + np.arange(block)
        reached = starts + np.arange(span) + (total - rows - band.left)
        distance = reached[:, None, :] - queries[:, :, None] - (total - rows)
        seen = (distance >= -band.left) & (distance <= band.right)
        seen &= ((reached >= 0) & (reached < total))[:, None, :]
        seen = np.pad(seen, [(0, 0), (0, 0), (band.sinks, 0)], constant_values=True)
        reached = np.pad(reached, [(0, 0), (band.sinks, 0)])
        bias, alive = self._bias(seen)
        few = np.ones((1, band.first, total), bool)
        count, whole = (constant("size", np.array([size])) for size in (band.first, total))
        first = Blocks(count, count, count, whole, count, *self._bias(few), band.by_head)
        return Blocks(
            constant("queries", np.minimum(queries, rows - 1).reshape(-1)),
            constant("keys", np.clip(reached, 0, total - 1).reshape(-1)),
            constant("block", np.array([block])),
            constant("span", np.array([span + band.sinks])),
            constant("rows", np.array([rows])),
            bias,
            alive,
            band.by_head,
            first if band.first else None,
        )

    def _bias(self, seen: Array) -> tuple[ir.Value, ir.Value | None]:
        constant, band = self.writer.constant, self.band
        bias = np.where(seen, np.float32(0), np.float32(FLOOR))[None, None]
        if band.by_head:
            bias = np.tile(bias, (1, self.sample.facts.heads, 1, 1, 1))
        some = np.asarray(np.any(seen, axis=-1, keepdims=True))[None, None]
        return constant("bias", bias), None if band.full else constant("alive", some)
