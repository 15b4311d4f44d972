"""`optimize plan`: a model cut over several devices."""

from __future__ import annotations

import typer

from burnish import driver
from burnish.commands import options
from burnish.commands import plan_options as asked
from burnish.commands.terminal import errors, errors_as_lines, progress_shown, show, write_text
from burnish.driver import Request
from burnish.driver.sending import failed
from burnish.optimizer.errors import printable
from burnish.rendering.plan import render_plan
from burnish.rendering.shards import render_shards


def plan(
    model: options.Model,
    cluster: options.Cluster = None,
    devices: options.Devices = None,
    write_cluster: asked.WriteCluster = None,
    tuning: asked.Tuning = None,
    output: asked.Stages = None,
    wire: options.Wire = "float32",
    objective: asked.Objective = None,
    replicas: asked.Replicas = None,
    shards: asked.Shards = None,
    shape: options.Shape = None,
    data: options.Data = None,
    tokenizer: options.Tokenizer = None,
    max_drop: asked.MaxDrop = 0.01,
    no_check: asked.Unchecked = False,
    seed: options.Seed = 0,
    json_file: options.Json = None,
    memory_limit: options.Memory = None,
    time_limit: options.Seconds = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Cut a model into stages for devices, or split it over ranks, and say how good that is."""
    with errors_as_lines(model, debug):
        request = Request(
            model, shape=options.shape_of(shape), check=not no_check, seed=seed,
            memory_limit=options.bytes_of(memory_limit), time_limit=time_limit,
            data=data, tokenizer=tokenizer, max_drop=max_drop, tuning=tuning,
        )  # fmt: skip
        with progress_shown(quiet) as progress:
            facts = driver.plan_stages(
                request, cluster, output, progress, devices=devices, wire=wire,
                objective=objective, replicas=replicas, shards=shards,
            )  # fmt: skip
        if write_cluster and "cluster" in facts:
            write_text(write_cluster, facts["cluster"], "the cluster")
        render = render_plan if cluster or devices else render_shards
        show(facts, json_file, quiet, lambda console: render(console, facts))
        if missed := failed(facts, max_drop):
            errors.print(printable(f"error: {model}: {missed}"), markup=False)
            raise typer.Exit(1)
