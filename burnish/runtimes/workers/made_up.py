"""Feeds made up from ports alone: small, and legal for any table of two rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ml_dtypes  # noqa: F401 - its types have names then
import numpy as np

from burnish.optimizer import signature
from burnish.optimizer.analysis.shapes import resolve
from burnish.optimizer.errors import UsageError
from burnish.optimizer.feeds import Sizes
from burnish.runtimes.arrays import Array
from burnish.runtimes.workers.requests import Port

TYPES = {"float": "float32", "double": "float64"}
"""Types that numpy calls otherwise than ONNX Runtime does."""

LENGTH = 8
"""Tokens."""


def feed_of(
    ports: Sequence[Port], *, rows: int = 1, length: int = LENGTH, seed: int = 0
) -> dict[str, Array]:
    """An array for each port: 0 and 1 where it holds integers, 1 in masks, else normal noise.

    Args:
        ports: inputs of a model.
        rows: of the batch.
        length: tokens.
        seed: of the values.

    Raises:
        UsageError: a port has no type or shape that is known.
    """
    random, found = np.random.default_rng(seed), dict[str, Array]()
    sizes = sizes_of(ports, rows, length)
    for port in ports:
        shape = tuple(sizes_of_port(port, sizes, rows, length))
        kind = dtype_of(port)
        if "mask" in port.name.lower():
            found[port.name] = np.ones(shape, kind)
        elif kind.kind in "iub":
            found[port.name] = random.integers(0, 2, shape).astype(kind)
        else:
            found[port.name] = random.standard_normal(shape).astype(kind)
    return found


def sizes_of(ports: Sequence[Port], rows: int, length: int) -> Mapping[str, int]:
    """A size for each symbol of the ports."""
    told = tuple(
        signature.Port(port.name, "FLOAT", tuple(port.shape))
        for port in ports
        if port.shape is not None
    )
    return Sizes(rows, length).assign(told)


def sizes_of_port(port: Port, sizes: Mapping[str, int], rows: int, length: int) -> list[int]:
    """The shape of a port; raises UsageError where it has none."""
    if port.shape is None:
        raise UsageError(f"the shape of {port.name} is not known, so that no feed is made up")
    found = []
    for axis, size in enumerate(port.shape):
        known = resolve(size, sizes) if isinstance(size, str) else size
        found.append(known if known is not None else (length if axis else rows))
    return found


def dtype_of(port: Port) -> np.dtype[np.generic]:
    """Of its elements; raises UsageError where numpy has none such."""
    name = port.type.removeprefix("tensor(").removesuffix(")")
    try:
        return np.dtype(TYPES.get(name, name))
    except TypeError:
        raise UsageError(f"{port.name} is of type {port.type}: no feed is made up") from None
