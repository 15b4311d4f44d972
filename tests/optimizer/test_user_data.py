"""Data of the user's own: arrays, lines and texts."""

from __future__ import annotations

import gc
import json
import warnings
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from samples import parse

from burnish.optimizer.contract import Feeds
from burnish.optimizer.errors import StorageError, UsageError
from burnish.optimizer.roles import Slot, slots
from burnish.optimizer.user_data import BATCH, MOST_FEEDS, Data
from burnish.optimizer.user_data import read as read_data

NAMES = ("input_ids", "attention_mask", "token_type_ids")


def read(path: Path, inputs: list[Slot], beside: Path) -> list[Feeds]:
    """The feeds, of data without groups."""
    data = read_data(path, inputs, beside)
    assert data == Data.alike(data.feeds)
    return data.feeds


@pytest.fixture
def inputs(bert: ir.Model) -> list[Slot]:
    return slots(bert)


def arrays(rows: int = 2, length: int = 3) -> dict[str, np.ndarray]:
    return {name: np.ones((rows, length), np.int32) for name in NAMES}


def tokenizer(folder: Path) -> Path:
    """Words known by number, as `tokenizer.json`."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"[PAD]": 0, "[UNK]": 1, "the": 2, "cat": 3, "sat": 4}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def test_an_archive_is_one_feed(inputs: list[Slot], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays(), unused=np.zeros(3))
    (feed,) = read(tmp_path / "a.npz", inputs, tmp_path)
    assert set(feed) == set(NAMES)
    assert feed["input_ids"].dtype == np.int64
    assert feed["input_ids"].tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_folder_is_a_feed_per_archive_in_order(inputs: list[Slot], tmp_path: Path) -> None:
    for index in reversed(range(MOST_FEEDS + 4)):
        np.savez(tmp_path / f"{index:02}.npz", **arrays(rows=index + 1))
    found = read(tmp_path, inputs, tmp_path)
    assert [len(feed["input_ids"]) for feed in found] == list(range(1, MOST_FEEDS + 1))


def test_lines_of_arrays(inputs: list[Slot], tmp_path: Path) -> None:
    lines = [json.dumps({name: [[1, 2]] for name in NAMES}), "", json.dumps(_lists(3))]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = read(tmp_path / "a.jsonl", inputs, tmp_path)
    assert [feed["input_ids"].shape for feed in found] == [(1, 2), (1, 3)]


def _lists(length: int) -> dict[str, list[list[int]]]:
    return {name: [[1] * length] for name in NAMES}


def fixed(rows: int | str, length: int | str) -> list[Slot]:
    return slots(
        parse(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        fixed (int64[{rows}, {length}] input_ids, int64[{rows}, {length}] attention_mask) => (y)
        <float[5, 1] table = {{0, 0, 0, 0, 0}}>
        {{ y = Gather (table, input_ids) }}
    """)
    )


