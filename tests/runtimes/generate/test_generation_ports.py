"""What the ports of a decoder are, whoever exported it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from onnx import TensorProto

from burnish.optimizer.errors import UnsupportedModel
from burnish.runtimes.generate.ports import read
from burnish.runtimes.resident import Port

SHAPE = ("batch", 4, "past", 16)


def ports(names: Sequence[str], shape: Sequence[Any] = SHAPE) -> list[Port]:
    return [Port(name, TensorProto.FLOAT, tuple(shape)) for name in names]


def pairs(inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, str]:
    found = read(ports(inputs), ports(outputs))
    return {cache.past.name: cache.present for cache in found.caches}


def test_names_of_our_own_and_of_optimum() -> None:
    inputs = ["input_ids", "attention_mask", "position_ids", "past_key_values.0.key",
              "past_key_values.0.value", "logits_to_keep"]  # fmt: skip
    found = read(ports(inputs), ports(["logits", "present.0.value", "present.0.key"]))
    assert [(cache.past.name, cache.present) for cache in found.caches] == [
        ("past_key_values.0.key", "present.0.key"),
        ("past_key_values.0.value", "present.0.value"),
    ]
    assert (found.ids, found.mask, found.positions) == (
        "input_ids",
        "attention_mask",
        "position_ids",
    )
    assert (found.kept, found.logits, found.fixed) == ("logits_to_keep", "logits", {})


def test_caches_of_what_an_encoder_gave_do_not_grow() -> None:
    inputs = ["input_ids", "encoder_attention_mask", "past_key_values.0.decoder.key",
              "past_key_values.0.encoder.key"]  # fmt: skip
    found = read(ports(inputs), ports(["logits", "present.0.decoder.key"]))
    assert [cache.present for cache in found.caches] == ["present.0.decoder.key"]
    assert found.fixed == {".0.encoder.key": "past_key_values.0.encoder.key"}
    assert (found.mask, found.encoder_mask) == ("", "encoder_attention_mask")


def test_names_of_onnx_runtime() -> None:
    inputs = ["input_ids", "past_key_self_0", "past_key_cross_0"]
    found = read(ports(inputs), ports(["logits", "present_key_self_0"]))
    assert [cache.present for cache in found.caches] == ["present_key_self_0"]
    assert found.fixed == {"_key_cross_0": "past_key_cross_0"}


def test_names_that_tell_nothing_are_paired_in_their_order() -> None:
    assert pairs(["input_ids", "a", "b"], ["scores", "c", "d"]) == {"a": "c", "b": "d"}


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"),
    [
        (["input_ids", "attention_mask"], ["logits"], "hands no caches on"),
        (["pixel_values"], ["logits"], "no input_ids"),
        (["input_ids", "use_cache_branch"], ["logits"], "two branches"),
        (["input_ids", "past.0", "prefix"], ["logits", "present.0"], "not known.*prefix"),
        (["input_ids", "past.0", "past.1"], ["logits", "present.0"], "no output belongs to it"),
    ],
)
def test_decoders_that_are_refused(inputs: list[str], outputs: list[str], reason: str) -> None:
    with pytest.raises(UnsupportedModel) as refused:
        read(ports(inputs), ports(outputs))
    assert re.search(reason, f"{refused.value.message} {refused.value.place}")


def test_caches_whose_sizes_are_not_told_are_refused() -> None:
    inputs, outputs = ["input_ids", "past.0"], ["logits", "present.0"]
    with pytest.raises(UnsupportedModel, match=r"\['batch', 'heads', 'past', 16\]"):
        read(ports(inputs, ("batch", "heads", "past", 16)), ports(outputs))
