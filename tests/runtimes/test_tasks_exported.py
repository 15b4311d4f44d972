"""Answers of exported models against those of Transformers on the same weights and texts."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import transformers as hf
from artifacts import TEXTS, exported, folder, lookup, word_level, word_pieces
from tokenizers import Tokenizer

from burnish.runtimes.tasks import open_task
from burnish.runtimes.tasks.likelihood import of_masked

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return word_pieces()


def fast(tokenizer: Tokenizer) -> Any:
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.to_str()), model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in names.items()},
    )  # fmt: skip


def bert(kind: str, tokenizer: Tokenizer, **options: Any) -> Any:
    torch.manual_seed(1)
    config = hf.BertConfig(vocab_size=tokenizer.get_vocab_size(), **SMALL, **options)
    return getattr(hf, kind)(config)


def logits_of(model: Any, encoded: Any) -> np.ndarray:
    with torch.no_grad():
        return model(**encoded).logits.numpy()


def test_text_classification(tmp_path: Path, tokenizer: Tokenizer) -> None:
    names = {index: f"class {index}" for index in range(3)}
    model = bert("BertForSequenceClassification", tokenizer, num_labels=3, id2label=names)
    task = open_task(exported(tmp_path / "m", model, "text-classification", tokenizer))
    encoded = fast(tokenizer)(list(TEXTS), padding=True, return_tensors="pt")
    expected = torch.softmax(torch.from_numpy(logits_of(model, encoded)), -1).numpy()
    found = task(list(TEXTS))
    scores = np.array([list(item.scores.values()) for item in found])
    assert scores == pytest.approx(expected, abs=1e-5)
    assert [item.label for item in found] == [names[row] for row in expected.argmax(-1)]
    pairs = list(itertools.pairwise(TEXTS))
    encoded = fast(tokenizer)(pairs, padding=True, return_tensors="pt")
    expected = torch.softmax(torch.from_numpy(logits_of(model, encoded)), -1).numpy()
    assert np.array([list(item.scores.values()) for item in task(pairs)]) == pytest.approx(
        expected, abs=1e-5
    )


def test_token_classification(tmp_path: Path, tokenizer: Tokenizer) -> None:
    names = dict(enumerate(TAGS))
    model = bert("BertForTokenClassification", tokenizer, num_labels=5, id2label=names)
    task = open_task(exported(tmp_path / "m", model, "token-classification", tokenizer))
    told = fast(tokenizer)
    found = task.tags([text.split() for text in TEXTS])
    for text, tags in zip(TEXTS, found, strict=True):
        encoded = told([text.split()], is_split_into_words=True, return_tensors="pt")
        best = logits_of(model, encoded)[0].argmax(-1)
        first = {}
        for place, word in enumerate(encoded.word_ids(0)):
            if word is not None:
                first.setdefault(word, names[best[place]])
        assert [tag.label for tag in tags] == list(first.values())
    pipeline = hf.pipeline(
        "token-classification", model=model, tokenizer=told, aggregation_strategy="first"
    )
    for text, entities in zip(TEXTS, task(list(TEXTS)), strict=True):
        # The pipeline joins an inside tag to what is before it only where classes agree, as we do.
        expected = [(item["entity_group"], item["start"], item["end"]) for item in pipeline(text)]
        assert [(item.kind, item.start, item.end) for item in entities] == expected


def test_question_answering(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = bert("BertForQuestionAnswering", tokenizer)
    task = open_task(exported(tmp_path / "m", model, "question-answering", tokenizer))
    question, context = "Who left Brenn?", " ".join(TEXTS[:2])
    encoded = fast(tokenizer)(question, context, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    inside = [place for place, text in enumerate(encoded.sequence_ids(0)) if text == 1]
    with torch.no_grad():
        result = model(**encoded)
    starts, ends = (
        part[0].numpy().astype(float) for part in (result.start_logits, result.end_logits)
    )
    spans = {
        (first, last): starts[first] + ends[last]
        for first in inside
        for last in inside
        if 0 <= last - first < 30
    }
    (first, last), top = max(spans.items(), key=lambda item: item[1])
    found = task(question, context)
    assert (found.start, found.end) == (offsets[first][0], offsets[last][1])
    assert found.score == pytest.approx(
        1 / np.exp(np.array(list(spans.values())) - top).sum(), abs=1e-5
    )


def test_fill_mask(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = bert("BertForMaskedLM", tokenizer)
    task = open_task(exported(tmp_path / "m", model, "fill-mask", tokenizer))
    texts = ["The mill at [MASK] was sold.", "[MASK] knew who had painted the old boat in [MASK]."]
    told = fast(tokenizer)
    for text, places in zip(texts, task(texts, most=4), strict=True):
        encoded = told(text, return_tensors="pt")
        chosen = torch.softmax(torch.from_numpy(logits_of(model, encoded))[0], -1)
        masked = [
            i for i, piece in enumerate(encoded["input_ids"][0]) if piece == told.mask_token_id
        ]
        for place, fillings in zip(masked, places, strict=True):
            top = chosen[place].topk(4)
            assert [item.id for item in fillings] == top.indices.tolist()
            assert [item.score for item in fillings] == pytest.approx(top.values.tolist(), abs=1e-5)


def test_losses_of_masked_pieces(tmp_path: Path) -> None:
    """Of a model that always says the same, each piece has the loss of its own row."""
    tokenizer = word_level(["a", "b"])
    size = tokenizer.get_vocab_size()
    rows = np.zeros((size, size), np.float32)
    rows[:, tokenizer.token_to_id("a")] = 5.0
    task = open_task(folder(tmp_path / "m", lookup(rows), "fill-mask", tokenizer))
    (likely, few), (rare, _), (none, zero) = of_masked(task, ["a " * 15, "b " * 15, ""])
    assert (few, none, zero) == (2, 0.0, 0)
    assert rare - likely == pytest.approx(2 * 5.0)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_losses_of_a_decoder(tmp_path: Path, tokenizer: Tokenizer, kind: str) -> None:
    torch.manual_seed(2)
    size = tokenizer.get_vocab_size()
    special = {"bos_token_id": None, "eos_token_id": None}
    if kind == "gpt2":
        model = hf.GPT2LMHeadModel(
            hf.GPT2Config(
                vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=512, **special
            )
        )
    else:
        model = hf.LlamaForCausalLM(hf.LlamaConfig(
            vocab_size=size, num_key_value_heads=2, **SMALL | {"max_position_embeddings": 512},
            **special,
        ))  # fmt: skip
    path = exported(tmp_path / "m", model, "text-generation", tokenizer)
    task = open_task(path, losses=True)
    text = " ".join(TEXTS) * 5  # more pieces than one run takes
    encoded = fast(tokenizer)(text, return_tensors="pt")
    ids = encoded["input_ids"]
    assert ids.shape[1] > 256
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, :-2]  # the last piece is special
    expected = torch.nn.functional.cross_entropy(logits, ids[0, 1:-1], reduction="sum")
    (loss, count), (short, one) = task([text, "Brenn"])
    assert count == ids.shape[1] - 2
    assert loss == pytest.approx(float(expected), rel=1e-5)
    assert short > 0 and one >= 1


def test_images(tmp_path: Path) -> None:
    config = hf.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        image_size=32, patch_size=8, num_labels=3,
    )  # fmt: skip
    model = hf.ViTForImageClassification(config)
    path = exported(tmp_path / "m", model, "image-classification", None)
    processor = hf.ViTImageProcessorPil(size={"height": 32, "width": 32})
    (path / "preprocessor_config.json").write_text(json.dumps(processor.to_dict()))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
    images = [PIL.Image.fromarray(row) for row in pixels]
    images[0].save(tmp_path / "a.png")
    encoded = processor(images, return_tensors="pt")
    expected = torch.softmax(torch.from_numpy(logits_of(model, encoded)), -1).numpy()
    found = open_task(path)([tmp_path / "a.png", images[1], pixels[2]])
    scores = np.array([list(item.scores.values()) for item in found])
    assert scores == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_images_and_named_classes(tmp_path: Path, tokenizer: Tokenizer, kind: str) -> None:
    size = tokenizer.get_vocab_size()
    text = {**SMALL, "vocab_size": size, "max_position_embeddings": 20,
            "eos_token_id": tokenizer.token_to_id("[SEP]"), "pad_token_id": 0}  # fmt: skip
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    torch.manual_seed(3)
    if kind == "clip":
        model = hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision))
        padding: Any = True
    else:
        model = hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config=vision))
        padding = "max_length"
    path = exported(tmp_path / "m", model, "zero-shot-image-classification", tokenizer)
    processor = hf.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    (path / "preprocessor_config.json").write_text(json.dumps(processor.to_dict()))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 40, 50, 3), np.uint8)
    images = [PIL.Image.fromarray(row) for row in pixels]
    classes = ["boat", "river in the rain"]
    texts = fast(tokenizer)(
        [f"a {name} ." for name in classes],
        padding=padding,
        truncation=True,
        max_length=20,
        return_tensors="pt",
    )
    texts.pop("token_type_ids", None)
    if kind == "siglip":
        texts.pop("attention_mask")
    inputs = {**texts, **processor(images, return_tensors="pt")}
    with torch.no_grad():
        logits = model(**inputs).logits_per_image
    expected = (torch.sigmoid(logits) if kind == "siglip" else logits.softmax(-1)).numpy()
    found = open_task(path)(images, classes, template="a {} .")
    scores = np.array([list(item.scores.values()) for item in found])
    assert scores == pytest.approx(expected, abs=1e-5)
    assert all(set(item.scores) == set(classes) for item in found)
