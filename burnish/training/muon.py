"""AdamW, with matrices moved by their momentum with all singular values driven to about one.

Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/; scaled as in Liu et al.,
2025, arXiv:2502.16982) takes fewer steps. It is no method for tables, vectors, and the layer that
gives the answer, which AdamW trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that drives singular values to about one."""

ITERATIONS = 3
"""Of five, as published, the last two change little here, and take time as a step does."""

MOMENTUM = 0.95

SCALE = 0.2
"""Root mean square that the changes of AdamW have, as a share of the rate."""

TINY = 1e-7

KEY = "momentum"
"""Of a matrix in the optimizer's state."""


class Muon(torch.optim.AdamW):
    """AdamW for all weights but the matrices of groups that say `muon`.

    Args:
        groups: as for AdamW.
        rate: the learning rate to begin with; that of both.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], rate: float) -> None:
        super().__init__([{"muon": False, **group} for group in groups], lr=rate, fused=True)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Change all weights that have a gradient; gradients of matrices are gone then."""
        for group in self.param_groups:
            if group["muon"]:
                self._matrices(group)
        return super().step(closure)

    def _matrices(self, group: dict[str, Any]) -> None:
        """Matrices of one shape together: many small products would take longer."""
        alike: dict[tuple[int, ...], list[Tensor]] = {}
        for weight in group["params"]:
            if weight.grad is not None:
                alike.setdefault(tuple(sorted(weight.shape)), []).append(weight)
        for (_, columns), weights in alike.items():
            aims = torch.stack([_wide(self._aim(weight)) for weight in weights])
            rate = group["lr"] * SCALE * columns**0.5
            for weight, change in zip(weights, orthogonal(aims), strict=True):
                weight.mul_(1.0 - group["lr"] * group["weight_decay"])
                tall = weight.shape[0] > weight.shape[1]
                weight.sub_(rate * (change.T if tall else change))
                weight.grad = None  # AdamW leaves out what has none

    def _aim(self, weight: Tensor) -> Tensor:
        """The gradient, drawn to the mean of those before it, which takes it in (Nesterov)."""
        gradient = weight.grad
        assert gradient is not None
        state = self.state[weight]
        if KEY not in state:
            state[KEY] = torch.zeros_like(weight)
        state[KEY].lerp_(gradient, 1.0 - MOMENTUM)
        return gradient.lerp(state[KEY], MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices with the same singular vectors, and singular values nearer to one.

    Args:
        matrices: float32 [count, rows, columns] with no more rows than columns.

    Returns:
        float32 of the same shape; zeros stay zeros.
    """
    first, third, fifth = COEFFICIENTS
    current: Tensor = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + TINY)
    for _ in range(ITERATIONS):
        gram = current @ current.mT
        current = first * current + (third * gram + fifth * (gram @ gram)) @ current
    return current


def _wide(matrix: Tensor) -> Tensor:
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
