"""Generation with models: what PyTorch generates, token for token, however it is come by."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generating import MODELS, artifact, built, foreign, prompts, reference, up_to
from harness import unsupervised
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import GenerationMixin

import burnish
from burnish.optimizer.errors import StorageError, UsageError
from burnish.runtimes.generate import Generator, open_generator
from burnish.runtimes.generate.batch import Model
from burnish.runtimes.generate.decoder import Decoder
from burnish.runtimes.generate.encoder import Encoder
from burnish.runtimes.generate.generator import TOGETHER
from burnish.runtimes.resident import BoundSession

NAMES = ("gpt2", "llama", "gemma3", "bart", "t5")
NEW = 40
UNEQUAL = (9, 4, 13)

Open = Callable[[str], tuple[Generator, Any]]


@pytest.fixture(scope="session")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """A generator by the name of its model, and the model."""
    found: dict[str, tuple[Generator, Any]] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more only wait for each other, at these sizes

    def opened(name: str) -> tuple[Generator, Any]:
        if name not in found:
            model = built(name)
            folder = artifact(name, tmp_path_factory.mktemp(name), model)
            found[name] = open_generator(folder, threads=1), model
        return found[name]

    yield opened
    torch.set_num_threads(threads)
    for generator, _ in found.values():
        generator.close()


@functools.cache
def rows(name: str) -> list[list[int]]:
    return prompts(UNEQUAL, seed=len(name))


@pytest.mark.parametrize("name", NAMES)
def test_greedy_tokens_are_those_of_pytorch(name: str, opened: Open) -> None:
    generator, model = opened(name)
    expected = reference(model, rows(name), max_new_tokens=NEW)
    made = generator.generate(ids=rows(name), max_new_tokens=NEW)
    assert made.ids == expected
    assert len(set(expected[0])) > 3  # not one token again and again
    assert made.ended == ["length"] * 3 and made.count.runs == NEW


@pytest.mark.parametrize("name", NAMES)
def test_rows_end_by_themselves(name: str, opened: Open) -> None:
    generator, model = opened(name)
    free = generator.generate(ids=rows(name), max_new_tokens=NEW).ids
    ends = [free[0][5], free[1][11]]
    expected = reference(model, rows(name), max_new_tokens=NEW, eos_token_id=ends)
    made = generator.generate(ids=rows(name), max_new_tokens=NEW, eos_token_id=ends)
    assert made.ids == expected == [up_to(row, ends) for row in free]
    assert made.ended[0] == "eos" and len(made.ids[0]) <= 6
    guessed = generator.generate(ids=rows(name), max_new_tokens=NEW, eos_token_id=ends, speculate=3)
    assert guessed.ids == expected
    drawn: dict[str, Any] = {"max_new_tokens": NEW, "eos_token_id": ends, "temperature": 0.5}
    alone = [generator.generate(ids=rows(name)[:1], **drawn).ids[0]]
    assert generator.generate(ids=rows(name), **drawn).ids[:1] == alone


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_what_each_text_gives_alone(name: str, opened: Open) -> None:
    generator, _ = opened(name)
    together = generator.generate(ids=rows(name), max_new_tokens=12, temperature=0.7, seed=5)
    alone = generator.generate(ids=rows(name)[:1], max_new_tokens=12, temperature=0.7, seed=5)
    assert (
        together.ids[0]
        == alone.ids[0]
        != generator.generate(ids=rows(name)[:1], max_new_tokens=12, temperature=0.7, seed=6).ids[0]
    )


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3", "bart"])
@pytest.mark.parametrize("lengths", [(9,), UNEQUAL], ids=["one", "three"])
def test_guesses_change_nothing_but_the_number_of_runs(
    name: str, lengths: tuple[int, ...], opened: Open
) -> None:
    generator, _ = opened(name)
    asked = prompts(lengths, seed=3)
    if not MODELS[name].pair:
        asked = [row * 3 for row in asked]  # something to look up
    options = {"max_new_tokens": 60, "repetition_penalty": 1.05}
    plain = generator.generate(ids=asked, **options)
    guessed = generator.generate(ids=asked, speculate=6, **options)
    assert guessed.ids == plain.ids
    assert guessed.count.proposed > guessed.count.right >= plain.count.runs - guessed.count.runs


def test_guesses_save_runs_where_a_text_repeats_itself(opened: Open) -> None:
    generator, _ = opened("gpt2")
    bias = {"max_new_tokens": 60, "suppress_tokens": list(range(20, 300))}
    asked = prompts((6,), seed=1)
    plain = generator.generate(ids=asked, **bias)
    guessed = generator.generate(ids=asked, speculate=8, **bias)
    assert guessed.ids == plain.ids
    assert guessed.count.runs < plain.count.runs


@pytest.mark.parametrize("name", ["llama", "bart"])
def test_values_bound_on_a_device_are_as_good_as_arrays(name: str, opened: Open) -> None:
    generator, _ = opened(name)
    model = generator.model
    decoder = Decoder(bound(model.decoder))
    encoder = model.encoder and Encoder(bound(model.encoder), decoder.ports.fixed)
    other = Generator(Model(decoder, encoder, model.vocabulary), generator.settings)
    ends = generator.generate(ids=rows(name), max_new_tokens=9).ids[1][-1:]
    each = ({}, {"num_beams": 3}, {"speculate": 4, "eos_token_id": ends})
    for options in each:
        given: dict[str, Any] = {"ids": rows(name), "max_new_tokens": 25, **options}
        assert other.generate(**given).ids == generator.generate(**given).ids
    other.close()


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_caches_of_a_fixed_capacity_change_no_token(
    name: str, opened: Open, tmp_path: Path
) -> None:
    generator, _ = opened(name)
    (source,) = generator._files
    with unsupervised():
        options: dict[str, Any] = {"kv_cache": "static", "measure": False, "check": False}
        burnish.optimize(source, output=str(tmp_path / "model.onnx"), **options)
    static = open_generator(tmp_path, threads=1)
    assert static.model.decoder.session.static
    ends = generator.generate(ids=rows(name), max_new_tokens=9).ids[1][-1:]
    each = ({}, {"num_beams": 3}, {"speculate": 4, "eos_token_id": ends})
    for options in each:
        given: dict[str, Any] = {"ids": rows(name), "max_new_tokens": 60, **options}
        assert static.generate(**given).ids == generator.generate(**given).ids
    with pytest.raises(UsageError, match="fixed capacity are written by the processor"):
        other = Generator(Model(Decoder(bound(static.model.decoder)), None, None), static.settings)
        other.generate(ids=rows(name), max_new_tokens=2)
    static.close()


def bound(part: Decoder | Encoder) -> BoundSession:
    """The same model in a session as it is for devices."""
    return BoundSession(part.session._session, provider="cpu")  # type: ignore[attr-defined]


def test_decoders_that_others_exported_are_told_positions(opened: Open, tmp_path: Path) -> None:
    generator, model = opened("llama")
    other = open_generator(foreign(tmp_path, model), threads=1)
    ports = other.model.decoder.ports
    assert ports.positions and not ports.kept
    for options in ({}, {"speculate": 4}, {"num_beams": 2}):
        given: dict[str, Any] = {"ids": rows("llama"), "max_new_tokens": 20, **options}
        assert other.generate(**given).ids == generator.generate(**given).ids
    other.close()


def test_rounding_that_depends_on_what_is_run_together_is_said(
    opened: Open, tmp_path: Path
) -> None:
    generator, _ = opened("llama")
    assert not generator.generate(ids=rows("llama"), max_new_tokens=2, speculate=2).notes
    (source,) = generator._files
    quantize_dynamic(source, tmp_path / "model.onnx", weight_type=QuantType.QInt8)
    rounding = open_generator(tmp_path, threads=1)
    assert not rounding.generate(ids=rows("llama")[:1], max_new_tokens=2).notes
    guessed = rounding.generate(ids=rows("llama")[:1], max_new_tokens=2, speculate=2)
    batch = rounding.generate(ids=rows("llama"), max_new_tokens=2)
    assert guessed.notes == batch.notes == [TOGETHER]
    rounding.close()


def test_guesses_draw_the_same_tokens(opened: Open) -> None:
    generator, _ = opened("llama")
    asked = [row * 4 for row in prompts((5, 3), seed=2)]
    options: dict[str, Any] = {"max_new_tokens": 40, "temperature": 0.3, "seed": 1}
    plain = generator.generate(ids=asked, **options)
    guessed = generator.generate(ids=asked, speculate=4, **options)
    assert guessed.ids == plain.ids and guessed.count.proposed > 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"length_penalty": 2.0, "early_stopping": True},
        {"length_penalty": -1.0, "early_stopping": "never", "repetition_penalty": 1.4},
    ],
    ids=["as they are", "early", "never"],
)
@pytest.mark.parametrize("name", ["llama", "bart", "t5"])
def test_beams_are_those_of_pytorch(name: str, options: dict[str, Any], opened: Open) -> None:
    generator, model = opened(name)
    free = generator.generate(ids=rows(name), max_new_tokens=20, num_beams=3).ids
    given = {"max_new_tokens": 20, "num_beams": 3, "eos_token_id": [free[0][6], 17], **options}
    expected = reference(model, rows(name), **given)
    made = generator.generate(ids=rows(name), **given)
    assert made.ids == expected


@pytest.mark.parametrize("name", ["gpt2", "bart"])
def test_what_is_done_to_scores_is_done_as_in_pytorch(name: str, opened: Open) -> None:
    generator, model = opened(name)
    options = {
        "max_new_tokens": 30, "min_new_tokens": 20, "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 2, "eos_token_id": list(range(100, 150)), "bad_words_ids": [[7]],
        "suppress_tokens": [5, 6], "begin_suppress_tokens": [200, 201],
    }  # fmt: skip
    expected = reference(model, rows(name), **options)
    guessed = generator.generate(ids=rows(name), speculate=3, **options)
    assert guessed.ids == generator.generate(ids=rows(name), **options).ids == expected
    assert {len(row) for row in expected} != {30}


def test_a_language_is_begun_with(opened: Open) -> None:
    generator, model = opened("bart")
    made = generator.generate("text", language="fr", max_new_tokens=8)
    token = generator.model.vocabulary.id_of("__fr__")  # type: ignore[union-attr]
    encoded = generator.model.vocabulary.encode("text")  # type: ignore[union-attr]
    expected = reference(model, [encoded], forced_bos_token_id=token, max_new_tokens=8)
    assert made.ids == expected and made.ids[0][0] == token
    prefix = generator.model.vocabulary.id_of(">>nld<<")  # type: ignore[union-attr]
    expected = reference(model, [[prefix, *encoded]], max_new_tokens=8)
    assert generator.generate("text", language="nld", max_new_tokens=8).ids == expected


@pytest.mark.parametrize("beams", [1, 2])
def test_features_are_read_by_an_encoder_of_sound(beams: int, opened: Open) -> None:
    generator, model = opened("whisper")
    features = np.random.default_rng(0).normal(size=(2, 80, 100)).astype(np.float32)
    options: dict[str, Any] = {"max_new_tokens": 20, "num_beams": beams, "eos_token_id": [2]}
    with torch.no_grad():
        expected = GenerationMixin.generate(
            model, torch.tensor(features), do_sample=False, pad_token_id=0,
            decoder_input_ids=torch.tensor([[1, 30, 31]] * 2), **options,
        )  # fmt: skip
    made = generator.generate(features=features, begin=[1, 30, 31], **options)
    assert made.ids == [up_to(row, [2]) for row in expected[:, 3:].tolist()]
    with pytest.raises(UsageError, match="reads input_features, not text"):
        generator.generate("text")


def test_texts_come_in_pieces(opened: Open) -> None:
    generator, _ = opened("llama")
    told: dict[int, str] = {0: "", 1: ""}

    def on_text(row: int, piece: str) -> None:
        told[row] += piece

    made = generator.generate(["the text", "a"], max_new_tokens=25, on_text=on_text)
    assert [told[0], told[1]] == made.texts
    vocabulary = generator.model.vocabulary
    assert made.texts == [vocabulary.decode(row) for row in made.ids]  # type: ignore[union-attr]
    assert "".join(generator.stream("the text", max_new_tokens=25)) == made.texts[0]


@pytest.mark.parametrize("beams", [1, 2])
def test_a_text_ends_before_its_stop(beams: int, opened: Open) -> None:
    generator, _ = opened("llama")
    whole = generator.generate("the text", max_new_tokens=25, num_beams=beams).texts[0]
    stop = next(sign for sign in whole[4:] if sign.isascii() and sign.isalpha())
    made = generator.generate("the text", max_new_tokens=25, stop_strings=stop, num_beams=beams)
    assert stop not in made.texts[0]
    if beams == 1:  # beams may find another text, which has no stop
        assert made.texts[0] == whole[: whole.index(stop)] and made.ended == ["stop string"]


def test_a_prompt_beyond_the_positions_is_refused_and_texts_end_there(opened: Open) -> None:
    generator, _ = opened("gpt2")
    with pytest.raises(UsageError, match="600 tokens, the model 512 positions"):
        generator.generate(ids=prompts((600,)))
    made = generator.generate(ids=prompts((505,)), max_new_tokens=20)
    assert len(made.ids[0]) == 7 and "after 512 tokens" in made.notes[0]


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("llama", {}, "a text, tokens, or features"),
        ("llama", {"texts": ""}, "prompt is empty"),
        ("bart", {"ids": [[]]}, "prompt is empty"),
        ("llama", {"features": np.zeros((1, 2))}, "reads text, not features"),
        ("llama", {"texts": "a", "language": "xx"}, "no language xx"),
    ],
)
def test_prompts_that_do_not_go_with_a_model(
    name: str, given: dict[str, Any], reason: str, opened: Open
) -> None:
    with pytest.raises(UsageError, match=reason):
        opened(name)[0].generate(**given)


def test_a_folder_that_generates_nothing_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no model\.onnx"):
        open_generator(tmp_path)
    (tmp_path / "manifest.json").write_text('{"burnish": "1", "task": "fill-mask"}')
    with pytest.raises(UsageError, match="a model for fill-mask generates no text"):
        open_generator(tmp_path)
