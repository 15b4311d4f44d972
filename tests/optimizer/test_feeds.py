"""What inputs are for, and the values made up for them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from samples import parse

from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.feeds import (
    Masking,
    Sizes,
    default_sizes,
    ladder,
    make,
    pad,
    padding,
    trials,
)
from burnish.optimizer.roles import Role, slots
from burnish.optimizer.signature import Port


def model(inputs: str, body: str = "y = Identity (x)", output: str = "y") -> ir.Model:
    table = ", ".join(["0.0"] * 20)
    return parse(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g ({inputs}) => ({output})
        <float[10, 2] table = {{{table}}}, float[5, 4] small = {{{table}}}, int64[1] axis = {{1}}>
        {{ {body} }}
    """)


@pytest.mark.parametrize(
    "body",
    [
        "y = Gather (table, x)",
        "c = Cast <to = 7> (x) y = Gather (table, c)",
        "u = Unsqueeze (x, axis) c = Cast <to = 6> (u) y = Gather (table, c)",
        "t = Identity (table) y = Gather (t, x)",
    ],
)
def test_ids_stay_below_the_table_that_they_index(body: str) -> None:
    (slot,) = slots(model("int32[batch, sequence] x", body))
    assert (slot.role, slot.bound) == (Role.IDS, 10)
    drawn = [feed["x"] for _, feed in trials([slot], 3, {})]
    assert all(array.dtype == np.int32 for array in drawn)
    assert min(array.min() for array in drawn) >= 0
    assert max(array.max() for array in drawn) == 9


def test_the_smallest_of_several_tables_bounds() -> None:
    body = "a = Gather (table, x) b = Gather (small, x) y = Identity (a) z = Identity (b)"
    (slot,) = slots(model("int64[batch, sequence] x", body, "y, z"))
    assert slot.bound == 5


@pytest.mark.parametrize(
    ("port", "role"),
    [
        ("int64[batch, sequence] attention_mask", Role.MASK),
        ("float[batch, sequence] attention_mask", Role.MASK),
        ("bool[batch, sequence] visible", Role.MASK),
        ("int64[batch, sequence] position_ids", Role.POSITIONS),
        ("int64[sequence] cache_position", Role.POSITIONS),
        ("float[batch, 2, past, 4] past_key_values.0.key", Role.PAST),
        ("float[batch, 3, height, width] pixel_values", Role.NUMBERS),
        ("int64 count", Role.SCALAR),
    ],
)
def test_roles(port: str, role: Role) -> None:
    name = port.split()[-1]
    text = port.replace(name, f'"{name}"')
    (slot,) = slots(model(text, f'y = Identity ("{name}")'))
    assert slot.role is role


@pytest.mark.parametrize("kind", ["seq(float[2])", "string[2]"])
def test_what_cannot_be_made_up_is_refused(kind: str) -> None:
    with pytest.raises(UnsupportedModel, match="no values can be made up for input x"):
        slots(model(f"{kind} x"))


def test_no_row_is_wholly_masked() -> None:
    made = slots(model("int64[batch, sequence] attention_mask", "y = Identity (attention_mask)"))
    for masking in Masking:
        for batch in (1, 2, 5):
            for sequence in (1, 2, 3, 9):
                mask = make(made, Sizes(batch, sequence), masking, 0, {})["attention_mask"]
                assert mask.shape == (batch, sequence)
                assert mask.any(axis=1).all()
                assert set(np.unique(mask)) <= {0, 1}


def test_padding_is_where_it_says() -> None:
    made = slots(model("int64[batch, sequence] attention_mask", "y = Identity (attention_mask)"))

    def mask(masking: Masking) -> list[list[int]]:
        return make(made, Sizes(3, 4), masking, 0, {})["attention_mask"].tolist()

    assert mask(Masking.FULL) == [[1, 1, 1, 1]] * 3
    assert mask(Masking.RIGHT) == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]
    assert mask(Masking.LEFT) == [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1]]


def test_four_dimensional_masks() -> None:
    made = slots(model("float[batch, 1, s, s] mask", "y = Identity (mask)"))
    assert not make(made, Sizes(2, 3), Masking.RIGHT, 0, {})["mask"].any()
    made = slots(model("bool[batch, 1, s, s] mask", "y = Identity (mask)"))
    assert make(made, Sizes(2, 3), Masking.RIGHT, 0, {})["mask"].all()


CACHED = """int64[batch, sequence_length] x,
    int64[batch, "past_sequence_length + sequence_length"] attention_mask,
    float[batch, 2, past_sequence_length, 4] "past_key_values.0.key"
"""


def _cached() -> ir.Model:
    body = (
        'y = Gather (table, x) z = Identity (attention_mask) p = Identity ("past_key_values.0.key")'
    )
    text = CACHED.replace('"past_sequence_length + sequence_length"', "total")
    made = model(text, body, "y, z, p")
    mask = next(value for value in made.graph.inputs if value.name == "attention_mask")
    mask.shape = ir.Shape(["batch", "past_sequence_length + sequence_length"])
    return made


def test_sums_of_symbols_are_sums() -> None:
    feed = make(slots(_cached()), Sizes(2, 6, past=5), Masking.FULL, 0, {})
    assert feed["x"].shape == (2, 6)
    assert feed["attention_mask"].shape == (2, 11)
    assert feed["past_key_values.0.key"].shape == (2, 2, 5, 4)


