"""OpenVINO as it computes by itself where a processor has the instructions: in bfloat16.

Burnish holds OpenVINO to float32, so this is a provider of the benchmarks alone.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from burnish.runtimes import openvino, work
from burnish.runtimes.providers import PROVIDERS

NAME = "openvino-bf16"


class Session(openvino.Session):
    """A session that computes products in bfloat16."""

    def __init__(self, path: Path, **options: Any) -> None:
        held = dict(openvino.SETTINGS)
        openvino.SETTINGS |= {
            "INFERENCE_PRECISION_HINT": "bf16",
            "EXECUTION_MODE_HINT": "PERFORMANCE",
        }
        try:
            super().__init__(path, **options)
        finally:
            openvino.SETTINGS.update(held)


PROVIDERS[NAME] = replace(PROVIDERS["openvino"], name=NAME, open=Session)


def stopwatch(argument: dict[str, Any], emit: work.Emit) -> dict[str, Any]:
    """See `burnish.runtimes.work.stopwatch`; this one knows the provider."""
    return work.stopwatch(argument, emit)
