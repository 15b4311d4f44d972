"""Arrays in files: what is written is what is read, and nothing is made of a file that is torn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from burnish.runtimes.arrays import FILE, HEAD, read_arrays, write_arrays

ARRAYS = {
    "x": np.arange(6, dtype=np.float32).reshape(2, 3),
    "turned": np.arange(6, dtype=np.int64).reshape(2, 3).T,
    "a/b ü": np.array([True, False]),
    "none": np.zeros((0, 4), np.float16),
    "number": np.array(3.5),
    "words": np.array(["", "Wörter"]),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_arrays(tmp_path / "feed", ARRAYS)
    found = read_arrays(tmp_path / "feed")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
        found[name][...] = array  # it may be written to


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    write_arrays(tmp_path, ARRAYS)
    found = read_arrays(tmp_path, {"words", "turned", "other"})
    assert list(found) == ["turned", "words"]
    np.testing.assert_array_equal(found["words"], ARRAYS["words"])


def test_objects_and_sequences_become_plain(tmp_path: Path) -> None:
    parts = [np.zeros(2, np.float32), np.ones((1, 1), np.float32)]
    write_arrays(tmp_path, {"parts": parts, "words": np.array(["a"], object), "absent": None})  # type: ignore[dict-item]
    found = read_arrays(tmp_path)
    assert found["parts"].tolist() == [0, 0, 1]
    assert found["words"].tolist() == ["a"]
    assert found["absent"].size == 0


def test_a_file_that_ends_early(tmp_path: Path) -> None:
    write_arrays(tmp_path, ARRAYS)
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="ends within words"):
        read_arrays(tmp_path)


def test_objects_are_never_made(tmp_path: Path) -> None:
    header = json.dumps([["x", "|O", [1]]]).encode()
    (tmp_path / FILE).write_bytes(len(header).to_bytes(HEAD, "little") + header + bytes(8))
    with pytest.raises(ValueError, match="x holds objects"):
        read_arrays(tmp_path)
