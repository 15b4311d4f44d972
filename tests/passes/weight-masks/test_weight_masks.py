"""Masks: how many zeros, where, and what the other weights make up for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import made_up, make_context, run_model
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from samples import Builder, encoder
from test_cli import command_here, report_of, step

from burnish.driver import masking
from burnish.optimizer.activations import Activations
from burnish.optimizer.contract import Feeds, Outcome
from burnish.optimizer.errors import UsageError
from burnish.optimizer.executor import Executor
from burnish.optimizer.pipeline import Compiled, Step, first_asked
from burnish.passes.compress.correlations import gram_of
from burnish.passes.compress.error_feedback import Feedback, Grid, rounded
from burnish.passes.compress.int8.dynamic import DynamicInt8
from burnish.passes.compress.masks.methods import METHODS, masked
from burnish.passes.compress.masks.pattern import Pattern
from burnish.passes.compress.masks.weight_masks import WeightMasks

K, N = 64, 24


def correlated(rows: int, k: int, seed: int) -> np.ndarray:
    """Activations whose channels go together, and a few of which are large."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).standard_normal((k // 4, k))
    x = random.standard_normal((rows, k // 4)) @ mixing + 0.3 * random.standard_normal((rows, k))
    x[:, ::16] *= 6
    return x.astype(np.float32)


def chain() -> Builder:
    """Three products in a row; the last gives an output."""
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["rows", K])
    for index, (k, n) in enumerate(((K, K), (K, N), (N, N))):
        b.linear("x" if not index else f"bent{index - 1}", f"layer{index}", k, n)
        b.op("Tanh", [f"layer{index}"], f"bent{index}")
    b.linear("bent2", "head", N, 5)
    b.op("Identity", ["head"], "y")
    b.output("head", TensorProto.FLOAT, ["rows", 5])
    b.nodes.pop()
    return b


def weights(model: ir.Model) -> dict[str, np.ndarray]:
    named = model.graph.initializers.items()
    found = {name: value.const_value for name, value in named if name.endswith(".weight")}
    return {name: tensor.numpy() for name, tensor in found.items() if tensor is not None}


def seen(executor: Executor, feeds: list[Feeds]) -> Activations:
    return Activations(executor, executor.store(feeds))


@given(st.integers(0, 2**32 - 1), st.sampled_from(["0.1", "0.5", "0.75", "2:4", "1:4", "4:8"]))
@settings(max_examples=30, deadline=None)
def test_as_many_are_zero_as_the_pattern_says(seed: int, text: str) -> None:
    matrix = np.random.default_rng(seed).standard_normal((64, 6)).astype(np.float32)
    pattern, gram = Pattern.of(text), gram_of(correlated(80, 64, seed))
    for method in METHODS:
        found = masked(matrix, gram, method, pattern)
        assert np.isfinite(found).all()
        assert (found == 0).mean() == pytest.approx(pattern.share, abs=0.01)
        if pattern.group:
            groups = found.reshape(-1, pattern.group, found.shape[1])
            assert (np.count_nonzero(groups, axis=1) == pattern.kept).all()
        if method != "sparsegpt":
            assert (found[found != 0] == matrix[found != 0]).all()


@pytest.mark.parametrize("text", ["0.5", "2:4"])
def test_each_method_is_closer_than_the_one_before(text: str) -> None:
    matrix = np.random.default_rng(0).standard_normal((192, 40)).astype(np.float32)
    gram, others = gram_of(correlated(1000, 192, 1)), correlated(500, 192, 2)
    exact = others @ matrix

    def error(method: str) -> float:
        found = others @ masked(matrix, gram, method, Pattern.of(text))
        return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))

    magnitude, wanda, sparsegpt = map(error, METHODS)
    assert wanda < 0.7 * magnitude
    assert sparsegpt < 0.7 * wanda


def test_wanda_looks_at_norms_column_by_column() -> None:
    """|w| times the norm of the input, the lowest of each column (arXiv:2306.11695)."""
    matrix = np.array([[1.0, 4.0], [2.0, 3.0]], np.float32)
    rows = np.array([[3.0, 1.0]], np.float32)
    found = masked(matrix, gram_of(rows), "wanda", Pattern.of("0.5"))
    np.testing.assert_array_equal(found, [[1.0, 4.0], [0.0, 0.0]])


