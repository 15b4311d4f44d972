"""The job of `optimize inspect` on a graph, inside its sandboxed child."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import onnx_ir as ir

from burnish.driver import recovery
from burnish.driver.obstacles import obstacles
from burnish.driver.plan import passes_for
from burnish.driver.prospects import cache_bytes, counted, prospects
from burnish.driver.recovery import Recovered
from burnish.driver.request import request_from
from burnish.driver.workbench import Emit, Workbench, open_model
from burnish.optimizer import feeds, report
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.architecture import architecture, headline
from burnish.optimizer.analysis.costs.parameters import parameters
from burnish.optimizer.analysis.costs.scaling import Scaling, peak, scaling, told_at
from burnish.optimizer.analysis.costs.work import work
from burnish.optimizer.model import initializers, weight_bytes
from burnish.optimizer.roles import Role
from burnish.optimizer.signature import Signature


def inspect_model(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """What the model is, what would be recovered and gained, and the work and memory of a run."""
    request = replace(request_from(argument), check=False, measure=False)
    with open_model(request, emit) as bench:
        bench.accept()
        model, loaded = bench.loaded.model, bench.loaded
        return {
            "schema": report.SCHEMA,
            # No digest: reading every weight would take most of the time.
            "input": report.file_facts(loaded.files, model),
            "producer": " ".join(filter(None, (model.producer_name, model.producer_version))),
            "least_onnxruntime": report.least_runtime(model),
            "signature": Signature.of(model).as_json(),
            "roles": {slot.port.name: slot.role.value for slot in bench.slots},
            "operators": report.operators(model),
            "memory": {"weights_bytes": weight_bytes(model)},
            "passes": [item.name for item in passes_for(replace(request, int8=True))],
            **_network(bench),
        }


def _network(bench: Workbench) -> dict[str, Any]:
    """What the recovered graph tells: the architecture, where its work is, what would help."""
    model, slots, sizes = bench.loaded.model, bench.slots, bench.sizes()
    compiled = recovery.recover(bench)
    recovered = Recovered.of(compiled, sizes)
    account = recovery.facts(compiled)
    attentions = recovery.attentions(recovered, slots)
    known = (recovered.model, recovered.places, recovered.shapes)
    kind = architecture(*known, slots, attentions).as_json()
    flops = work(model, shapes.infer(model, sizes, bounded=True)).as_json()
    growth = scaling(model, partial(_shapes, bench), kind["limit"])
    counts = counted(
        recovered, sum(file.stat().st_size for file in bench.loaded.files), growth=growth.flops,
        facts=kind, attentions=attentions,
        shares={name: part / flops["total"] for name, part in flops["by_kind"].items()},
    )  # fmt: skip
    return {
        "headline": headline(kind),
        "architecture": kind,
        "weights": _weights(model) | parameters(recovered.model, recovered.places).as_json(),
        "products": {
            "count": len(counts.products),
            "parameters": sum(item.k * item.n for item in counts.weights.values()),
            "left": [asdict(item) for item in counts.refusals],
        },
        "recovered": account,
        "attentions": attentions,
        "flops": {"shape": sizes, **flops},
        "scaling": _scaling(bench, growth, kind["limit"]),
        "options": prospects(bench, compiled, counts),
        "obstacles": obstacles(model, slots, account, attentions, bench.warnings),
    }


def _shapes(bench: Workbench, batch: int, length: int) -> Mapping[str, tuple[int, ...]]:
    """Shapes of the model's values at a batch and a length; other sizes as they are for timing."""
    ports = tuple(slot.port for slot in bench.slots)
    chosen = replace(feeds.default_sizes(bench.slots), batch=batch, sequence=length)
    image = dict(bench.request.shape).get("image", chosen.image)
    sizes = replace(chosen, image=image).assign(ports)
    return shapes.infer(bench.loaded.model, {"batch": batch, "sequence": length, **sizes})


def _scaling(bench: Workbench, growth: Scaling, limit: int) -> dict[str, Any]:
    """Work and memory by batch and length, as data; lengths past what the model knows left out."""
    model = bench.loaded.model
    types = shapes.element_types(model)
    law = growth.flops
    rows = []
    for batch, length in told_at(limit, law is None or law.grows):
        at = (batch, length or 1)
        rows.append(
            {
                "batch": batch,
                "length": length,
                "flops": law.at(*at) if law is not None else None,
                "values_bytes": peak(model, growth, types, *at),
            }
        )
    return {
        "flops": growth.flops.as_json() if growth.flops is not None else None,
        "unknown": growth.unknown,
        "rows": rows,
        "cache_bytes_per_token": cache_bytes(
            [slot.port for slot in bench.slots if slot.role is Role.PAST]
        ),
    }


def _weights(model: ir.Model) -> dict[str, Any]:
    types: dict[str, dict[str, int]] = {}
    for value in initializers(model):
        tensor = value.const_value
        assert tensor is not None
        entry = types.setdefault(tensor.dtype.name, {"tensors": 0, "elements": 0, "bytes": 0})
        entry["tensors"] += 1
        entry["elements"] += tensor.size
        entry["bytes"] += tensor.nbytes
    return {"parameters": sum(item["elements"] for item in types.values()), "types": types}
