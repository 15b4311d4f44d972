"""More feeds than those that are checked on: none twice, none left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from test_user_data import arrays, tokenizer

from burnish.optimizer.more_data import MOST_MORE, read_more
from burnish.optimizer.roles import Slot, slots
from burnish.optimizer.user_data import BATCH, MOST_FEEDS, read


@pytest.fixture
def inputs(bert: ir.Model) -> list[Slot]:
    return slots(bert)


def test_texts_go_on_where_those_end_that_are_checked(inputs: list[Slot], tmp_path: Path) -> None:
    file = tokenizer(tmp_path)
    lines = ["the cat"] * (BATCH * MOST_FEEDS) + ["the cat sat"] * (BATCH * 2 + 1)
    (tmp_path / "texts.txt").write_text("\n".join(lines))
    first = read(tmp_path / "texts.txt", inputs, file).feeds
    more = read_more(tmp_path / "texts.txt", inputs, file)
    assert {feed["input_ids"].shape for feed in first} == {(BATCH, 2)}
    assert [feed["input_ids"].shape for feed in more] == [(BATCH, 3), (BATCH, 3), (1, 3)]


def test_texts_are_taken_from_all_over_the_file(inputs: list[Slot], tmp_path: Path) -> None:
    file = tokenizer(tmp_path)
    lines = ["the"] * (BATCH * MOST_FEEDS)
    for text in ("the", "the cat", "the cat sat"):
        lines += [text] * (BATCH * MOST_MORE)
    (tmp_path / "texts.txt").write_text("\n".join(lines))
    found = read_more(tmp_path / "texts.txt", inputs, file)
    assert len(found) == MOST_MORE
    tokens = sum(int(feed["attention_mask"].sum()) for feed in found)
    assert tokens == BATCH * MOST_MORE // 3 * (1 + 2 + 3)


def test_archives_and_lines_of_arrays(inputs: list[Slot], tmp_path: Path) -> None:
    folder = tmp_path / "feeds"
    folder.mkdir()
    for index in range(MOST_FEEDS + 3):
        np.savez(folder / f"{index:03}.npz", **arrays(length=index + 1))
    lengths = [feed["input_ids"].shape[1] for feed in read_more(folder, inputs, tmp_path)]
    assert lengths == [MOST_FEEDS + 1, MOST_FEEDS + 2, MOST_FEEDS + 3]
    rows = [
        {name: array.tolist() for name, array in arrays(length=index + 1).items()}
        for index in range(MOST_FEEDS + 2)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_more(tmp_path / "rows.jsonl", inputs, tmp_path)
    assert [feed["input_ids"].shape[1] for feed in found] == [MOST_FEEDS + 1, MOST_FEEDS + 2]
    assert read_more(folder / "000.npz", inputs, tmp_path) == []


def test_groups_take_turns_up_to_a_bound(inputs: list[Slot], tmp_path: Path) -> None:
    file = tokenizer(tmp_path)
    rows = [{"text": "the", "group": "a"}] * (BATCH * (MOST_FEEDS + MOST_MORE))
    rows += [{"text": "the cat", "group": "b"}] * (BATCH * (MOST_FEEDS // 2 + 3))
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_more(tmp_path / "rows.jsonl", inputs, file)
    lengths = [feed["input_ids"].shape[1] for feed in found]
    assert len(found) == MOST_MORE
    assert lengths[:7] == [1, 2, 1, 2, 1, 2, 1]