def apply(model: ir.Model, activations: Activations | None = None, **options: Any) -> Outcome:
    return WeightMasks(**options).apply(model, make_context(activations=activations))


def test_all_but_outputs_are_masked_and_the_same_names_stay(executor: Executor) -> None:
    model = chain().model()
    before = weights(model.clone())
    activations = seen(executor, [{"x": correlated(40, K, seed)} for seed in range(4)])
    outcome = apply(model, activations)
    assert outcome.rewrites == 3
    assert [(item.node, item.reason) for item in outcome.refusals] == [
        ("head.product/MatMul", "it gives an output")
    ]
    assert outcome.detail.startswith("50% of 0.0 million weights are zero (sparsegpt, 0.5)")
    assert "no kernel of ONNX Runtime on processors is faster" in outcome.detail
    after = weights(model)
    shares = {name: float((array == 0).mean()) for name, array in after.items()}
    assert shares == pytest.approx(
        {"layer0.weight": 0.5, "layer1.weight": 0.5, "layer2.weight": 0.5, "head.weight": 0.0}
    )
    assert after.keys() == before.keys()
    again = apply(model, activations)
    assert again.rewrites == 0
    assert "it has as many zeros already" in {item.reason for item in again.refusals}


def test_later_layers_see_what_earlier_ones_give(executor: Executor) -> None:
    """The second weight is that for the inputs it has once the first one has its zeros."""
    feeds: list[Feeds] = [{"x": correlated(256, K, seed)} for seed in range(4)]
    model = chain().model()
    original = weights(model.clone())
    apply(model, seen(executor, feeds), sparsity="2:4")
    shown = chain().model()
    shown.graph.initializers["layer0.weight"].const_value = ir.Tensor(
        weights(model)["layer0.weight"], name="layer0.weight"
    )
    shown.graph.outputs.append(next(v for n in shown.graph for v in n.outputs if v.name == "bent0"))
    gram = sum(gram_of(given["bent0"]) for given in run_model(shown, feeds))
    wanted = masked(original["layer1.weight"], gram, "sparsegpt", Pattern.of("2:4"))
    np.testing.assert_allclose(weights(model)["layer1.weight"], wanted, rtol=1e-5, atol=1e-6)


def test_places_that_are_spared_and_groups_that_do_not_fit() -> None:
    model = chain().model()
    before = weights(model.clone())
    outcome = apply(model, method="magnitude", keep=("layer0",))
    assert outcome.rewrites == 2
    np.testing.assert_array_equal(weights(model)["layer0.weight"], before["layer0.weight"])
    outcome = apply(chain().model(), method="magnitude", sparsity="2:5")
    assert "its 64 rows are no groups of 5" in {item.reason for item in outcome.refusals}


def test_without_data_nothing_is_known_of_inputs() -> None:
    outcome = apply(chain().model(), method="wanda")
    assert outcome.rewrites == 0
    assert "its input was not observed" in {item.reason for item in outcome.refusals}


@pytest.mark.parametrize("bits", [8, 4])
def test_zeros_outlive_rounding_by_error_feedback(bits: int) -> None:
    matrix = np.random.default_rng(0).standard_normal((192, 40)).astype(np.float32)
    rows = correlated(1000, 192, 1)
    sparse = masked(matrix, gram_of(rows), "sparsegpt", Pattern.of("2:4"))
    top = 2 ** (bits - 1) - 1
    grid = Grid(np.abs(sparse).max(axis=0, keepdims=True) / top, 0, 192, -top, top)
    codes = rounded(sparse, Feedback(rows), grid)
    assert (codes[sparse == 0] == 0).all()


@pytest.fixture
def bert_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(encoder(width=64, heads=4), path)
    random = np.random.default_rng(0)
    with (tmp_path / "data.jsonl").open("w") as file:
        for _ in range(6):
            ids = random.integers(0, 48, (8, 12))
            feed = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
            file.write(json.dumps({name: item.tolist() for name, item in feed.items()}) + "\n")
    return path


