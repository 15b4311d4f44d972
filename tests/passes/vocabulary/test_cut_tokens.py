"""Tokens leave the embedding and the head: what follows them, what is renumbered, what refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from harness import last_form, made_up, make_context, run_model
from onnx import TensorProto
from samples import Builder

from burnish.optimizer.contract import Feeds, Outcome, relative_l2
from burnish.optimizer.executor import Executor
from burnish.optimizer.undefined import cleared
from burnish.optimizer.verify import Checker
from burnish.passes.compress.blockwise.weight_only import WeightOnly
from burnish.passes.compress.int8.dynamic import DynamicInt8
from burnish.passes.compress.vocabulary.vocabulary import NOT_HERE, Vocabulary

ROWS, WIDTH = 96, 32
KEPT = (1, 2, 5, 7, *range(20, 60, 2), 70, 95)

Write = Callable[[Builder], str]


def graph(
    write: Write | None = None, head: Write | None = None, *, rows: int = ROWS, seed: int = 0
) -> ir.Model:
    """Rows of a table go through a layer to logits; `write` gives more of them from ids."""
    b = Builder(seed)
    b.input("input_ids", TensorProto.INT64, ["batch", "sequence"])
    b.normal("words", rows, WIDTH)
    b.op("Gather", ["words", "input_ids"], "embedded")
    hidden = b.linear("embedded", "dense", WIDTH, WIDTH)
    if write is not None:
        b.op("Add", [hidden, write(b)], "hidden")
        hidden = "hidden"
    b.op("Tanh", [hidden], "state")
    b.output("state", TensorProto.FLOAT, ["batch", "sequence", WIDTH])
    if head is not None:
        b.op("Identity", [head(b)], "logits")
        b.output("logits", TensorProto.FLOAT, ["batch", "sequence", rows])
    return b.model(20)


def untied(b: Builder) -> str:
    return b.linear("state", "scores", WIDTH, ROWS)


def tied(b: Builder) -> str:
    b.op("Transpose", ["words"], "turned", perm=[1, 0])
    return b.op("MatMul", ["state", "turned"], "scores")


def flat(b: Builder) -> str:
    """`Gemm` on flat rows, brought back to its axes by a size that is that of the vocabulary."""
    b.constant("rows", [-1, WIDTH], np.int64)
    b.constant("whole", [0, -1, ROWS], np.int64)
    b.normal("bias", ROWS)
    b.op("Reshape", ["state", "rows"], "flat")
    b.op("Gemm", ["flat", "words", "bias"], "product", transB=1)
    b.op("Shape", ["input_ids"], "sizes")
    b.constant("last", [ROWS], np.int64)
    b.op("Concat", ["sizes", "last"], "shape", axis=0)
    return b.op("Reshape", ["product", "shape"], "scores")


def capped(b: Builder) -> str:
    """Logits between bounds, and some of them suppressed."""
    b.constant("cap", 30.0)
    b.constant("hidden_tokens", np.where(np.arange(ROWS) % 5 == 0, -100.0, 0.0))
    b.op("Div", [untied(b), "cap"], "less")
    b.op("Tanh", ["less"], "bounded")
    b.op("Mul", ["cap", "bounded"], "more")
    return b.op("Add", ["more", "hidden_tokens"], "suppressed")


HEADS: dict[str, Write | None] = {
    "none": None, "untied": untied, "tied": tied, "flat": flat, "capped": capped
}  # fmt: skip


def padding(b: Builder) -> str:
    """Positions counted over tokens other than the padding, as RoBERTa's are."""
    b.constant("pad", 1, np.int64)
    b.normal("places", 64, WIDTH)
    b.op("Equal", ["input_ids", "pad"], "is_pad")
    b.op("Not", ["is_pad"], "real")
    b.op("Cast", ["real"], "ones", to=TensorProto.INT64)
    b.constant("along", 1, np.int64)
    b.op("CumSum", ["ones", "along"], "count")
    b.op("Mul", ["count", "ones"], "positions")
    return b.op("Gather", ["places", "positions"], "placed")


