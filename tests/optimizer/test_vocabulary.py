"""Choosing tokens, and tokenizers of only those: texts of kept tokens are split as before."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tokenizers import Tokenizer as Library
from tokenizers_made import KINDS, LETTERS, sentences, write_corpus

from burnish.optimizer.errors import StorageError, UnsupportedModel, UsageError
from burnish.optimizer.vocabulary import choice, corpus, rewriting, settings
from burnish.optimizer.vocabulary.bpe import Bpe
from burnish.optimizer.vocabulary.coverage import coverage
from burnish.optimizer.vocabulary.numbers import Numbers
from burnish.optimizer.vocabulary.rewriting import Tokenizer


@functools.cache
def made(kind: str) -> str:
    return str(KINDS[kind]().to_str())


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Tokenizer:
    (tmp_path / "tokenizer.json").write_text(made(request.param), "utf-8")
    return rewriting.read(tmp_path / "tokenizer.json")


def library(content: dict[str, Any]) -> Library:
    loaded = Library.from_str(json.dumps(content))
    loaded.no_padding()
    return loaded


def test_texts_of_kept_tokens_are_split_as_before(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """With special tokens around them, and the new ids are the old ones numbered anew."""
    texts = corpus.read(write_corpus(tmp_path / "texts"), ["aa", "cc"])
    numbers = Numbers(choice.chosen(tokenizer, texts))
    assert len(numbers.kept) < len(tokenizer.pieces)
    before, after = library(tokenizer.content), library(tokenizer.cut(numbers))
    seen = 0
    for language in LETTERS:
        for text in sentences(language, 200, seed=1):
            first, second = before.encode(text), after.encode(text)
            if all(old in numbers.new for old in first.ids):
                seen += 1
                assert second.tokens == first.tokens
                assert [numbers.kept[new] for new in second.ids] == first.ids
                assert after.decode(second.ids) == before.decode(first.ids)
    assert seen > 100


def test_any_closed_choice_will_do(tokenizer: Tokenizer) -> None:
    """Not only tokens of whole languages: a third of all, at random."""
    random = Random(0)
    every = sorted(tokenizer.pieces.values())
    for _ in range(5):
        some = {*random.sample(every, len(every) // 3), *tokenizer.needed}
        numbers = Numbers(tuple(sorted(tokenizer.kind.closed(some))))
        before, after = library(tokenizer.content), library(tokenizer.cut(numbers))
        for language in LETTERS:
            for text in sentences(language, 60, seed=2):
                words = text.split() if language != "cc" else list(text)
                for word in words:
                    first = before.encode(word)
                    if all(old in numbers.new for old in first.ids):
                        assert after.encode(word).tokens == first.tokens, word


def test_what_could_be_written_still_can(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Each letter of a language's alphabet is a token of its own, or bytes."""
    texts = corpus.read(write_corpus(tmp_path / "texts"), ["aa", "cc"])
    after = library(tokenizer.cut(Numbers(choice.chosen(tokenizer, texts))))
    unknown = after.token_to_id("<unk>")
    for text in sentences("aa", 100, seed=3) + sentences("cc", 100, seed=3) + ["hik", "no"]:
        assert unknown not in after.encode(text, add_special_tokens=False).ids


def test_coverage_is_of_what_was_held_out(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "texts")
    texts = corpus.read(folder, ["aa", "bb", "cc"])
    numbers = Numbers(choice.chosen(tokenizer, {"aa": texts["aa"]}))
    found = coverage(tokenizer, numbers, texts)
    assert found["aa"].sentences == 30 == len(texts["aa"].held)
    assert found["aa"].kept > 0.95
    assert found["bb"].kept < 0.9 * found["aa"].kept
    for item in found.values():
        assert item.changed == 0
        assert item.kept + item.apart + item.unknown == pytest.approx(1.0)
        assert (item.longer == 1.0) == (item.kept == 1.0)


def test_a_merge_path_is_kept_whole() -> None:
    model = {
        "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, "bc": 5},
        "merges": ["a b", "ab c", ["b", "c"]],
    }
    kind = Bpe(model)
    assert kind.closed({4}) == {0, 1, 2, 3, 4}
    cut = kind.cut(Numbers((0, 1, 2, 3, 4)))
    assert cut["merges"] == ["a b", "ab c"]
    assert cut["vocab"] == {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4}


