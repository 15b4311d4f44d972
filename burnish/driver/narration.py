"""What the driver tells while it works: to the caller's function, and to the logger "burnish"."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

LOGGER = logging.getLogger("burnish")

Progress = Callable[[dict[str, Any]], None]
"""Told of each step as it begins: a dictionary with `stage`, and maybe more."""


def narrated(progress: Progress | None) -> Progress:
    """The caller's function, with each stage logged before it."""

    def tell(event: dict[str, Any]) -> None:
        if stage := event.get("stage"):
            LOGGER.info("%s", stage)
        if progress is not None:
            progress(event)

    return tell


def record(report: dict[str, Any]) -> None:
    """Log what a report tells: passes and their refusals, and what the user should know."""
    for step in report.get("passes", ()):
        if not isinstance(step, dict):  # `inspect` tells of passes by their names
            break
        LOGGER.info(
            "%s %s, %d places%s", step["name"], step["status"], step["rewrites"],
            f": {step['reason']}" if step["reason"] else "",
        )  # fmt: skip
        for refusal in step["refusals"]:
            LOGGER.debug("%s left %s: %s", step["name"], refusal["node"], refusal["reason"])
    for warning in report.get("warnings", ()):
        LOGGER.warning("%s", warning)
