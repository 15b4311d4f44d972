"""Data that cannot be trusted for calibration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from tokenizers import Tokenizer, models

from burnish.optimizer.contract import Feeds
from burnish.optimizer.doubts import doubts
from burnish.optimizer.roles import Slot, slots

ROWS, LENGTH, VOCABULARY = 64, 40, 2000


@pytest.fixture
def inputs() -> list[Slot]:
    from samples import encoder

    return slots(ir.from_proto(encoder(vocabulary=VOCABULARY)))


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """Words of letters, the commonest first, behind marks."""
    letters = "abcdefghij"
    names = ["".join(letters[int(digit)] for digit in f"{index:04}") for index in range(VOCABULARY)]
    vocabulary = {name if index > 3 else f"[{index}]": index for index, name in enumerate(names)}
    Tokenizer(models.WordLevel(vocabulary, unk_token="[0]")).save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def text(seed: int, among: Sequence[int] = range(4, VOCABULARY), rows: int = ROWS) -> list[Feeds]:
    """Words by Zipf's law, padded on the right."""
    random = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, len(among) + 1)
    ids = random.choice(among, (rows, LENGTH), p=weights / weights.sum())
    mask = np.arange(LENGTH) < random.integers(10, LENGTH + 1, (rows, 1))
    ids = np.where(mask, ids, 0)
    arrays = {"input_ids": ids, "attention_mask": mask.astype(np.int64), "token_type_ids": ids * 0}
    return [{name: array[i : i + 16] for name, array in arrays.items()} for i in range(0, rows, 16)]


def test_text_is_trusted(inputs: list[Slot], tokenizer: Path) -> None:
    assert doubts(text(0), inputs, tokenizer) == []
    assert doubts(text(0), inputs, tokenizer / "tokenizer.json") == []


def test_random_ids(inputs: list[Slot], tokenizer: Path) -> None:
    feeds = text(0)
    for seed, feed in enumerate(feeds):
        random = np.random.default_rng(seed)
        feed["input_ids"] = random.integers(0, VOCABULARY, feed["input_ids"].shape)  # type: ignore[index]
    (said,) = doubts(feeds, inputs, tokenizer)
    assert "as random numbers" in said


def test_few_rows(inputs: list[Slot], tokenizer: Path) -> None:
    said = doubts(text(0, rows=5), inputs, tokenizer)
    assert said[0].startswith("the data has 5 rows, and 32 are few")


def test_one_language_of_four(inputs: list[Slot], tokenizer: Path) -> None:
    (said,) = doubts(text(0, range(4, VOCABULARY, 4)), inputs, tokenizer)
    assert said.startswith("of the 100 commonest words of the vocabulary 25 occur in the data")
    # Without a vocabulary nobody knows what is missing.
    assert doubts(text(0, range(4, VOCABULARY, 4)), inputs, tokenizer / "none") == []


def test_pictures_are_only_counted() -> None:
    from samples import parse

    model = parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        p (float[batch, 3, 8, 8] pixels) => (float[batch, 3, 8, 8] y) { y = Relu (pixels) }
    """)
    pixels = np.zeros((40, 3, 8, 8), np.float32)
    assert doubts([{"pixels": pixels}], slots(model), Path("none")) == []
    (said,) = doubts([{"pixels": pixels[:1]}], slots(model), Path("none"))
    assert said.startswith("the data has 1 row, and")
