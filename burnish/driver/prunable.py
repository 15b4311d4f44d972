"""What a request to prune has to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from burnish.optimizer.errors import UsageError

if TYPE_CHECKING:
    from burnish.driver.request import Request

AUTO_PRUNE = "auto"
"""Value of `--prune` for as much as the budget, or a speed-up, allows."""

SECOND_ORDER, ACTIVATIONS = "second-order", "activations"
IMPORTANCES = (SECOND_ORDER, ACTIVATIONS)
"""What may say which units go: what others can make up for, or how large each is by itself."""

LEAST_LEVEL = 2
"""The -O level from which on passes may round, and lose."""


def validate_pruning(request: Request) -> None:
    """Raise where nothing would say what may go, or how much of it."""
    if request.prune is None:
        if request.importance is not None:
            raise UsageError("--importance is what --prune goes by", hint="--prune 0.3")
        return
    if request.importance not in (None, *IMPORTANCES):
        told = f"--importance {request.importance} is not known"
        raise UsageError(told, hint=", ".join(IMPORTANCES))
    try:
        share = 0.5 if request.prune == AUTO_PRUNE else float(request.prune or "")
    except ValueError:
        share = 0.0
    if not 0.0 < share < 1.0:
        raise UsageError(
            f"--prune {request.prune} is neither a share between 0 and 1 nor auto",
            hint="--prune 0.3",
        )
    if not request.data:
        raise UsageError(
            "--prune needs --data: made-up inputs do not say what counts", hint="--data texts.txt"
        )
    if not request.check:
        raise UsageError("--prune needs the runs of the model that --no-check skips")
    if request.level < LEAST_LEVEL:
        raise UsageError(f"--prune loses, which -O{request.level} rules out", hint="-O2")
    if request.auto_precision and request.prune != AUTO_PRUNE:
        raise UsageError("--prune needs one precision", hint="--int8")
