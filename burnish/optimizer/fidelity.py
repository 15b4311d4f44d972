"""How much of the original's answer a smaller model keeps, output by output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from burnish.optimizer.contract import UNBOUNDED, Array, Feeds, relative_l2

TRANSPARENT = {"Cast", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Identity", "Transpose"}
DISTRIBUTIONS = {"Softmax", "LogSoftmax"}
NAMES = ("logit", "score", "prob")
"""Parts of the names that users give to distributions over classes."""


@dataclass(frozen=True)
class OutputFidelity:
    """One output against the original's.

    Attributes:
        rel_l2: relative L2 error over all feeds.
        cosine: mean cosine of the vectors along the last axis; of integers and texts the share
            that is the same.
        max_abs: largest absolute difference.
        top1: share of positions whose largest entry is the same; None where the last axis is no
            distribution.
        regret: what the original thinks it loses by the new choice, in its own probability.
    """

    rel_l2: float
    cosine: float
    max_abs: float
    top1: float | None
    regret: float | None


@dataclass(frozen=True)
class Fidelity:
    """All outputs, and the loss that the budget is compared with.

    Attributes:
        drop: absolute loss, 0 to 1, of the worst output.
        metric: what `drop` measures, in words.
        groups: the loss of each group of the data, where it has any; `drop` is that of the worst.
    """

    outputs: dict[str, OutputFidelity] = field(default_factory=dict)
    drop: float = 0.0
    metric: str = "1 - mean cosine"
    groups: dict[str, float] = field(default_factory=dict)


def is_distribution(value: ir.Value) -> bool:
    """Whether the last axis of an output holds scores of classes.

    It does where the output comes from a softmax, or is a float whose name says so (names of
    outputs are the user's words, not an exporter's).
    """
    if any(part in (value.name or "").lower() for part in NAMES):
        return True
    node = value.producer()
    while node is not None and node.op_type in TRANSPARENT and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and node.op_type in DISTRIBUTIONS


def fidelity(
    reference: Sequence[Feeds],
    candidate: Sequence[Feeds],
    distributions: set[str],
    *,
    made_up: bool,
    groups: Sequence[str] = (),
) -> Fidelity:
    """Compare outputs of the same feeds; where those are of several groups, the worst one counts.

    The loss of a distribution is the share of positions whose first choice changed. On made-up
    inputs it is the regret instead: the original is then often undecided between near ties, and a
    changed choice between ties costs nothing. Neither do, on such inputs, changed integers (the
    index of the best class) beside the floats that they are made from.

    Args:
        reference: the original's outputs for each feed.
        candidate: likewise of the other one.
        distributions: names of outputs that hold scores of classes.
        made_up: whether the feeds are not the user's.
        groups: of each feed, where the feeds have any.
    """
    whole = _together(reference, candidate, distributions, made_up=made_up)
    drops = {}
    for name in dict.fromkeys(groups):
        chosen = [index for index, group in enumerate(groups) if group == name]
        first, second = ([side[index] for index in chosen] for side in (reference, candidate))
        drops[name] = _together(first, second, distributions, made_up=made_up).drop
    if len(drops) < 2:
        return whole
    worst = max(drops, key=lambda name: drops[name])
    metric = f"{whole.metric} in the worst group, {worst or 'that without a name'},"
    return replace(whole, drop=drops[worst], metric=metric, groups=drops)


def _together(
    reference: Sequence[Feeds],
    candidate: Sequence[Feeds],
    distributions: set[str],
    *,
    made_up: bool,
) -> Fidelity:
    """Compare outputs of feeds of one kind."""
    outputs: dict[str, OutputFidelity] = {}
    worst, metric, judged = 0.0, "1 - mean cosine", False
    floats = any(array.dtype.kind == "f" for array in (reference[0].values() if reference else ()))
    for name in reference[0] if reference else ():
        first = [feed[name] for feed in reference]
        second = [feed[name] for feed in candidate]
        found = _one(first, second, name in distributions)
        outputs[name] = found
        if made_up and floats and first[0].dtype.kind != "f":
            continue
        drop, label = _drop(found, first, made_up)
        if drop > worst or not judged:
            worst, metric = drop, label
        judged = True
    return Fidelity(outputs, worst, metric)


def _drop(found: OutputFidelity, arrays: list[Array], made_up: bool) -> tuple[float, str]:
    if arrays[0].dtype.kind != "f":
        return 1.0 - found.cosine, "share of elements that differ"
    if found.top1 is None or found.regret is None:
        return max(0.0, 1.0 - found.cosine), "1 - mean cosine"
    if made_up:
        return found.regret, "probability lost by changed first choices"
    return 1.0 - found.top1, "first choices that changed"


def _one(first: list[Array], second: list[Array], distribution: bool) -> OutputFidelity:
    if any(a.shape != b.shape for a, b in zip(first, second, strict=True)):
        return OutputFidelity(float("inf"), 0.0, float("inf"), 0.0, 1.0)
    width = first[0].shape[-1] if first[0].ndim else 1
    if any(item.ndim == 0 or item.shape[-1] != width for item in first):
        width = 1
    flat = [np.concatenate([item.reshape(-1, width) for item in side]) for side in (first, second)]
    error = relative_l2(flat[0], flat[1])
    if flat[0].dtype.kind != "f":
        same = float(np.mean(flat[0] == flat[1])) if flat[0].size else 1.0
        return OutputFidelity(error, same, 0.0, None, None)
    reference, other = (item.astype(np.float64) for item in flat)
    # Rows that the reference leaves undefined have no answer to keep.
    rows = ~np.isnan(reference).any(axis=1)
    reference, other = reference[rows], other[rows]
    if not reference.size:
        return OutputFidelity(error, 1.0, 0.0, None, None)
    if not np.isfinite(error):
        return OutputFidelity(float("inf"), 0.0, float("inf"), 0.0, 1.0)
    # Infinities agree, or the error would be infinite: choices they rule out stay ruled out.
    ruled_out = np.abs(reference) >= UNBOUNDED
    choices = [
        np.where(ruled_out, np.sign(reference) * UNBOUNDED, item) for item in (reference, other)
    ]
    reference, other = (np.where(ruled_out, 0.0, item) for item in (reference, other))
    top1 = regret = None
    if distribution and width > 1:
        top1, regret = _choices(*choices)
    return OutputFidelity(
        error, _cosine(reference, other), float(np.abs(other - reference).max()), top1, regret
    )


def _choices(reference: Array, other: Array) -> tuple[float, float]:
    """Agreement of first choices, and the mean probability lost where they differ."""
    mine, theirs = reference.argmax(axis=1), other.argmax(axis=1)
    weights = np.exp(reference - reference.max(axis=1, keepdims=True))
    sums = reference.sum(axis=1, keepdims=True)
    already = (reference >= 0).all() and np.allclose(sums, 1.0, atol=1e-3)
    probability = reference if already else weights / weights.sum(axis=1, keepdims=True)
    index = np.arange(len(mine))
    lost = probability[index, mine] - probability[index, theirs]
    return float((mine == theirs).mean()), float(lost.mean())


def _cosine(reference: Array, other: Array) -> float:
    norms = np.linalg.norm(reference, axis=1) * np.linalg.norm(other, axis=1)
    usable = norms > 0
    if reference.shape[1] == 1 or not usable.any():
        whole = float(np.linalg.norm(reference) * np.linalg.norm(other))
        if whole == 0.0:
            return 1.0 if np.array_equal(reference, other) else 0.0
        return float((reference * other).sum() / whole)
    products = np.einsum("ij,ij->i", reference, other)
    return float((products[usable] / norms[usable]).mean())
