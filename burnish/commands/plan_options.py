"""Options of `optimize plan` alone."""

from __future__ import annotations

from typing import Annotated

import typer

from burnish.driver.wishes import OBJECTIVES

WriteCluster = Annotated[
    str | None, typer.Option(metavar="FILE", help="Write what was measured as a cluster file.")
]
Tuning = Annotated[
    str | None, typer.Option(metavar="FILE", help="Record of what was measured before.")
]
Stages = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FOLDER", help="Write the stages.")
]
Objective = Annotated[
    str | None,
    typer.Option(
        metavar="WHAT", help="pipeline (default), throughput, or latency.",
        autocompletion=lambda: list(OBJECTIVES),
    ),
]  # fmt: skip
Replicas = Annotated[
    int | None, typer.Option(metavar="N", help="So many copies, on devices of their own.")
]
Shards = Annotated[
    int | None,
    typer.Option(metavar="N", help="So many devices compute each stage, or the whole, together."),
]
MaxDrop = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Loss that sending in fewer bits may cost.")
]
Unchecked = Annotated[
    bool, typer.Option("--no-check", help="Do not run the stages against the model.")
]
