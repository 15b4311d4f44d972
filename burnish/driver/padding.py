"""What the report says of padding: how much there is, and what leaving it out saves."""

from __future__ import annotations

from typing import Any

from burnish.driver.workbench import Workbench
from burnish.optimizer import feeds
from burnish.optimizer.analysis.costs.products import matrix_flops
from burnish.optimizer.analysis.tokens import packing
from burnish.optimizer.contract import Phase, Refusal
from burnish.optimizer.pipeline import Compiled
from burnish.passes.restructure.pack import Pack


def facts(bench: Workbench, compiled: Compiled) -> dict[str, Any] | None:
    """Padding of the user's data, or of the inputs that packing was timed with; None without.

    `share` is that of tokens that are padding, `saved` that of all products' work which packing
    leaves out (where it may be done; else `refused` says why not), `packed` whether it was done,
    and `made_up` that the share is not the user's.
    """
    request = bench.request
    share, made_up = bench.padding, False
    if request.pack and not request.data and request.measure and not bench.untimed:
        share, made_up = feeds.padding([bench.timing_feed()], bench.slots), True
    if not share:
        return None
    packed = any(step.transform.name == Pack.name for step in compiled.kept)
    found: dict[str, Any] = {"share": round(share, 4), "packed": packed, "made_up": made_up}
    part = packable(bench, compiled)
    return found | (
        {"refused": part} if isinstance(part, str) else {"saved": round(share * part, 4)}
    )


def packable(bench: Workbench, compiled: Compiled) -> float | str:
    """The share of the products' work that runs on tokens, or why that may not be packed."""
    late = (Phase.COMPRESS, Phase.LOWER)
    model = compiled.model
    for step, snapshot in zip(compiled.steps, compiled.snapshots, strict=True):
        if step.transform.name == Pack.name or step.transform.phase in late:
            model = snapshot.clone()
            break
    masks = packing.masks(model)
    if isinstance(masks, str):
        return masks
    sizes = bench.sizes()
    whole = sum(matrix_flops(bench.loaded.model, bench.shapes()).values())
    tokens, part, refused = sizes["batch"] * sizes["sequence"], 0.0, ""
    for mask in masks:
        plan = packing.plan(model, mask)
        if isinstance(plan, Refusal):
            refused = refused or plan.reason
            continue
        for node in plan.products:
            assert node.inputs[1] is not None
            weight = plan.layout.dims(node.inputs[1]) or ()
            part += 2.0 * tokens * float(weight[0] * weight[1])  # type: ignore[operator]
    return min(1.0, part / whole) if part and whole else refused or "no products run on tokens"
