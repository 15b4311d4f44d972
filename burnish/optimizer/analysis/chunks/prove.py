"""The window of an attention in chunks, supposed from one run and proven by others.

The attention is cut out of the model and run by ONNX's reference implementation. With queries of
zero every key that is seen weighs the same, so that the mean and the spread of the positions say
how far a query sees. What is supposed so is then held against the dense attention with that window,
on random queries, keys and values, at each length that is tried and with padded tokens: agreement
on random numbers is agreement as functions, but for a set of measure zero. Nothing is taken from
what nodes or models are called.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from burnish.optimizer import roles
from burnish.optimizer.analysis.anchors.flow import Anchor, Flow
from burnish.optimizer.analysis.chunks.region import Lost, Region, region_of
from burnish.optimizer.analysis.probe import Probe
from burnish.optimizer.contract import Array
from burnish.optimizer.regions import cut

FORM = "attention in chunks, plain operators"
"""What the recovered language has for it."""

LENGTHS = (16, 24, 32, 48, 64, 96, 128)
"""Tokens that are tried where the model takes any number."""

ROWS = 2
ENOUGH = 2
"""Lengths at which the window must be proven, where the model takes several."""

CLOSE = 1e-5
"""Relative error of an attention that is summed up in another order."""

LARGEST = 1 << 24
"""Bytes of the largest weights that a region may hold."""


@dataclass(frozen=True)
class Chunks:
    """A window that is proven.

    Attributes:
        left, right: keys before and after its own that a query sees.
        heads, size: of queries and keys.
        scale: factor of the scores.
        mask: name of the input whose zeros hide keys; empty where there is none.
        lengths: numbers of tokens at which it is proven.
    """

    left: int
    right: int
    heads: int
    size: int
    scale: float
    mask: str
    lengths: tuple[int, ...]

    def __str__(self) -> str:
        padding = f" & key_padding({self.mask})" if self.mask else ""
        return f"window(left={self.left}, right={self.right}){padding}"


@dataclass(frozen=True)
class _Layout:
    """How projections are laid out: the place of the batch, and how many heads there are."""

    batch: int
    heads: int

    def apart(self, array: Array) -> Array:
        """[batch, heads, tokens, size] of what is laid out so."""
        rows = np.moveaxis(array, self.batch, 0)
        batch, tokens, width = rows.shape
        return rows.reshape(batch, tokens, self.heads, width // self.heads).transpose(0, 2, 1, 3)


class _Trial:
    """The region at one length."""

    def __init__(self, model: ir.Model, region: Region, length: int | None) -> None:
        sizes: dict[str, int] = {}
        for value in model.graph.inputs:
            for axis, size in enumerate(value.shape or ()):
                if not isinstance(size, int) and sizes.get(str(size)) != ROWS:
                    sizes[str(size)] = length or 0 if axis else ROWS
        probe = Probe(model, sizes)
        self._parts = (region.query, region.key, region.value)
        self.shapes = [probe.shape(item) for item in self._parts]
        self.masks: list[str] = []
        self._inputs: dict[str, Array] = {}
        for slot in roles.slots(model):
            shape = probe.shape(next(v for v in model.graph.inputs if v.name == slot.port.name))
            if shape is None:
                raise ValueError(f"the shape of {slot.port.name}")
            dtype = ir.DataType[slot.port.dtype].numpy()
            self._inputs[slot.port.name] = np.ones(shape, dtype)
            if slot.role is roles.Role.MASK and len(shape) == 2:
                self.masks.append(slot.port.name)
        self._result = region.result.name or ""
        wanted = [value.name or "" for value in (*self._parts, *model.graph.inputs)]
        part = cut(model, wanted, [self._result])
        stored = [value for value in part.graph.initializers.values() if value.const_value]
        if sum(value.const_value.nbytes for value in stored if value.const_value) > LARGEST:
            raise ValueError("what lies between its projections and its result holds weights")
        for value in stored:  # the reference follows no file
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                value.const_value = ir.tensor(np.array(tensor.numpy()), dtype=tensor.dtype)
        self._needs = {value.name for value in part.graph.inputs}
        self._run = ReferenceEvaluator(ir.to_proto(part))

    def run(self, query: Array, key: Array, value: Array, seen: Array | None = None) -> Array:
        """The result for projections, with tokens hidden where `seen` [batch, tokens] is 0."""
        feeds = dict(self._inputs)
        if seen is not None:
            feeds |= {name: seen.astype(feeds[name].dtype) for name in self.masks}
        names = [item.name or "" for item in self._parts]
        feeds |= dict(zip(names, (query, key, value), strict=True))
        feeds = {name: array for name, array in feeds.items() if name in self._needs}
        with np.errstate(all="ignore"):
            (result,) = self._run.run([self._result], feeds)
        return np.asarray(result)


def window_of(model: ir.Model, anchor: Anchor, flow: Flow) -> Chunks | str:
    """The window of an attention that is left as plain operators, or why none is proven."""
    region = region_of(anchor.node, flow)
    if isinstance(region, Lost):
        return region.reason
    if anchor.node.graph is not model.graph:
        return "it lies in a subgraph, where it cannot be run by itself"
    free = any(not isinstance(d, int) for v in model.graph.inputs for d in v.shape or ())
    found: Chunks | None = None
    problem = "it runs at none of the lengths that were tried"
    for length in LENGTHS if free else (None,):
        try:
            outcome = _proven(_Trial(model, region, length), region.scale, found)
        except Exception as error:  # not legal at this length, or unknown to the reference
            problem = f"it cannot be run by itself: {type(error).__name__}" if not free else problem
            continue
        if isinstance(outcome, str):
            return outcome
        found = outcome
        if len(found.lengths) >= 3:
            break
    if found is None or len(found.lengths) < (ENOUGH if free else 1):
        return problem
    return found


def _proven(trial: _Trial, scale: float, before: Chunks | None) -> Chunks | str:
    """What holds at the length of a trial, and held at those before."""
    shape = trial.shapes[0]
    if shape is None or len(shape) != 3 or {*trial.shapes} != {shape}:
        return "its queries, keys and values are not three of one shape"
    random = np.random.default_rng(0)
    query, key, value = (random.standard_normal(shape).astype(np.float32) for _ in range(3))
    whole, zeros = trial.run(query, key, value), np.zeros(shape, np.float32)
    evenly = trial.run(zeros, zeros, value)
    supposed: dict[tuple[int, int], tuple[int, int] | None] = {}
    problem = "the keys that its queries see are no window"
    for layout, after in _layouts(shape, whole.shape):
        places = (layout.batch, after.batch)
        if places not in supposed:
            supposed[places] = _supposed(trial, shape, layout, after)
        width = supposed[places]
        if width is None or (before is not None and width != (before.left, before.right)):
            continue
        tokens = shape[1 - layout.batch]
        real = np.ones((shape[layout.batch], tokens), bool)
        parts = [layout.apart(item) for item in (query, key, value)]
        if not _agree(after.apart(whole), parts, scale, width, real):
            if _agree(after.apart(evenly), parts, 0.0, width, real):
                problem = (
                    f"it adds up the values of window(left={width[0]}, right={width[1]}), "
                    "but not by their keys' scores"
                )
            continue
        real[-1, -max(1, tokens // 4) :] = not trial.masks
        hidden = after.apart(trial.run(query, key, value, real))
        if len(trial.masks) > 1 or not _agree(hidden, parts, scale, width, real):
            return f"it has window(left={width[0]}, right={width[1]}), but not under padding"
        lengths = (*(before.lengths if before else ()), tokens)
        mask = "".join(trial.masks)
        return Chunks(*width, layout.heads, shape[2] // layout.heads, scale, mask, lengths)
    return problem


def _layouts(shape: tuple[int, ...], after: tuple[int, ...]) -> Iterator[tuple[_Layout, _Layout]]:
    """The layouts that projections and the result may have; each is put to the test."""
    if len(after) != 3:
        return
    heads = [count for count in range(1, 129) if shape[2] % count == 0]
    for count, first, second in itertools.product(heads, (0, 1), (0, 1)):
        if shape[first] == after[second] and shape[1 - first] == after[1 - second]:
            yield _Layout(first, count), _Layout(second, count)


def _supposed(
    trial: _Trial, shape: tuple[int, ...], layout: _Layout, after: _Layout
) -> tuple[int, int] | None:
    """How far the middle query sees to its left and right, if its keys are next to each other."""
    tokens = shape[1 - layout.batch]
    places = np.arange(tokens, dtype=np.float32) - tokens // 2
    column = np.expand_dims(places, (0, 2) if layout.batch == 0 else (1, 2))
    zeros = np.zeros(shape, np.float32)
    means = [
        float(after.apart(trial.run(zeros, zeros, zeros + column**power))[0, 0, tokens // 2, 0])
        for power in (1, 2)
    ]
    spread = means[1] - means[0] ** 2
    count = round(float(np.sqrt(max(0.0, 12 * spread + 1))))
    left, right = round((count - 1) / 2 - means[0]), round((count - 1) / 2 + means[0])
    inside = 0 <= left < tokens // 2 and 0 <= right < tokens - tokens // 2 - 1
    return (left, right) if inside else None


def _agree(
    result: Array, parts: list[Array], scale: float, width: tuple[int, int], real: Array
) -> bool:
    """Whether a result is the dense attention with a window, at queries that are no padding.

    Args:
        result: [batch, heads, tokens, size].
        parts: queries, keys and values, alike.
        scale: of the scores.
        width: keys to the left and to the right.
        real: [batch, tokens], False where a key is hidden.
    """
    count = result.shape[2]
    distance = np.arange(count)[None, :] - np.arange(count)[:, None]
    band = (distance >= -width[0]) & (distance <= width[1])
    error = norm = 0.0
    for row, head in np.ndindex(*result.shape[:2]):
        query, key, value = (part[row, head].astype(np.float64) for part in parts)
        scores = np.where(band & real[row], scale * query @ key.T, -np.inf)[real[row]]
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        wanted = weights / weights.sum(-1, keepdims=True) @ value
        error += float(np.square(result[row, head][real[row]] - wanted).sum())
        norm += float(np.square(wanted).sum())
        if not error <= CLOSE**2 * norm:
            return False
    return True
