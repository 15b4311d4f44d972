"""How weights become zero, as options say it."""

from __future__ import annotations

from burnish.optimizer.errors import UsageError
from burnish.passes.compress.masks.methods import MAGNITUDE, METHODS, SPARSEGPT
from burnish.passes.compress.masks.pattern import Pattern

TENSORRT = "tensorrt"
"""The provider with kernels for 2:4."""


def method_of(asked: str | None, *, runs: bool) -> str:
    """The method that is asked for, or the best there is; `runs`: on the user's data."""
    return asked or (SPARSEGPT if runs else MAGNITUDE)


def validate(sparsity: str | None, asked: str | None, *, runs: bool) -> None:
    """Raise where weights cannot become zero as is asked for.

    Raises:
        UsageError: see above.
    """
    if sparsity is None:
        if asked is not None:
            raise UsageError("--mask is how weights become zero", hint="--sparsity 0.5")
        return
    Pattern.of(sparsity)
    if asked is not None and asked not in METHODS:
        raise UsageError(f"--mask {asked} is not known", hint=", ".join(METHODS))
    if asked not in (None, MAGNITUDE) and not runs:
        told = f"--mask {asked} looks at activations: it needs --data, and no --no-check"
        raise UsageError(told, hint=f"--mask {MAGNITUDE}")


def caveat(sparsity: str, provider: str) -> str:
    """Where zeros make a model faster, and where not, for the report."""
    if provider != TENSORRT:
        return (
            f"zeros in weights make nothing faster on {provider}, whose kernels multiply with "
            "them: they are for size (--sparse-storage) and, as 2:4, for TensorRT"
        )
    if not Pattern.of(sparsity).two_of_four:
        return "zeros make nothing faster in TensorRT unless they are 2:4 (--sparsity 2:4)"
    return "TensorRT is faster by 2:4 only where sparse weights are turned on (trt_sparsity_enable)"
