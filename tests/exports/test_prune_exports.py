"""Pruning on real exports: what a cut computes, ports, and what comes behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
import transformers as hf
from architectures import CASES, SMALL, Case
from harness import made_up, make_checker, make_context, ruled, run_model

from burnish.driver.plan import passes_for
from burnish.driver.request import Request
from burnish.optimizer import pipeline
from burnish.optimizer.activations import Activations
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.channels.sites import Site, find_sites
from burnish.optimizer.contract import relative_l2
from burnish.optimizer.executor import Executor
from burnish.optimizer.signature import Signature
from burnish.passes.compress.pruning.cutting import cut
from burnish.passes.compress.pruning.levels import widths

SIZES = {"batch": 2, "sequence": 16}

CHOSEN = (
    "albert", "bert-eager", "gpt2", "llama", "llama-cached", "modernbert", "swin", "t5-encoder",
    "vit",
)  # fmt: skip


def falcon() -> torch.nn.Module:
    """All heads of queries share one of keys, and one product gives all of them."""
    return hf.FalconForCausalLM(hf.FalconConfig(**SMALL, vocab_size=300))


ONE_OF_EACH = {case.name: case for case in CASES if case.name in CHOSEN} | {
    "falcon": Case("falcon", falcon, "torchscript", 17)
}
BEHIND = ("merge-projections", "compose-moves", "pack", "attention-form")
"""Passes that read numbers of heads, or how products are laid out."""

REPAIRED = ("albert", "falcon", "llama", "llama-cached", "vit")
"""Models that a share goes of, too: shared weights, grouped queries, caches, and images."""


@pytest.fixture(scope="module", params=ONE_OF_EACH.values(), ids=str)
def recovered(request: pytest.FixtureRequest, exports: Callable[[Case], Path]) -> ir.Model:
    return recover(exports(request.param))


def recover(path: Path) -> ir.Model:
    model = ir.from_proto(onnx.load(path))
    passes = [item for item in passes_for(Request("model.onnx")) if item.phase.value == "recover"]
    context = make_context(sizes=SIZES, shapes=shapes.infer(model, SIZES))
    chosen = [item for item in passes if item.name != "onnxsim"]
    return pipeline.run(model, chosen, context, None).model


def narrower(site: Site, number: int) -> tuple[int, ...]:
    """Units for one of the widths of a site, another one at each: the last ones of each group."""
    found = widths(site)
    width = found[number % (len(found) - 1) + 1] if len(found) > 1 else site.units
    groups = site.groups if site.keys_stay or site.shared == 1 else width // site.shared
    groups = min(groups, width) or 1
    members = np.arange(site.units).reshape(-1, site.shared)
    if site.shared == 1 and not site.keys_stay:
        return tuple(range(site.units - width, site.units))
    each = width // groups
    chosen = members[len(members) - groups :, site.shared - each :]
    return tuple(sorted(chosen.reshape(-1).tolist())) if width else ()


def zeroed(model: ir.Model, choice: dict[str, tuple[int, ...]]) -> ir.Model:
    copy = model.clone()
    for site in find_sites(copy)[0]:
        every = np.arange(site.units * site.size)
        kept = choice[site.key]
        gone = np.setdiff1d(every, site.rows(kept)) if kept else every
        for product in site.readers:
            array = product.weight.const_value.numpy().copy()  # type: ignore[union-attr]
            (array.T if product.transposed else array)[gone] = 0
            product.weight.const_value = ir.Tensor(array)
    return copy


def test_heads_that_differ_by_layer(recovered: ir.Model, executor: Executor) -> None:
    """Every site is narrower by another number; the passes behind take that as it is."""
    sites = find_sites(recovered)[0]
    choice = {site.key: narrower(site, number) for number, site in enumerate(sites)}
    model = cut(recovered, choice)
    assert Signature.of(recovered).difference(Signature.of(model)) == ""
    feeds = made_up(recovered)
    expected, given = run_model(zeroed(recovered, choice), feeds), run_model(model, feeds)
    for mine, theirs in zip(expected, given, strict=True):
        assert max(relative_l2(mine[name], theirs[name]) for name in mine) < 2e-5
    request = Request("model.onnx", pack=True)
    passes = [item for item in passes_for(request) if item.name in BEHIND]
    context = make_context(sizes=SIZES, shapes=shapes.infer(model, SIZES))
    compiled = pipeline.run(model, passes, context, make_checker(executor, model).check)
    assert not [step.reason for step in compiled.steps if step.status == "rejected"]


@pytest.mark.parametrize("name", REPAIRED)
def test_a_share_goes(name: str, exports: Callable[[Case], Path], executor: Executor) -> None:
    """With repair, on what its own feeds say: legal, ports as they were, and still a model."""
    recovered = recover(exports(ONE_OF_EACH[name]))
    feeds = made_up(recovered)
    activations = Activations(executor, executor.store(feeds), ["attention_mask"])
    known = shapes.infer(recovered, SIZES)
    context = make_context(ruled, sizes=SIZES, shapes=known, activations=activations)
    request = Request("model.onnx", prune="0.3", data="feeds")
    passes = [item for item in passes_for(request) if item.name == "prune"]
    compiled = pipeline.run(recovered, passes, context, make_checker(executor, recovered).check)
    (step,) = compiled.steps
    assert step.status == "kept", step.reason
    assert step.outcome.pruned
    assert Signature.of(recovered).difference(Signature.of(compiled.model)) == ""