def end(b: Builder) -> str:
    """The state of the largest id, as CLIP takes it."""
    b.op("Cast", ["input_ids"], "short", to=TensorProto.INT32)
    b.op("ArgMax", ["short"], "where", axis=-1)
    b.constant("depth", 64, np.int64)
    b.constant("off_on", [0.0, 1.0])
    b.op("OneHot", ["where", "depth", "off_on"], "marks")
    b.normal("marked.weight", 64, WIDTH)
    return b.op("MatMul", ["marks", "marked.weight"], "marked")


def shifted(b: Builder) -> str:
    """Ids moved by one behind a start token, -100 as padding: the way into BART's decoder."""
    for name, value in (("zero", [0]), ("minus", [-1]), ("axis", [1])):
        b.constant(name, value, np.int64)
    b.constant("start_token", [[2]], np.int64)
    b.constant("ignored", -100, np.int64)
    b.constant("pad", 1, np.int64)
    b.op("Slice", ["input_ids", "zero", "minus", "axis"], "earlier")
    b.op("Shape", ["input_ids"], "batch", end=1)
    b.constant("one", [1], np.int64)
    b.op("Concat", ["batch", "one"], "column", axis=0)
    b.op("Expand", ["start_token", "column"], "start")
    b.op("Concat", ["start", "earlier"], "moved", axis=1)
    b.op("Equal", ["moved", "ignored"], "is_ignored")
    b.op("Where", ["is_ignored", "pad", "moved"], "decoder_ids")
    return b.op("Gather", ["words", "decoder_ids"], "decoder_rows")


def bounds(b: Builder) -> str:
    """Ids on either side of some that are kept and some that are not."""
    b.constant("wide", [1.0] * WIDTH)
    b.constant("axis", [-1], np.int64)
    found = []
    for index, (kind, place, bound) in enumerate(
        [("Less", 0, 24), ("Greater", 0, 25), ("LessOrEqual", 1, 70), ("GreaterOrEqual", 1, 51),
         ("Greater", 1, 22), ("Equal", 0, 30), ("Equal", 0, 31)]
    ):  # fmt: skip
        b.constant(f"bound{index}", bound, np.int64)
        inputs = ["input_ids", f"bound{index}"]
        b.op(kind, inputs[::-1] if place else inputs, f"side{index}")
        b.op("Cast", [f"side{index}"], f"flag{index}", to=TensorProto.FLOAT)
        found.append(f"flag{index}")
    b.op("Sum", found, "sides")
    b.op("Unsqueeze", ["sides", "axis"], "lifted")
    return b.op("Mul", ["lifted", "wide"], "sided")


READERS: dict[str, Write | None] = {
    "nothing": None, "padding": padding, "end": end, "shifted": shifted, "bounds": bounds
}  # fmt: skip


def check(model: ir.Model, outcome: Outcome, after: ir.Model, bound: float = 1e-6) -> None:
    """Outputs are as they were on kept ids; also those of the artifact, with new ids."""
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    feeds = made_up(model, allowed=KEPT)
    assert len(feeds) >= 4
    wanted = [
        cleared(item, feed, outcome.undefined)
        for item, feed in zip(run_model(model, feeds), feeds, strict=True)
    ]
    compare(wanted, run_model(after, feeds), bound)
    if (numbers := outcome.renumbering) is not None:
        artifact = numbers.exposed(after)
        given = run_model(artifact, [numbers.renumbered(feed) for feed in feeds])
        compare(wanted, [numbers.restored(item) for item in given], bound)


def compare(wanted: list[dict[str, np.ndarray]], given: list[Feeds], bound: float) -> None:
    for mine, theirs in zip(wanted, given, strict=True):
        for name, array in mine.items():
            assert relative_l2(array, theirs[name]) <= bound, name


@pytest.mark.parametrize("keep_ids", [False, True])
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("head", HEADS)
def test_kept_tokens_give_what_they_gave(head: str, reader: str, keep_ids: bool) -> None:
    model = graph(READERS[reader], HEADS[head])
    after = model.clone()
    outcome = Vocabulary(KEPT, keep_ids).apply(after, make_context())
    assert not outcome.refusals
    assert outcome.rewrites == 1 + (reader == "shifted") + (head != "none")
    assert (outcome.renumbering is None) == keep_ids
    check(model, outcome, after)
    weights = {name: value.const_value for name, value in after.graph.initializers.items()}
    floats = [tensor for tensor in weights.values() if tensor.dtype is ir.DataType.FLOAT]
    assert not [tensor for tensor in floats if ROWS in tensor.shape.numpy()]
    again = Vocabulary(KEPT, keep_ids).apply(after.clone(), make_context())
    assert again.rewrites == 0


