"""Texts that come in pieces: whole characters, stops left out, the whole as if decoded at once."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest
from generating import tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from burnish.optimizer.errors import InvalidModel, UsageError
from burnish.runtimes.generate.text import PATIENCE, UNKNOWN, Stream, Vocabulary


@functools.cache
def bytewise() -> Vocabulary:
    return _saved(tokenizer())


@functools.cache
def fallback() -> Vocabulary:
    """Words with a mark for the space before them, and bytes for the rest (sentencepiece)."""
    words = ["▁the", "▁text", "▁", "s", "▁e"]
    names = [f"<0x{number:02X}>" for number in range(256)]
    made = Tokenizer(models.BPE({name: place for place, name in enumerate(names + words)}, []))
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return _saved(made)


def _saved(made: Tokenizer) -> Vocabulary:
    with tempfile.TemporaryDirectory() as folder:
        made.save(f"{folder}/tokenizer.json")
        return Vocabulary(Path(folder) / "tokenizer.json")


def pieces(vocabulary: Vocabulary, tokens: list[int], stops: list[str] | None = None) -> list[str]:
    stream = Stream(vocabulary, stops or ())
    found = [stream.push(token) for token in tokens]
    found.append(stream.finish())
    assert "".join(found) == stream.text
    return [piece for piece in found if piece]


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1))
def test_pieces_are_whole_characters_and_make_the_text(text: str) -> None:
    tokens = bytewise().encode(text)
    found = pieces(bytewise(), tokens)
    assert "".join(found) == bytewise().decode(tokens) == text
    assert all(piece.encode("utf-8", "surrogatepass").decode() for piece in found)
    assert UNKNOWN in text or not any(UNKNOWN in piece for piece in found)


BYTES = st.binary(max_size=6)
CHARACTERS = st.text(max_size=4).map(lambda text: list(text.encode()))
WORDS = st.lists(st.integers(256, 260), max_size=3)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(CHARACTERS, WORDS)))
def test_characters_of_bytes_between_words(parts: list[list[int]]) -> None:
    tokens = [token for part in parts for token in part]
    assert "".join(pieces(fallback(), tokens)) == fallback().decode(tokens)


def test_a_character_of_four_tokens_comes_at_once() -> None:
    tokens = bytewise().encode("a\U0001f600b")
    assert len(tokens) == 6
    assert pieces(bytewise(), tokens) == ["a", "\U0001f600", "b"]


def test_bytes_that_are_no_character_do_not_hold_the_text_back() -> None:
    first = bytewise().encode("\U0001f600")[0]  # the beginning of a character, and no more
    found = pieces(bytewise(), [first] * (2 * PATIENCE))
    assert len(found) == 2 and set("".join(found)) == {UNKNOWN}


def test_a_stop_is_left_out_with_what_follows() -> None:
    tokens = bytewise().encode("one two END three")
    stream = Stream(bytewise(), ["END"])
    given_ = [stream.push(token) for token in tokens]
    assert "".join(given_) == stream.text == "one two "
    assert stream.stopped and stream.finish() == ""


def test_the_beginning_of_a_stop_is_kept_until_it_is_none() -> None:
    tokens = bytewise().encode("xENx")
    stream = Stream(bytewise(), ["END", "never"])
    assert [stream.push(token) for token in tokens] == ["x", "", "", "ENx"]
    half = Stream(bytewise(), ["END"])
    assert "".join(half.push(token) for token in tokens[:3]) == "x"
    assert half.finish() == "EN" and half.text == "xEN"


def test_languages_by_their_tags() -> None:
    names = bytewise()
    assert names.language("fr") == names.id_of("__fr__") is not None
    assert names.language("deu") == names.id_of("deu_Latn") is not None
    assert names.prefix("fr") is None and names.prefix("nld") == names.id_of(">>nld<<") is not None
    piece = names.encode("t")  # a token, but of a word
    assert len(piece) == 1
    with pytest.raises(UsageError, match="no language t"):
        names.language("t")
    with pytest.raises(UsageError, match="no language xx"):
        names.language("xx")


def test_a_file_that_is_no_tokenizer_is_said(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidModel, match=r"tokenizer\.json is no tokenizer"):
        Vocabulary(tmp_path / "tokenizer.json")
