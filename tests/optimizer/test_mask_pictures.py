"""Pictures of masks: what the normal form says, cell by cell."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from mask_graphs import analyse, build
from onnx import TensorProto
from samples import Builder
from test_masks import ADDED, CAUSAL, FORMS

from burnish.driver.pictures import Gallery
from burnish.optimizer.analysis.masks import Masks
from burnish.optimizer.analysis.masks.picture import CELLS, banded, picture
from burnish.optimizer.analysis.shapes import infer

SIZES = {"batch": 2, "sequence": 6}
QUERY, KEY = np.arange(6)[:, None], np.arange(6)[None, :]

SEEN = {
    "key_padding(attention_mask)": QUERY == QUERY + 0 * KEY,
    "causal": KEY <= QUERY,
    "causal & key_padding(attention_mask)": KEY <= QUERY,
    "causal & window(left=2, right=0)": (KEY <= QUERY) & (KEY >= QUERY - 2),
    "window(left=2, right=2)": abs(KEY - QUERY) <= 2,
    "block_diagonal(floor_div(key, 3))": KEY // 3 == QUERY // 3,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_drawn_as_it_is(form: str) -> None:
    model = build(FORMS[form])
    made = picture(analyse(model), 6, 6, SIZES, infer(model, SIZES))
    assert made is not None
    assert (made.seen == SEEN[form]).all()
    assert made.padding == (("attention_mask",) if "padding" in form else ())
    told = made.as_json()
    assert [[cell == "1" for cell in row] for row in told["rows"]] == SEEN[form].tolist()


def test_long_sequences_are_sampled_from_the_first_to_the_last() -> None:
    model = build(CAUSAL + ADDED.replace("kept", "whole"))
    sizes = {"batch": 1, "sequence": 1000}
    made = picture(analyse(model), 1000, 1000, sizes, infer(model, sizes))
    assert made is not None
    assert made.seen.shape == (CELLS, CELLS)
    assert (made.seen == np.tri(CELLS, dtype=bool)).all()


def test_a_mask_that_only_an_input_knows_has_no_picture() -> None:
    inputs = "int64[batch, sequence] ids, float[batch, 1, sequence, sequence] given"
    model = build("  mask = Identity(given)\n", inputs)
    mask = analyse(model)
    made = picture(mask, 6, 6, SIZES, infer(model, SIZES))
    assert made is None or (made.seen.all() and mask.biases)


def test_the_last_query_stands_at_the_last_key() -> None:
    assert banded(2, 4, right=0).seen.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert banded(3, 3, left=1, right=0).seen.tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]


def attention(**attributes: int) -> ir.Model:
    b = Builder()
    b.input("x", TensorProto.FLOAT, ["batch", "sequence", 32])
    b.op("Attention", ["x", "x", "x"], "y", q_num_heads=4, kv_num_heads=4, **attributes)
    b.output("y", TensorProto.FLOAT, ["batch", "sequence", 32])
    return ir.from_proto(b.message(23))


def gallery(model: ir.Model, sizes: dict[str, int]) -> Gallery:
    return Gallery(model, sizes, infer(model, sizes), Masks())


@pytest.mark.parametrize("causal", [0, 1])
def test_an_operator_that_is_causal_by_itself(causal: int) -> None:
    model = attention(is_causal=causal)
    told = gallery(model, SIZES).of_operator(model.graph[0])
    assert told is not None
    assert (told["queries"], told["keys"], told["padding"]) == (6, 6, [])
    assert told["rows"][0] == ("100000" if causal else "111111")
    assert told["rows"][-1] == "111111"


def test_a_narrow_window_is_drawn_at_fewer_tokens() -> None:
    model = build(FORMS["window(left=2, right=2)"])
    told = gallery(model, {"batch": 1, "sequence": 512}).of_value(model.graph.outputs[0])
    assert told is not None
    assert told["queries"] == told["keys"] == len(told["rows"]) == 20
    assert told["rows"][0] == "111" + 17 * "0"


def test_a_window_that_is_longer_than_the_sequence_is_drawn_at_more_tokens() -> None:
    body = FORMS["window(left=2, right=2)"].replace("{2}", "{20}")
    model = build(body)
    onnx.checker.check_model(ir.to_proto(model))
    told = gallery(model, SIZES).of_value(model.graph.outputs[0])
    assert told is not None
    assert told["queries"] == told["keys"] == 4 * 41
    assert "0" in told["rows"][0]
    assert told["rows"][0][0] == "1"
