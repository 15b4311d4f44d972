"""The sizes of an attention and of what belongs to it, by which its forms are timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx_ir as ir

from burnish.optimizer.analysis.heads import merged_heads, split_heads
from burnish.passes.lower.attention.bias import narrowed
from burnish.passes.lower.attention.facts import Facts
from burnish.passes.lower.attention.projection import Projection
from burnish.passes.lower.attention.site import Meaning, Site

Lookup = Callable[[ir.Value | None], tuple[int, ...] | None]

SCORES = 1 << 27
"""Most scores of a sample; heads past that are left out, for they cost alike."""


@dataclass(frozen=True)
class Sample:
    """An attention with what belongs to it.

    These are the products before it, where a form takes those in, the heads split off and merged,
    and its mask, which is there ready for each form since layers share it.

    Attributes:
        batch, rows, keys: sequences, queries, and new keys.
        past: earlier keys; -1 where there is no past.
        outside: whether those are put in front by a `Concat`.
        split: by operand, whether its heads were split off by a `Reshape` and a `Transpose`.
        merged: whether the result's heads are merged again.
        mask, narrow: shapes of the mask, and of what it repeats; None where there is none.
        boolean: whether the mask is a truth value.
        k: length of the dot products before it; 0 where those are no part of it.
        biased: whether they have biases.
        inner: what is proven of the mask beside a past of integers; None without such.
        windows: the shape of the mask that is repeated for each image; None where none is.
    """

    facts: Facts
    meaning: Meaning
    batch: int
    rows: int
    keys: int
    past: int
    outside: bool
    split: tuple[bool, bool, bool]
    merged: bool
    mask: tuple[int, ...] | None
    narrow: tuple[int, ...] | None
    boolean: bool
    k: int
    biased: bool
    inner: Meaning | None = None
    windows: tuple[int, ...] | None = None

    @property
    def total(self) -> int:
        """New and earlier keys."""
        return self.keys + max(0, self.past)

    @property
    def scores(self) -> int:
        """How many scores there are."""
        return self.batch * self.facts.heads * self.rows * self.total

    def resized(self, batch: int, rows: int, keys: int, past: int) -> Sample:
        """The sample at other sizes, with as many heads as `SCORES` allows: they cost alike."""
        facts, total = self.facts, keys + max(0, past)
        groups, ratio = facts.groups, facts.heads // facts.groups
        while groups > 1 and batch * groups * ratio * rows * total > SCORES:
            groups -= 1
        few = replace(facts, heads=groups * ratio, groups=groups)

        def like(shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
            if shape is None:
                return None
            most = (batch, few.heads)[4 - len(shape) :]
            lead = tuple(min(pair) for pair in zip(shape[:-2], most, strict=True))
            query = 1 if len(shape) > 1 and shape[-2] == 1 and self.rows > 1 else rows
            return (*lead, query, total)

        return replace(
            self, facts=few, batch=batch, rows=rows, keys=keys, past=past,
            mask=like(self.mask), narrow=like(self.narrow),
        )  # fmt: skip

    @property
    def key(self) -> str:
        """All that its time depends on."""
        facts, meaning = self.facts, self.meaning
        parts = [
            f"attention {self.batch}x{self.rows}x{self.keys}",
            f"heads={facts.heads}/{facts.groups} size={facts.size}/{facts.value_size}",
            "flat" if facts.flat else f"split={''.join(str(int(item)) for item in self.split)}",
            f"past={self.past}{' outside' if self.outside else ''}" if self.past >= 0 else "",
            f"int8{' causal' if self.inner.causal else ''}" if self.inner is not None else "",
            "kept" if facts.kept else "",
            f"mask={'x'.join(map(str, self.narrow or ()))}" if self.mask else "",
            f"windows={'x'.join(map(str, self.windows))}" if self.windows else "",
            "limited" if facts.causal else "",
            "causal" if meaning.causal else "",
            "padded" if meaning.padding is not None else "",
            "rest" if meaning.rest else "",
            "zero" if meaning.zero and self.mask else "",
            f"cap={facts.cap:g}" if facts.cap else "",
            f"products={self.k}{'b' if self.biased else ''}" if self.k else "",
        ]
        return " ".join(filter(None, parts))


def sample_of(site: Site, sizes: Lookup) -> Sample | None:
    """The sample of a site; None where the sizes are not known."""
    facts, inner = site.facts, site.inner
    past, new = (inner or site).past, (inner or site).new
    query, key = sizes(site.query), sizes(new[0])
    before = sizes(past.key) if past is not None else None
    if query is None or key is None or (past is not None and before is None):
        return None
    total = key[site.rows] + (before[2] if before is not None else 0)
    scores = query[0], 1, query[site.rows], total
    mask = _like(site.mask, sizes, scores)
    operands = (site.query, *new)
    split = [not facts.flat and split_heads(item) is not None for item in operands]
    projection = site.projection if isinstance(site.projection, Projection) else None
    narrow = _like(narrowed(site.mask), sizes, scores) if site.mask is not None else None
    return Sample(
        facts,
        site.meaning,
        query[0],
        query[site.rows],
        key[site.rows],
        before[2] if before is not None else -1,
        past is not None and past.outside,
        (split[0], split[1], split[2]),
        not facts.flat and merged_heads(site.node.outputs[0]) is not None,
        mask,
        narrow,
        site.mask is not None and site.mask.dtype is ir.DataType.BOOL,
        projection.k if projection is not None else 0,
        projection is not None and projection.biased,
        inner.meaning if inner is not None else None,
        site.windows.shape if site.windows is not None else None,
    )


def _like(mask: ir.Value | None, sizes: Lookup, scores: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape of a mask; where it is not known, sizes that are not written are the scores'."""
    if mask is None or mask.shape is None or (found := sizes(mask)) is not None:
        return found if mask is not None and mask.shape is not None else None
    written = zip(mask.shape, scores[4 - len(mask.shape) :], strict=True)
    return tuple(size if isinstance(size, int) else score for size, score in written)
