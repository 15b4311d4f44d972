"""Muon, an optimizer for weight matrices, with all matrices of one shape in one batched product.

The update is the momentum with its singular values driven to about one (Jordan et al., 2024).
On a CPU the many small products of a matrix at a time would take longer than the gradients do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Drive the singular values of matrices to about one by Newton-Schulz steps.

    Args:
        matrices: float32 [count, rows, columns] with no more rows than columns.
        steps: iterations of the quintic.

    Returns:
        float32 of the same shape.
    """
    first, third, fifth = COEFFICIENTS
    current = (matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(steps):
        gram = current @ current.mT
        current = first * current + (third * gram + fifth * (gram @ gram)) @ current
    result: Tensor = current.float()
    return result


class Muon:
    """Momentum, orthogonalization and decoupled weight decay for two-dimensional weights."""

    def __init__(self, weights: Sequence[nn.Parameter], momentum: float, decay: float) -> None:
        """Group the weights by shape, a wide and a tall matrix of the same sizes together."""
        self.momentum = momentum
        self.decay = decay
        self.groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for weight in weights:
            self.groups.setdefault(tuple(sorted(weight.shape)), []).append(weight)
        self.averages = {
            shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()
        }

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update every weight from its gradient.

        Args:
            learning_rate: rate as for AdamW, whose size of update this one matches.
        """
        for shape, group in self.groups.items():
            stacked = torch.stack(
                [
                    weight.grad.T if weight.shape[0] > weight.shape[1] else weight.grad
                    for weight in group
                    if weight.grad is not None
                ]
            )
            average = self.averages[shape]
            average.lerp_(stacked, 1.0 - self.momentum)
            updates = orthogonalize(stacked.lerp(average, self.momentum))
            # 0.2 sqrt(columns) gives the root mean square that AdamW's updates usually have.
            rate = learning_rate * 0.2 * shape[1] ** 0.5
            for weight, update in zip(group, updates, strict=True):
                weight.mul_(1.0 - learning_rate * self.decay)
                tall = weight.shape[0] > weight.shape[1]
                weight.sub_(rate * (update.T if tall else update))