@pytest.mark.parametrize("head", ["untied", "tied"])
@pytest.mark.parametrize(
    "transform", [DynamicInt8(force=True), WeightOnly(4, force=True), WeightOnly(8, force=True)],
    ids=["int8", "int4", "int8-weights"],
)  # fmt: skip
def test_few_bits_before_and_after(
    transform: DynamicInt8 | WeightOnly, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that comes in few bits is cut as well; the ports survive passes behind."""
    for module in ("burnish.passes.compress.lookups",):
        monkeypatch.setattr(f"{module}.SMALLEST_TABLE", 1)
    context = make_context(last_form)
    model = graph(padding, HEADS[head])
    quantized = model.clone()
    assert transform.apply(quantized, context).rewrites > 1
    after = quantized.clone()
    outcome = Vocabulary(KEPT).apply(after, context)
    assert outcome.rewrites, outcome.refusals
    check(quantized, outcome, after, 0.02 if head == "none" else 1e-5)
    later = model.clone()
    outcome = Vocabulary(KEPT).apply(later, context)
    assert transform.apply(later, context).rewrites > 1
    check(model, outcome, later, 0.2)


def test_cut_ids_are_unknown_ones_or_an_error() -> None:
    model, feed = graph(), {"input_ids": np.array([[1, 7, 8, 9]])}
    after, strict = model.clone(), model.clone()
    Vocabulary(KEPT, True, 7).apply(after, make_context())
    (given,) = run_model(after, [feed])
    (wanted,) = run_model(model, [{"input_ids": np.array([[1, 7, 7, 7]])}])
    assert relative_l2(wanted["state"], given["state"]) <= 1e-6
    Vocabulary(KEPT, True).apply(strict, make_context())
    with pytest.raises(Exception, match="indices element out of data bounds"):
        run_model(strict, [feed])


def test_cut_logits_are_minus_infinity() -> None:
    model = graph(None, untied)
    after = model.clone()
    Vocabulary(KEPT, True).apply(after, make_context())
    (given,) = run_model(after, [{"input_ids": np.array([KEPT])}])
    cut = np.setdiff1d(np.arange(ROWS), KEPT)
    assert (given["logits"][..., cut] == -np.inf).all()
    assert np.isfinite(given["logits"][..., KEPT]).all()


def _softmax(b: Builder) -> str:
    return b.op("Softmax", [untied(b)], "shares", axis=-1)


def _best(b: Builder) -> str:
    b.op("ArgMax", [untied(b)], "best", axis=-1)
    b.output("best", TensorProto.INT64, ["batch", "sequence", 1])
    return "scores"


def _reordered(b: Builder) -> str:
    b.constant("order", np.arange(ROWS)[::-1], np.int64)
    return b.op("Gather", [untied(b), "order"], "turned", axis=2)


def _without_product(b: Builder) -> str:
    b.constant("axis", [-1], np.int64)
    b.constant("spread", np.ones(ROWS))
    b.op("ReduceSum", ["state", "axis"], "sum")
    return b.op("Mul", ["sum", "spread"], "scores")


def _hashed(b: Builder) -> str:
    b.constant("prime", 31, np.int64)
    b.normal("buckets", 31, WIDTH)
    b.op("Mod", ["input_ids", "prime"], "bucket")
    return b.op("Gather", ["buckets", "bucket"], "hashed")


def _summed(b: Builder) -> str:
    b.op("Cast", ["input_ids"], "numbers", to=TensorProto.FLOAT)
    b.constant("axis", [-1], np.int64)
    b.op("Unsqueeze", ["numbers", "axis"], "lifted")
    b.constant("small", [1e-3] * WIDTH)
    return b.op("Mul", ["lifted", "small"], "summed")


def _mean(b: Builder) -> str:
    b.constant("first", [0], np.int64)
    return b.op("ReduceMean", ["words", "first"], "mean")


def _made(b: Builder) -> str:
    b.constant("mask_token", 50, np.int64)
    b.constant("cut_token", 51, np.int64)
    b.op("Equal", ["input_ids", "mask_token"], "masked")
    b.op("Where", ["masked", "cut_token", "input_ids"], "replaced")
    return b.op("Gather", ["words", "replaced"], "replaced_rows")


@pytest.mark.parametrize(
    ("write", "head", "reason"),
    [
        (None, _softmax, "logits comes from no product"),
        (None, _best, "ArgMax reads logits"),
        (None, _reordered, "it takes logits in another order"),
        (None, _without_product, "comes from no product|gives logits|read logits|no product"),
        (_hashed, None, "Mod computes with ids"),
        (_summed, None, "Mul computes with ids"),
        (_mean, None, "ReduceMean reads the table of tokens, too"),
        (_made, None, "the graph makes id 51"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused(
    write: Write | None, head: Write | None, reason: str
) -> None:
    model = graph(write, head)
    after = model.clone()
    outcome = Vocabulary(KEPT).apply(after, make_context())
    assert outcome.rewrites == 0
    (refusal,) = outcome.refusals
    assert any(part in refusal.reason for part in reason.split("|")), refusal.reason
    (mine,), (theirs,) = (
        run_model(item, [{"input_ids": np.array([KEPT])}]) for item in (model, after)
    )
    compare([mine], [theirs], 0.0)


def test_ids_as_numbers_do_not_matter_where_they_stay() -> None:
    for write in (_hashed, _summed, _made):
        model = graph(write)
        after = model.clone()
        kept = replace(Vocabulary(KEPT, True), kept=(*KEPT[:-2], 51, *KEPT[-2:]))
        kept = replace(kept, kept=tuple(sorted(kept.kept)))
        outcome = kept.apply(after, make_context())
        assert outcome.rewrites, outcome.refusals
        check(model, outcome, after)


def _rolled(model: ir.Model, name: str) -> None:
    """Move the elements of a constant on by one."""
    value = model.graph.initializers[name]
    assert value.const_value is not None
    value.const_value = ir.tensor(np.roll(value.const_value.numpy(), 1, axis=0), name=name)


def _plus_one(model: ir.Model, name: str) -> None:
    value = model.graph.initializers[name]
    assert value.const_value is not None
    value.const_value = ir.tensor(value.const_value.numpy() + 1, name=name)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (None, ""), (_rolled, "words_kept"), (_rolled, "scores.bias_kept"), (_plus_one, "pad_kept"),
        (_rolled, "vocabulary_places"), (_rolled, "vocabulary_columns"),
        (_rolled, "vocabulary_there"), (_rolled, "scores.weight_kept"),
    ],
)  # fmt: skip
def test_faults_are_seen(
    fault: Callable[[ir.Model, str], None] | None, name: str, executor: Executor
) -> None:
    """The check of the pipeline takes the right rewrite, and none of the wrong ones."""
    model = graph(padding, untied)
    after = model.clone()
    outcome = Vocabulary(KEPT).apply(after, make_context())
    if fault is not None:
        fault(after, name)
    check = Checker(executor, executor.store(made_up(model, allowed=KEPT))).check
    verdict = check(model, after, Vocabulary.promise, outcome.undefined)
    assert bool(verdict.problem) == (fault is not None), verdict.problem


def test_another_tokenizer_is_refused() -> None:
    outcome = Vocabulary((*KEPT, *range(200, 240))).apply(graph(), make_context())
    assert "not this model's" in outcome.refusals[0].reason


def test_nothing_to_cut() -> None:
    assert Vocabulary(tuple(range(ROWS))).apply(graph(), make_context()).rewrites == 0
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", WIDTH])
    b.linear("x", "y", WIDTH, WIDTH)
    b.output("y", TensorProto.FLOAT, ["batch", WIDTH])
    assert Vocabulary(KEPT).apply(b.model(), make_context()).detail == NOT_HERE
