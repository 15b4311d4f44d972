"""How PyTorch computes in this process."""

from __future__ import annotations

import torch


def set_threads(count: int) -> None:
    """Let PyTorch use so many threads; with as many, the same computation gives the same."""
    torch.set_num_threads(count)