def test_the_command_masks_then_rounds_and_stores_without_zeros(bert_file: Path) -> None:
    data = bert_file.with_name("data.jsonl")
    options = ("--sparsity", "2:4", "--int8", "--data", data, "--max-drop", 1, "--no-measure")
    report = report_of(bert_file, *options, "--force", "--sparse-storage")
    masks = step(report, "weight-masks")
    assert any("make nothing faster on cpu" in note for note in report["warnings"])
    assert masks["status"] == "kept"
    assert masks["options"]["method"] == "sparsegpt"
    assert step(report, "int8")["status"] == "kept"
    artifact = ir.from_proto(onnx.load(bert_file.with_name("model.int8.onnx")))
    feed = made_up(artifact)[0]
    assert np.isfinite(run_model(artifact, [feed])[0]["logits"]).all()


def test_zeros_are_in_the_integers(bert_file: Path) -> None:
    data = bert_file.with_name("data.jsonl")
    report_of(bert_file, "--sparsity", "2:4", "--int8", "--data", data, "--max-drop", 1,
              "--no-measure", "--force")  # fmt: skip
    model = ir.from_proto(onnx.load(bert_file.with_name("model.int8.onnx")))
    found = 0
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if node.op_type not in ("MatMulInteger", "DynamicQuantizeMatMul"):
            continue
        tensor = node.inputs[1].const_value if node.inputs[1] is not None else None
        if tensor is not None and len(tensor.shape) == 2 and tensor.shape[0] % 4 == 0:
            groups = tensor.numpy().reshape(-1, 4, tensor.numpy().shape[1])
            found += bool((np.count_nonzero(groups, axis=1) <= 2).all())
    assert found >= 6


@pytest.mark.parametrize(
    ("sparsity", "provider", "told"),
    [
        ("0.5", "cpu", "make nothing faster on cpu"),
        ("0.5", "tensorrt", "unless they are 2:4"),
        ("4:8", "tensorrt", "unless they are 2:4"),
        ("2:4", "tensorrt", "only where sparse weights are turned on"),
        ("1:4", "tensorrt", "only where sparse weights are turned on"),
    ],
)
def test_the_report_says_where_zeros_gain_nothing(sparsity: str, provider: str, told: str) -> None:
    assert told in masking.caveat(sparsity, provider)


@given(st.integers(0, 999), st.integers(2, 9), st.data())
@settings(max_examples=60, deadline=None)
def test_what_counts_as_two_of_four(seed: int, group: int, data: st.DataObject) -> None:
    """Patterns that do have no more in any four rows, and those that do not have somewhere."""
    kept = data.draw(st.integers(1, group - 1))
    pattern = Pattern.of(f"{kept}:{group}")
    scores = np.random.default_rng(seed).random((group * 4, 400))
    left = ~pattern.lowest(scores).reshape(-1, 4, 400)
    assert pattern.two_of_four == (left.sum(axis=1).max() <= 2)


@pytest.mark.parametrize("text", ["0", "1", "4:2", "0:4", "half", "nan", "2:4:8", ""])
def test_patterns_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="is no share of weights"):
        Pattern.of(text)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("0.5", "best", False), "--mask best is not known"),
        ((None, "wanda", True), "--mask is how weights become zero"),
        (("2:4", "wanda", False), "--mask wanda looks at activations"),
    ],
)
def test_orders_that_make_no_sense(arguments: tuple[Any, Any, bool], line: str) -> None:
    sparsity, mask, runs = arguments
    with pytest.raises(UsageError, match=line):
        masking.validate(sparsity, mask, runs=runs)


def test_the_error_is_a_line(bert_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_here(bert_file, "--sparsity", "3", "-q") == 2
    assert "--sparsity 3 is no share of weights; try 0.5 or 2:4" in capsys.readouterr().err


def test_masks_stay_where_the_model_is_no_faster() -> None:
    """Of what was asked for, int8 goes first, and masks, which are for size, not at all."""
    model = chain().model()
    done = [Step(kind(), "kept", Outcome(1)) for kind in (WeightMasks, DynamicInt8)]
    assert first_asked(Compiled(model, tuple(done), (model, model))) == 1
    assert first_asked(Compiled(model, tuple(done[:1]), (model,))) is None