def test_trials_have_a_past_and_none() -> None:
    lengths = [
        feed["past_key_values.0.key"].shape[2] for _, feed in trials(slots(_cached()), 0, {})
    ]
    assert {0, 3, 9} <= set(lengths)


def test_sizes_by_name_win() -> None:
    feed = make(slots(_cached()), Sizes(2, 6), Masking.FULL, 0, {"past_sequence_length": 8})
    assert feed["attention_mask"].shape == (2, 14)


def test_images() -> None:
    made = slots(model("float[batch, channels, height, width] x"))
    assert make(made, Sizes(2, 16), Masking.FULL, 0, {})["x"].shape == (2, 3, 224, 224)
    port = Port("x", "FLOAT", (None, None, None, None))
    slot = type(made[0])(port, Role.NUMBERS, 0)
    assert make([slot], Sizes(1, 16, image=32), Masking.FULL, 0, {})["x"].shape == (1, 3, 32, 32)


def test_positions_count_on_from_the_past() -> None:
    made = slots(model("int64[batch, sequence] position_ids", "y = Identity (position_ids)"))
    feed = make(made, Sizes(2, 3, past=4), Masking.FULL, 0, {})
    assert feed["position_ids"].tolist() == [[4, 5, 6], [4, 5, 6]]


def test_positions_stay_below_their_table() -> None:
    made = slots(model("int64[batch, sequence] position_ids", "y = Gather (table, position_ids)"))
    feed = make(made, Sizes(1, 4, past=9), Masking.FULL, 0, {})
    assert feed["position_ids"].max() == 9


def test_the_same_seed_gives_the_same_values(bert: ir.Model) -> None:
    first, again, other = (
        [feed["input_ids"].tolist() for _, feed in trials(slots(bert), seed, {})]
        for seed in (1, 1, 2)
    )
    assert first == again != other


def test_default_sizes(bert: ir.Model) -> None:
    assert default_sizes(slots(bert)) == Sizes(8, 128)
    assert default_sizes(slots(_cached())) == Sizes(1, 128)


# roles and sizes that exporters make hard to see


def test_a_mask_that_positions_are_counted_over_is_no_id() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        counted (int64[batch, sequence] seen) => (y)
        <float[20, 2] table = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                               0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
         int64 one = {1}>
        {
          counts = CumSum (seen, one)
          positions = Mul (counts, seen)
          shifted = Add (positions, one)
          y = Gather (table, shifted)
        }
    """)
    (slot,) = slots(model)
    assert slot.role is Role.MASK


def test_sizes_of_a_decoder_with_caches_of_its_encoder() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        cross (int64[batch_size, encoder_sequence_length] encoder_attention_mask,
               float[batch_size, 4, past_decoder_sequence_length, 8] past_key_values_0_decoder_key,
               float[batch_size, 4, encoder_sequence_length_out, 8] past_key_values_0_encoder_key)
            => (y) { y = Identity (encoder_attention_mask) }
    """)
    ports = tuple(slot.port for slot in slots(model))
    assert Sizes(2, 16, past=5).assign(ports) == {
        "batch_size": 2,
        "encoder_sequence_length": 16,
        "past_decoder_sequence_length": 5,
        "encoder_sequence_length_out": 16,
    }


@pytest.mark.parametrize("channels", ["channels", "feature_size"])
def test_channels_are_those_of_the_convolution(channels: str) -> None:
    kernel = "{" + ", ".join(["0"] * 2 * 5 * 3) + "}"
    model = parse(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        heard (float[batch, {channels}, frames] x) => (y) <float[2, 5, 3] k = {kernel}>
        {{ y = Conv (x, k) }}
    """)
    feed = make(slots(model), Sizes(2, 16), Masking.FULL, 0, {})
    assert feed["x"].shape == (2, 5, 16)


def test_given_sizes_reach_every_trial() -> None:
    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        seen (float[batch, 3, height, width] x) => (y) { y = Identity (x) }
    """)
    found = slots(model)
    shapes = {f["x"].shape[1:] for _, f in trials(found, 0, {"height": 64, "width": 32})}
    assert shapes == {(3, 64, 32)}
    assert {f["x"].shape for _, f in trials(found, 0, {"image": 48, "batch": 1})} == {
        (1, 3, 48, 48)
    }
    assert {"image": 32} in list(ladder(found))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_padding_of_about_a_share(share: float) -> None:
    inputs = slots(
        model("int64[b, s] x, int64[b, s] m", "y = Gather (table, x) z = Cast <to = 1> (m)")
    )
    feed = make(inputs, Sizes(32, 64), Masking.FULL, 0, {})
    assert padding([feed], inputs) == 0.0
    padded = pad(feed, inputs, share)
    assert abs(padding([padded], inputs) - share) < 0.03
    assert padded["m"].any(axis=1).all()
    assert padded["m"].all(axis=1).any()
    assert (np.diff(padded["m"], axis=1) <= 0).all()
    assert padded["x"] is feed["x"]


@pytest.mark.parametrize(
    "body",
    ["y = Gather <axis = 1> (h, x)", "u = Unsqueeze (x, axis) y = GatherND (h, u)"],
)
def test_places_count_from_the_end(body: str) -> None:
    found = slots(model("float[batch, sequence, 4] h, int64[kept] x", body))
    slot = next(item for item in found if item.port.name == "x")
    assert slot.role is Role.PLACES
    for _, feed in trials(found, 0, {"kept": 3}):
        np.testing.assert_array_equal(feed["x"], [-3, -2, -1])
