"""Artifacts on the nodes of a Ray cluster: the only place that imports Ray.

Restarts, retries, placement, queues, batches and scaling are Ray's own. Nothing here is imported
before it is asked for (`part`), since Ray is an extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from burnish.optimizer.errors import UsageError

EXTRA = "pip install 'burnish[ray]'"

NEEDED = ("ray", "starlette", "pyarrow")
"""Packages of the extra that are imported here."""


def part(name: str) -> Any:
    """The module of that name in this folder.

    Raises:
        UsageError: Ray is not installed.
    """
    try:
        return import_module(f"{__name__}.{name}")
    except ImportError as error:
        if (error.name or "").split(".")[0] not in NEEDED:
            raise
        raise UsageError("this needs Ray, which is an extra", hint=EXTRA) from None
