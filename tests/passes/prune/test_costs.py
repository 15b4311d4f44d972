"""What sites cost at their widths: operations, times of samples, and what a speed-up takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from harness import made_up, make_context
from samples import encoder
from test_prune import SIZES, recovered

from burnish.optimizer.activations import Activations
from burnish.optimizer.analysis import shapes
from burnish.optimizer.analysis.channels.sites import find_sites
from burnish.optimizer.contract import Choice
from burnish.optimizer.executor import Executor
from burnish.passes.compress.pruning.costs import operations, shape_of, times
from burnish.passes.compress.pruning.levels import Form, widths
from burnish.passes.compress.pruning.prune import Prune
from burnish.passes.compress.pruning.sample import layers


@pytest.fixture(scope="module")
def model() -> ir.Model:
    return recovered(ir.from_proto(encoder(layers=1, width=32, heads=4)))


def measured(key: str, forms: Mapping[str, Callable[[], onnx.ModelProto]], rule: str) -> Choice:
    """A machine on which time goes by the size of the model."""
    whole, narrow = (len(build().SerializeToString()) for build in forms.values())
    return Choice("narrow", whole / narrow, measured=True, ms=whole / 1000)


def test_operations_fall_with_the_width(model: ir.Model) -> None:
    context = make_context(sizes=SIZES, shapes=shapes.infer(model, SIZES))
    for site in find_sites(model)[0]:
        found = [operations(site, Form(width), context) for width in widths(site)]
        assert found == sorted(found, reverse=True)
        assert found[-1] == 0.0
    channels = find_sites(model)[0][1]
    rows = SIZES["batch"] * SIZES["sequence"]
    assert operations(channels, Form(64), context) == 2 * rows * 64 * 2 * 32


def test_samples_run_at_every_width(model: ir.Model) -> None:
    context = make_context(sizes=SIZES, shapes=shapes.infer(model, SIZES))
    for site in find_sites(model)[0]:
        shape = shape_of(site, context)
        for width in widths(site)[:-1]:
            message = layers(shape, Form(width)).SerializeToString()
            session = onnxruntime.InferenceSession(message, providers=["CPUExecutionProvider"])
            axes = session.get_inputs()[0].shape
            (given,) = session.run(None, {"x": np.ones(axes, np.float32)})
            assert given.shape == (*axes[:2], 32)


def test_times_lie_between_those_measured(model: ir.Model) -> None:
    context = make_context(measured, sizes=SIZES, shapes=shapes.infer(model, SIZES))
    for site in find_sites(model)[0]:
        found = times(site, [Form(width) for width in widths(site)], context)
        assert found is not None
        assert found == sorted(found, reverse=True)
        assert found[-1] == 0.0


@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
def test_products_of_samples_are_of_the_precision(model: ir.Model, int8: bool) -> None:
    context = make_context(sizes=SIZES, shapes=shapes.infer(model, SIZES))
    for site in find_sites(model)[0]:
        sample = layers(shape_of(site, context), Form(site.units), int8=int8)
        operators = {node.op_type for node in sample.graph.node}
        assert ("MatMulInteger" in operators, "MatMul" in operators) == (int8, not int8)
        onnxruntime.InferenceSession(sample.SerializeToString(), providers=["CPUExecutionProvider"])


def test_in_int8_a_form_takes_what_the_faster_precision_does(model: ir.Model) -> None:
    def chosen(key: str, forms: Mapping[str, Callable[[], onnx.ModelProto]], rule: str) -> Choice:
        plain = measured(key, {name: forms[name] for name in ("whole", "narrow")}, rule)
        if "int8" not in forms:
            return plain
        assert key.endswith(" in int8")
        return Choice("int8", plain.speedup * 2, measured=True, ms=plain.ms)

    context = make_context(chosen, sizes=SIZES, shapes=shapes.infer(model, SIZES))
    for site in find_sites(model)[0]:
        forms = [Form(width) for width in widths(site)]
        plain, small = (times(site, forms, context, int8=int8) for int8 in (False, True))
        assert plain is not None and small is not None
        assert small == pytest.approx([item / 2 for item in plain])


def test_a_speed_up_of_the_layers_is_reached(model: ir.Model, executor: Executor) -> None:
    activations = Activations(executor, executor.store(made_up(model)), ["attention_mask"])
    known = shapes.infer(model, SIZES)
    context = make_context(measured, sizes=SIZES, shapes=known, activations=activations)
    copy = model.clone()
    outcome = Prune(share=None, speedup=1.5).apply(copy, context)
    spent = {width: 0.0 for width in ("before", "after")}
    sites = {site.key: site for site in find_sites(model)[0]}
    for row in outcome.pruned:
        site = sites[row.site]
        forms = [Form(row.before), Form(row.after, row.sizes, row.rank or 0)]
        before, after = times(site, forms, context) or []
        spent["before"] += before
        spent["after"] += after
    assert spent["before"] >= 1.49 * spent["after"]
