"""The command `optimize serve`: parse, call the driver, wait for the end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Annotated

import typer

from burnish.commands import options
from burnish.commands.terminal import errors, errors_as_lines, given
from burnish.driver import Request
from burnish.driver.serving import scale_of, serving
from burnish.optimizer.errors import UsageError, printable

LOOK = 5.0
"""Seconds between two looks whether the cluster is there."""


def serve(
    context: typer.Context,
    artifact: options.Artifact,
    host: Annotated[
        str, typer.Option(metavar="ADDR", help="Where HTTP comes in; default: this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of HTTP.")] = 8000,
    replicas: Annotated[int, typer.Option(min=1, help="How many answer at a time.")] = 1,
    autoscale: Annotated[
        str | None, typer.Option(metavar="MIN:MAX", help="As many replicas as there is work for.")
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, max=1024, help="Most requests that are answered together.")
    ] = 8,
    wait: Annotated[
        float, typer.Option(min=0.0, max=60.0, help="Seconds that the first of a batch waits.")
    ] = 0.01,
    queue: Annotated[
        int, typer.Option(min=1, help="Requests that may wait; more are refused with 503.")
    ] = 100,
    address: Annotated[
        str,
        typer.Option(metavar="ADDR", help="Ray cluster: auto, HOST:PORT, or local for its own."),
    ] = "local",
    task: options.Task = None,
    provider: options.Provider = "cpu",
    threads: options.Threads = 0,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Answer HTTP requests on a Ray cluster: JSON in, JSON out; Ctrl-C ends it."""

    with errors_as_lines(artifact, debug):
        if autoscale and "replicas" in given(context):
            raise UsageError("--replicas and --autoscale exclude each other")
        request = Request(artifact, task=task, provider=provider, threads=threads)
        least, most = scale_of(replicas, autoscale)
        say = (lambda words: None) if quiet else _say
        service, example = serving(
            request, address, say, host=host, port=port, replicas=(least, most),
            batch=batch, wait=wait, queue=queue,
        )  # fmt: skip
        with service:
            count = f"{least}" if least == most else f"{least} to {most}"
            about = service.facts["task"] or "arrays"
            told = f"serving {about} from {artifact} at {service.url}, replicas: {count}"
            print(printable(told), flush=True)
            print(f"try: {example}", flush=True)
            _until_interrupted(service.check)
            say("ending")


def _say(words: str) -> None:
    errors.print(printable(words), markup=False)


def _until_interrupted(check: Callable[[], None]) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(LOOK)
            check()
