"""A mask's normal form against the mask itself, in numbers.

    reason = prove(masks.of(value), model, feeds, run)     # "" where they are equal

The subgraph of the mask is cut out and run; the normal form is computed from its clauses and
biases alone. What the normal form looks up in the graph (a sum over the padding, say) is taken from
the same run. To be done for several lengths and patterns of padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.masks import logic, sizes
from burnish.optimizer.analysis.masks.mask import Mask
from burnish.optimizer.analysis.masks.numeric import Setting
from burnish.optimizer.analysis.masks.rewrite import topological
from burnish.optimizer.analysis.masks.terms import TRUE, ZERO, Term, add, linear
from burnish.optimizer.analysis.masks.visible import HIDING
from burnish.optimizer.contract import Array, Feeds
from burnish.optimizer.regions import cut

Run = Callable[[ir.Model, Feeds], Feeds]
"""Runs a model; its outputs by name."""

CLOSE = 1e-5
"""Relative error of a bias that is computed in another order."""


def visible(mask: Mask) -> Term:
    """Whether a key is seen, from the clauses."""
    grid = mask.grid
    return logic.both(*(item.condition(grid) for item in mask.clauses)) if mask.clauses else TRUE


def bias(mask: Mask) -> Term:
    """What is added to the scores of keys that are seen, from the biases."""
    terms = [item.term for item in mask.biases]
    return add(*(term for term in terms if term is not None)) if terms else ZERO


def prove(mask: Mask, model: ir.Model, feeds: Feeds, run: Run) -> str:
    """Why the normal form is not the mask for some inputs; empty where it is.

    Raises:
        ValueError: the mask is in a subgraph, where it cannot be cut out.
    """
    if mask.opaque:
        return f"not proven: {mask.opaque[0].reason}"
    graph = model.graph
    if mask.value.graph is not graph:
        raise ValueError("the mask is in a subgraph")
    inputs = [value.name or "" for value in graph.inputs]
    wanted = {value.name or "": None for value in (mask.value, *_needed(mask))}
    computed = [name for name in wanted if name not in feeds and name not in graph.initializers]
    region = cut(model, inputs, computed) if computed else None
    known = (
        {}
        if region is None
        else run(region, {v.name or "": feeds[v.name or ""] for v in region.graph.inputs})
    )
    return compare(mask, {**feeds, **known}, graph.inputs)


def _needed(mask: Mask) -> list[ir.Value]:
    """Values that the normal form looks up or measures."""
    found: dict[ir.Value, None] = {}
    for item in (*topological(visible(mask)), *topological(bias(mask))):
        if item.op == "lookup" and _constant(item.value) is None:
            found[item.value] = None
        if item.op == "size" and not isinstance(item.value, str):
            found[item.value[0]] = None
    return list(found)


def _constant(value: ir.Value) -> ir.TensorProtocol | None:
    return ir.convenience.get_const_tensor(value)


def compare(mask: Mask, arrays: Feeds, inputs: Sequence[ir.Value]) -> str:
    """Why the normal form is not the mask, given arrays of both and of the graph's inputs."""
    actual = _array(mask.value, arrays)
    setting = _setting(mask, arrays, inputs, actual.shape)
    seen = np.broadcast_to(setting.compute(visible(mask)), actual.shape)
    if mask.boolean:
        wrong = actual.astype(bool) == seen if mask.inverted else actual.astype(bool) != seen
        return _where(wrong, "it is seen in one of the two only")
    numbers = actual.astype(np.float64)
    if (wrong := (numbers > HIDING) != seen).any():
        return _where(wrong, "it is seen in one of the two only")
    expected = np.broadcast_to(setting.compute(bias(mask)), actual.shape)
    apart = ~np.isclose(numbers, expected, rtol=CLOSE, atol=CLOSE) & seen
    if apart.any():
        return _where(apart, "the bias is another")
    levels = np.array([*mask.levels], np.float64)
    with np.errstate(invalid="ignore"):
        hidden = np.array(sorted(set(numbers[~seen].reshape(-1).tolist())))
    strange = [item for item in hidden if not np.isclose(item, levels, rtol=1e-3).any()]
    return f"it hides with {strange[0]:g}" if strange else ""


def _where(wrong: Array, reason: str) -> str:
    if not wrong.any():
        return ""
    place = tuple(int(axis[0]) for axis in np.nonzero(wrong))
    return f"{reason} at {list(place)}"


def _array(value: ir.Value, arrays: Feeds) -> Array:
    tensor = _constant(value)
    return arrays[value.name or ""] if tensor is None else tensor.numpy()


def _setting(
    mask: Mask, arrays: Feeds, inputs: Sequence[ir.Value], shape: tuple[int, ...]
) -> Setting:
    symbols: dict[str, int] = {}
    for value in inputs:
        for extent, length in zip(
            sizes.declared(value) or (), arrays[value.name or ""].shape, strict=True
        ):
            if extent.op == "size" and isinstance(extent.value, str):
                symbols[extent.value] = length

    def measure(name: str | tuple[ir.Value, int]) -> int:
        if isinstance(name, str):
            return symbols[name]
        return int(_array(name[0], arrays).shape[name[1]])

    def table(value: ir.Value) -> Array:
        array = _array(value, arrays)
        return array if array.dtype.kind in "biuf" else array.astype(np.float32)

    plain = Setting({}, measure, table)
    positions: dict[int | str, Array] = {}
    for axis, (place, length) in enumerate(zip(mask.positions, shape, strict=True)):
        counted = np.arange(length).reshape(
            [-1 if other == axis else 1 for other in range(len(shape))]
        )
        if place.op == "index":
            positions[place.value] = counted
        elif place.op == "sum":
            heads = next(atom for atom in linear(place)[0] if atom.value == "head").args[0]
            number = int(plain.compute(heads))
            positions |= {"batch": counted // number, "head": counted % number}
    return Setting(positions, measure, table)
