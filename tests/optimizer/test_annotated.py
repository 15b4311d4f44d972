"""Annotated examples from files as people have them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from burnish.optimizer.annotated import Example, read
from burnish.optimizer.errors import StorageError, UsageError

CONLL = """-DOCSTART- -X- -X- O

# id 7
EU NNP B-NP B-ORG
rejects VBZ B-VP O

Peter NNP B-NP B-PER
# NN O O
"""


def of(path: Path, text: str, *, columns: bool = True) -> list[Example]:
    path.write_text(text, encoding="utf-8")
    return read(path, columns=columns)


def test_columns(tmp_path: Path) -> None:
    first, second = of(tmp_path / "eng.testa", CONLL)
    assert first.fields == {"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}
    assert first.place == "eng.testa:4"
    assert second.fields == {"tokens": ["Peter", "#"], "tags": ["B-PER", "O"]}
    assert first.group == second.group == ""


def test_a_comment_is_none_where_it_is_a_word(tmp_path: Path) -> None:
    (only,) = of(tmp_path / "a.conll", "#\tO\n1\tB-NR\n")
    assert only.fields["tokens"] == ["#", "1"]


def test_languages_before_words_are_groups(tmp_path: Path) -> None:
    text = "de:Die\tO\nde::\tO\n\nen:New York\tB-LOC\n"
    first, second = of(tmp_path / "mixed.txt", text)
    assert (first.group, second.group) == ("de", "en")
    assert first.fields["tokens"] == ["Die", ":"]
    assert second.fields["tokens"] == ["New York"]


def test_colons_in_some_words_are_no_languages(tmp_path: Path) -> None:
    (only,) = of(tmp_path / "a.txt", "at:home\tO\nagain\tO\n")
    assert only.fields["tokens"] == ["at:home", "again"]
    assert only.group == ""


def test_a_folder_groups_by_name(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("x")
    with gzip.open(tmp_path / "de.dev.gz", "wt") as stream:
        stream.write("Haus\tO\n")
    (tmp_path / "en.dev").write_text("house\tO\n")
    assert [item.group for item in read(tmp_path, columns=True)] == ["de", "en"]


def test_lines(tmp_path: Path) -> None:
    text = '{"text": "a", "group": "de"}\r\n\n{"text": "b"}\n'
    rows = of(tmp_path / "a.jsonl", text, columns=False)
    assert [(row.fields["text"], row.group) for row in rows] == [("a", "de"), ("b", "")]
    assert rows[1].place == "a.jsonl:3"
    # A line ends at a line feed: other separators may stand in a text.
    (only,) = of(tmp_path / "a.txt", "one\u2028two\n", columns=False)
    assert only.fields == {"text": "one\u2028two"}


@pytest.mark.parametrize(
    ("name", "text", "columns", "reason"),
    [
        ("a.jsonl", "{", False, "not JSON"),
        ("a.jsonl", "[1]", False, "not an object"),
        ("a.jsonl", "\n", False, "no examples"),
        ("a.conll", "word\n", True, "a word and a tag"),
        ("a.csv", "a,b\n", False, "neither"),
        ("a.npz", "", True, "neither"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, name: str, text: str, columns: bool, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        of(tmp_path / name, text, columns=columns)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        read(tmp_path / "none.jsonl", columns=False)
    (tmp_path / "a.jsonl.gz").write_bytes(b"\x1f\x8b\x08broken")
    with pytest.raises(StorageError, match="readable"):
        read(tmp_path / "a.jsonl.gz", columns=False)