def test_the_score_of_the_unknown_stays(tmp_path: Path) -> None:
    """It is below that of the least probable piece, which is kept for that."""
    (tmp_path / "tokenizer.json").write_text(made("unigram"), "utf-8")
    tokenizer = rewriting.read(tmp_path / "tokenizer.json")
    scores = [score for _, score in tokenizer.kind.model["vocab"]]
    kept = tokenizer.kind.closed(tokenizer.needed)
    assert min(scores) in {scores[old] for old in kept}
    assert len(kept) == len(tokenizer.needed) + 1


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("train.de", "de"), ("train.en-de.de.gz", "de"), ("de.txt", "de"),
        ("de_pud-ud-test.conllu.gz", "de"), ("de/news.txt", "de"), ("news.txt", ""),
        ("de.dev.gz", ""), ("en.txt", ""), ("ode.txt", ""), ("de/more/x.txt", "de"),
    ],
)  # fmt: skip
def test_files_are_of_the_language_that_they_name(path: str, language: str) -> None:
    assert corpus.language_of(Path(path), ["de", "fr"]) == language


def test_a_corpus_without_a_language_is_refused(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "texts")
    with pytest.raises(UsageError, match="no file of language fr"):
        corpus.read(folder, ["aa", "fr"])
    (folder / "fr.txt").write_text("une phrase\n")
    with pytest.raises(UsageError, match="1 different sentences"):
        corpus.read(folder, ["fr"])
    (folder / "fr.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(StorageError, match="not readable text"):
        corpus.read(folder, ["fr"])
    with pytest.raises(StorageError, match="no folder"):
        corpus.read(tmp_path / "nothing", ["fr"])


def test_tokens_are_listed_by_id_or_piece(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(made("wordpiece"), "utf-8")
    tokenizer = rewriting.read(tmp_path / "tokenizer.json")
    (tmp_path / "tokens").write_text('7\r\n<mask>\n\n"a"\n##a\n')
    pieces = tokenizer.pieces
    wanted = {7, pieces["<mask>"], pieces["a"], pieces["##a"]}
    assert choice.listed_in(tmp_path / "tokens", tokenizer) == wanted
    (tmp_path / "tokens").write_text("nothing of the kind\n")
    with pytest.raises(UsageError, match="line 1"):
        choice.listed_in(tmp_path / "tokens", tokenizer)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"), ("[]", "no model"), ('{"model": {"vocab": 3}}', "no object of ids"),
        ('{"model": {"vocab": {"a": 0}, "merges": 3}}', "no tokenizer.json"),
        ('{"model": {"type": "Other", "vocab": {}}}', "kind Other"),
        ('{"model": {"vocab": {}, "merges": [], "continuing_subword_prefix": "#"}}', "prefix"),
    ],
)  # fmt: skip
def test_other_files_are_refused(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(UnsupportedModel, match=reason):
        rewriting.read(tmp_path / "tokenizer.json")


def test_configurations_get_the_new_ids(tmp_path: Path) -> None:
    config = {
        "vocab_size": 100, "type_vocab_size": 2, "pad_token_id": 4, "eos_token_id": [10, 20],
        "bos_token_id": None, "text_config": {"vocab_size": 128, "forced_bos_token_id": 30},
        "hidden_size": 96,
    }  # fmt: skip
    generation = {
        "suppress_tokens": [-1, 10, 11], "forced_decoder_ids": [[1, 30], [2, None]],
        "lang_to_id": {"<de>": 20}, "bad_words_ids": [[10, 20], [12]], "max_length": 20,
    }  # fmt: skip
    special = {"added_tokens_decoder": {"4": {"content": "<pad>"}, "11": {"content": "x"}}}
    for name, content in (
        ("config.json", config), ("generation_config.json", generation),
        ("tokenizer_config.json", special),
    ):  # fmt: skip
        (tmp_path / name).write_text(json.dumps(content))
    assert settings.ids_in(tmp_path) == {4, 10, 11, 12, 20, 30}
    written = settings.rewrite(tmp_path, Numbers((4, 10, 20, 30)), 100)
    assert written == ["config.json", "generation_config.json", "tokenizer_config.json"]

    def read(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((tmp_path / name).read_text())
        return found

    assert read("config.json") == {
        "vocab_size": 4, "type_vocab_size": 2, "pad_token_id": 0, "eos_token_id": [1, 2],
        "bos_token_id": None, "text_config": {"vocab_size": 4, "forced_bos_token_id": 3},
        "hidden_size": 96,
    }  # fmt: skip
    assert read("generation_config.json") == {
        "suppress_tokens": [-1, 1], "forced_decoder_ids": [[1, 3], [2, None]],
        "lang_to_id": {"<de>": 2}, "bad_words_ids": [[1, 2]], "max_length": 20,
    }  # fmt: skip
    assert read("tokenizer_config.json") == {"added_tokens_decoder": {"0": {"content": "<pad>"}}}


def test_comparisons_stay_true() -> None:
    numbers = Numbers((2, 5, 9))
    for old in range(12):
        below, not_above = numbers.below(old), numbers.below(old, itself=True)
        for new, kept in enumerate(numbers.kept):
            assert (kept < old) == (new < below)
            assert (kept <= old) == (new < not_above)
