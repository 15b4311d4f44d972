"""What a teacher answered to batches, kept for the next pass over the data."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

MOST = 1 << 30
"""Bytes of answers that are kept; batches beyond are answered anew each time."""

AXES = 3
"""Of values by token: [batch, sequence, channels], as losses take them."""

Values = dict[str, Tensor]


@dataclass(frozen=True)
class _Kept:
    """A value as it is kept.

    Attributes:
        tensor: rows of real tokens where there is an axis of tokens.
        by_token: whether there is.
        dtype: of the value.
    """

    tensor: Tensor
    by_token: bool
    dtype: torch.dtype


class Memory:
    """Answers by the batch; the same whether they were kept or not.

    Of a value with an axis of tokens, real ones are kept, and states as bfloat16: a student comes
    nowhere near to what that rounds away.

    Args:
        rounded: names of values that need not be exact.
        most: bytes to keep at most.
    """

    def __init__(self, rounded: frozenset[str], most: int = MOST) -> None:
        self._rounded, self._left = rounded, most
        self._kept: dict[Hashable, dict[str, _Kept]] = {}

    def recall(self, key: Hashable, mask: Tensor | None, compute: Callable[[], Values]) -> Values:
        """The values of a batch, with zeros at padding.

        Args:
            key: of the batch, which always has the same mask.
            mask: [batch, sequence], whether a token is real; None where all are.
            compute: gives the values, without gradients.
        """
        found = self._kept.get(key)
        if found is None:
            found = {name: self._kept_of(name, value, mask) for name, value in compute().items()}
            size = sum(item.tensor.nbytes for item in found.values())
            if size <= self._left:
                self._left -= size
                self._kept[key] = found
        return {name: _whole(item, mask) for name, item in found.items()}

    def _kept_of(self, name: str, value: Tensor, mask: Tensor | None) -> _Kept:
        by_token = mask is not None and value.ndim == AXES and value.shape[:2] == mask.shape
        tensor = value[mask] if by_token else value
        rounded = name in self._rounded and value.dtype is torch.float32
        return _Kept(tensor.bfloat16() if rounded else tensor, by_token, value.dtype)


def _whole(item: _Kept, mask: Tensor | None) -> Tensor:
    """The value with all its axes, in its own type."""
    tensor = item.tensor.to(item.dtype)
    if not item.by_token or mask is None:
        return tensor
    value = torch.zeros((*mask.shape, *tensor.shape[1:]), dtype=item.dtype)
    value[mask] = tensor
    return value