def test_texts_take_the_sizes_that_the_model_fixes(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    (tmp_path / "a.txt").write_text("the cat sat\ncat\nthe cat\nsat\nthe")
    found = read(tmp_path / "a.txt", fixed(2, 2), tmp_path)
    assert [feed["input_ids"].tolist() for feed in found] == [
        [[2, 3], [3, 0]],
        [[2, 3], [4, 0]],
    ]
    assert found[0]["attention_mask"].tolist() == [[1, 1], [1, 0]]
    with pytest.raises(UsageError, match="takes 9 texts at a time, and there are 5"):
        read(tmp_path / "a.txt", fixed(9, "length"), tmp_path)


def test_padding_is_that_of_the_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(tokenizer(tmp_path)))
    made.enable_padding(direction="left", pad_id=1, pad_token="[UNK]")
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "a.txt").write_text("the cat sat\ncat")
    (feed,) = read(tmp_path / "a.txt", fixed("rows", "length"), tmp_path)
    assert feed["input_ids"].tolist() == [[2, 3, 4], [1, 1, 3]]
    assert feed["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]


@pytest.mark.parametrize("values", [[[0.5, 1.0]], [[2**40, 1]]])
def test_values_that_the_type_cannot_hold(tmp_path: Path, values: list) -> None:
    inputs = slots(
        parse("""
        <ir_version: 8, opset_import: ["" : 17]>
        narrow (int32[a, b] x) => (y) { y = Identity (x) }
    """)
    )
    np.savez(tmp_path / "a.npz", x=np.array(values))
    with pytest.raises(UsageError, match="no array of INT32"):
        read(tmp_path / "a.npz", inputs, tmp_path)


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_texts_are_padded_to_the_longest_of_their_batch(
    inputs: list[Slot], tmp_path: Path, suffix: str
) -> None:
    texts = ["the cat sat", "cat"]
    lines = texts if suffix == ".txt" else [json.dumps({"text": text}) for text in texts]
    (tmp_path / f"a{suffix}").write_text("\n".join(lines))
    tokenizer(tmp_path)
    (feed,) = read(tmp_path / f"a{suffix}", inputs, tmp_path)
    assert feed["input_ids"].tolist() == [[2, 3, 4], [3, 0, 0]]
    assert feed["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert feed["token_type_ids"].tolist() == [[0, 0, 0], [0, 0, 0]]


def test_texts_come_in_batches(inputs: list[Slot], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat\n" * (BATCH + 1))
    file = tokenizer(tmp_path)
    found = read(tmp_path / "a.txt", inputs, file)
    assert [len(feed["input_ids"]) for feed in found] == [BATCH, 1]


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.csv", b"1,2", UsageError, "is none of .npz"),
        ("a.npz", b"", StorageError, "is not an .npz file"),
        ("a.npz", b"plain text", StorageError, "is not an .npz file"),
        ("a.jsonl", b"{", UsageError, "a line that is not JSON"),
        ("a.jsonl", b"[1]", UsageError, "a line that is not an object"),
        ("a.jsonl", b'{"input_ids": [[1]]}', UsageError, "no array for input attention_mask"),
        ("a.jsonl", b"[" * 200_000, UsageError, "a line that is not JSON"),
        ("a.txt", b"\n\n", UsageError, "is empty"),
        ("a.txt", b"\xff\xfe\x00", StorageError, "is not readable text"),
        ("a.txt", b"the cat", UsageError, "texts need a tokenizer"),
    ],
    ids=[
        "suffix", "empty", "text", "open-brace", "list", "missing", "deep", "blank",
        "encoding", "no-tokenizer",
    ],
)  # fmt: skip
def test_what_is_refused(
    inputs: list[Slot],
    tmp_path: Path,
    name: str,
    content: bytes,
    error: type[Exception],
    message: str,
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        read(tmp_path / name, inputs, tmp_path)


def test_a_broken_archive_is_refused_and_closed(inputs: list[Slot], tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            read(tmp_path / "a.npz", inputs, tmp_path)
        except Exception as error:
            kind = type(error)
        gc.collect()
    assert kind is StorageError
    assert not caught


def test_an_array_of_python_objects_is_refused(inputs: list[Slot], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays() | {"input_ids": np.array([{}], object)})
    with pytest.raises(StorageError, match="plain arrays"):
        read(tmp_path / "a.npz", inputs, tmp_path)


def test_a_single_array_is_no_archive(inputs: list[Slot], tmp_path: Path) -> None:
    with (tmp_path / "a.npz").open("wb") as stream:
        np.save(stream, np.ones(3))
    with pytest.raises(StorageError):
        read(tmp_path / "a.npz", inputs, tmp_path)


def test_another_rank_is_refused(inputs: list[Slot], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays() | {"attention_mask": np.ones((2, 1, 3))})
    with pytest.raises(UsageError, match="input attention_mask wants 2 axes, not 3"):
        read(tmp_path / "a.npz", inputs, tmp_path)


def test_words_for_numbers_are_refused(inputs: list[Slot], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays() | {"input_ids": np.array([["a", "b", "c"]] * 2)})
    with pytest.raises(UsageError):
        read(tmp_path / "a.npz", inputs, tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        "[[1], [1, 2]]",
        '"text"',
        "{}",
        "[[1e400]]",
        f"[[{2**70}]]",
    ],
)
def test_lines_that_are_no_arrays_are_refused(
    inputs: list[Slot], tmp_path: Path, value: str
) -> None:
    rest = ", ".join(f'"{name}": [[1]]' for name in NAMES[1:])
    (tmp_path / "a.jsonl").write_text(f'{{"input_ids": {value}, {rest}}}')
    with pytest.raises(UsageError):
        read(tmp_path / "a.jsonl", inputs, tmp_path)


def test_absent_data_and_empty_folders(inputs: list[Slot], tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        read(tmp_path / "none.npz", inputs, tmp_path)
    with pytest.raises(UsageError, match=r"a folder without \.npz files"):
        read(tmp_path, inputs, tmp_path)


def test_each_group_has_its_share(inputs: list[Slot], tmp_path: Path) -> None:
    """However the file is ordered, and however much there is of each."""
    tokenizer(tmp_path)
    lines = [{"text": "one two", "group": "en"}] * 900
    lines += [{"text": "eins zwei", "group": "de"}] * 40 + [{"text": "un", "group": "fr"}] * 3
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = read_data(tmp_path / "a.jsonl", inputs, tmp_path)
    share = MOST_FEEDS // 3
    assert data.groups == ["en"] * share + ["de"] * 3 + ["fr"]
    assert [len(feed["input_ids"]) for feed in data.feeds[share:]] == [16, 16, 8, 3]


def test_more_groups_than_feeds(inputs: list[Slot], tmp_path: Path) -> None:
    tokenizer(tmp_path)
    lines = [{"text": "one", "group": f"g{index}"} for index in range(MOST_FEEDS + 4)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert len(read_data(tmp_path / "a.jsonl", inputs, tmp_path).feeds) == MOST_FEEDS + 4


def test_arrays_may_have_groups(inputs: list[Slot], tmp_path: Path) -> None:
    row = {slot.port.name: [[1, 1]] for slot in inputs}
    lines = [row | {"group": name} for name in "abab"]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read_data(tmp_path / "a.jsonl", inputs, tmp_path).groups == ["a", "a", "b", "b"]
