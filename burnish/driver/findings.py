"""The report of a compilation as data, but for what was written and what it was chosen from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from burnish.driver import padding, profile, recovery, stages
from burnish.driver.candidate import Candidate
from burnish.driver.judge import Judge
from burnish.driver.recovery import Recovered
from burnish.driver.request import Request
from burnish.driver.workbench import Workbench
from burnish.optimizer import report, tuner
from burnish.optimizer.model import weight_bytes
from burnish.optimizer.signature import Signature
from burnish.passes.compress.int8.saturation import saturates
from burnish.runtimes.providers import REFERENCE, versions


def facts(
    bench: Workbench, candidate: Candidate, judge: Judge, over_budget: Sequence[dict[str, str]]
) -> dict[str, Any]:
    """What is known of every compilation; the digest is made from it."""
    request, loaded = bench.request, bench.loaded
    compiled, ports = candidate.compiled, candidate.compiled.ports
    model = ports.exposed(compiled.model)
    name, _ = tuner.processor()
    fidelity = judge.facts(candidate)
    return {
        "schema": report.SCHEMA,
        "input": report.file_facts(loaded.files, loaded.model, loaded.sha256),
        "target": report.target_facts(
            request.provider, name, request.threads_used, versions(request.provider), model
        )
        | report.fallen_facts(candidate.fallen)
        | _processor(request, model),
        "signature": Signature.of(loaded.model).as_json(),
        "ports": ports.as_json(),
        "passes": stages.passes(compiled),
        "recovered": recovery.facts(compiled),
        "fidelity": fidelity and fidelity | {"budget": request.max_drop},
        "over_budget": list(over_budget),
        "latency": _latency(bench, candidate),
        "padding": padding.facts(bench, compiled),
        "memory": {
            "weights_bytes": weight_bytes(model),
            "input_weights_bytes": weight_bytes(loaded.model),
        },
        "warnings": bench.warnings,
    }


def details(bench: Workbench, candidate: Candidate, sense: Judge, folder: Path) -> dict[str, Any]:
    """What is in the report for those who look closer, and in no digest.

    Args:
        bench: the input model, laid out for work.
        candidate: the artifact on its way out.
        sense: compares a staged model with the input on a few feeds.
        folder: where models can be staged, where the request asks for a profile.
    """
    compiled = candidate.compiled
    measured = profile.facts(bench, candidate, sense, folder) if bench.request.profile else None
    return {
        "operators": {
            "before": report.operators(bench.loaded.model),
            "after": report.operators(compiled.model),
        },
        "attentions": recovery.attentions(Recovered.of(compiled, bench.sizes()), bench.slots),
        "layers": stages.errors_by_layer(compiled),
        "profile": measured,
    }


def _processor(request: Request, model: ir.Model) -> dict[str, Any]:
    """The processor that the artifact is for, and whether it needs wide sums of bytes."""
    wide = request.provider == REFERENCE and saturates(model)
    return {"cpu": request.target_cpu, "saturates": wide}


def _latency(bench: Workbench, candidate: Candidate) -> dict[str, Any] | None:
    if candidate.timing is None:
        return None
    feed = bench.timing_feed()
    told = report.latency_facts(candidate.timing, bench.sizes())
    return told | {"inputs": {name: list(array.shape) for name, array in feed.items()}}
