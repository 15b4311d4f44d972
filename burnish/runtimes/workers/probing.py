"""Whether feeds may be joined: it is tried, on made-up feeds, before the first one is.

Rows have to be what they are by themselves, and where feeds of unlike length are joined, what lies
behind the end of the shorter one has to be hidden, whatever it is, by zeros in a mask. Int8 whose
ranges are those of a whole run fails that, and so does a mean over all tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from burnish.optimizer.errors import BurnishError
from burnish.runtimes.arrays import Array
from burnish.runtimes.workers.joining import Feed, Joiner
from burnish.runtimes.workers.made_up import feed_of
from burnish.runtimes.workers.requests import Port, Route

TOLERANCE = 1e-5
"""Largest difference from a run by itself, beside the largest number or 1."""

LENGTHS = ((8, 13), (3, 40), (17, 5))
"""Of the feeds of a trial, in tokens."""

ROWS = (2, 1)
"""Of the feeds of a trial."""

Run = Callable[[Feed], Mapping[str, Array]]


def joiner_of(run: Run, route: Route, most: int) -> tuple[Joiner | None, str]:
    """How feeds of a route are joined, and the reason where none or only like ones are.

    Args:
        run: gives all outputs for a feed.
        route: of the model.
        most: feeds that are joined at most.
    """
    symbol = _rows(route)
    if symbol is None:
        return None, "its ports do not share a first axis that is open"
    equal = Joiner(most, {}, {})
    try:
        if not _same(run, route, equal, [(first, first) for first, _ in LENGTHS], ()):
            return None, "rows of one run are not what they are by themselves"
        for length, masks in _masks(route, symbol).items():
            for mask in masks:
                joiner = Joiner(most, _axes(route.inputs, length), _axes(route.outputs, length))
                if _same(run, route, joiner, LENGTHS, (mask,)):
                    return joiner, ""
    except BurnishError as error:
        return None, f"it could not be tried: {error.message}"
    return equal, "no mask was seen to hide what is padded: only feeds of the same shape are joined"


def _rows(route: Route) -> str | None:
    """The symbol of the first axis that all ports share."""
    firsts = {(port.shape or [None])[0] for port in (*route.inputs, *route.outputs)}
    (first, *others) = firsts
    return first if isinstance(first, str) and not others else None


def _masks(route: Route, rows: str) -> dict[str, list[str]]:
    """By symbol of a length: inputs [rows, length] that may be masks, likely ones first."""
    shapes = {port.name: list(port.shape or ()) for port in route.inputs}
    symbols = {size for shape in shapes.values() for size in shape if isinstance(size, str)}
    found: dict[str, list[str]] = {}
    for name, shape in shapes.items():
        # With caches there is more than one length, and what is padded lies in the middle.
        if len(shape) == 2 and isinstance(shape[1], str) and symbols == {rows, shape[1]}:
            found.setdefault(shape[1], []).append(name)
    for names in found.values():
        names.sort(key=lambda name: "mask" not in name.lower())
    return found


def _axes(ports: Sequence[Port], symbol: str) -> dict[str, tuple[int, ...]]:
    """The axes of each port that have a symbol's size."""
    return {
        port.name: tuple(axis for axis, size in enumerate(port.shape or ()) if size == symbol)
        for port in ports
    }


def _same(
    run: Run,
    route: Route,
    joiner: Joiner,
    lengths: Sequence[tuple[int, int]],
    masks: Sequence[str],
) -> bool:
    """Whether joined feeds give what they give by themselves, at all lengths that run at all."""
    tried = 0
    for seed, pair in enumerate(lengths):
        feeds = [
            feed_of(route.inputs, rows=rows, length=length, seed=2 * seed + place)
            for place, (rows, length) in enumerate(zip(ROWS, pair, strict=True))
        ]
        try:
            alone = [run(feed) for feed in feeds]
        except BurnishError:  # the model has no positions for so many
            continue
        tried += 1
        for joined in _with_noise(joiner, feeds, masks, seed):
            try:
                together = joiner.split(feeds, run(joined))
            except (BurnishError, ValueError, IndexError):
                return False
            if not all(map(_close, alone, together)):
                return False
    return tried > 0


def _with_noise(
    joiner: Joiner, feeds: Sequence[Feed], masks: Sequence[str], seed: int
) -> Iterator[dict[str, Array]]:
    """Feeds as they are joined; and with other values than zeros behind the ends, but in masks."""
    joined = joiner.join(feeds)
    yield joined
    random = np.random.default_rng(seed)
    behind = joiner.join([{name: np.ones_like(array) for name, array in f.items()} for f in feeds])
    noisy = dict(joined)
    for name, array in joined.items():
        if masks and name not in masks:
            noise = random.integers(0, 2, array.shape).astype(array.dtype)
            noisy[name] = np.where(behind[name] == 0, noise, array)
    if masks:
        yield noisy


def _close(expected: Mapping[str, Array], found: Mapping[str, Array]) -> bool:
    for name, array in expected.items():
        if array.shape != found[name].shape:
            return False
        first, second = array.astype(np.float64), found[name].astype(np.float64)
        scale = max(1.0, float(np.abs(first).max(initial=0.0)))
        if not np.abs(first - second).max(initial=0.0) <= TOLERANCE * scale:
            return False
    return True
