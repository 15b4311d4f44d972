"""Small tokenizers of each kind, trained on generated sentences of three made-up languages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]

LETTERS = {"aa": "abcdefgäöü", "bb": "hijklmnoéè", "cc": "世界漢字文本語言人大小中"}
"""Letters of each language; the third puts no spaces between words."""

SPACES = {"aa": " ", "bb": " ", "cc": ""}


def sentences(language: str, count: int, seed: int = 0) -> list[str]:
    """Different sentences of common and rare words; the words are those of the language."""
    random, letters = Random(language), LETTERS[language]
    words = ["".join(random.choices(letters, k=random.randint(1, 6))) for _ in range(150)]
    weights = [1.0 / rank for rank in range(1, len(words) + 1)]
    random, found = Random(f"{language}{seed}"), dict[str, None]()
    while len(found) < count:
        chosen = random.choices(words, weights, k=random.randint(3, 9))
        found[SPACES[language].join(chosen) + random.choice([".", "!", " 12", "?"])] = None
    return list(found)


def everything(count: int = 300) -> list[str]:
    """Sentences of all languages, in turn."""
    groups = [sentences(language, count) for language in LETTERS]
    return [item for row in zip(*groups, strict=True) for item in row]


def wordpiece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=600, special_tokens=SPECIAL, show_progress=False)
    made.train_from_iterator(everything(), trainer)
    made.post_processor = processors.BertProcessing(("</s>", 3), ("<s>", 2))
    made.enable_padding(pad_id=0, pad_token="<pad>")
    return made


def unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=600, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(everything(), trainer)
    made.post_processor = _template()
    return made


def byte_level() -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(everything(), trainer)
    made.post_processor = _template()
    return made


def ended() -> Tokenizer:
    """Pieces at the end of a word are marked, as CLIP's are."""
    made = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL, show_progress=False, end_of_word_suffix="</w>"
    )
    made.train_from_iterator(everything(), trainer)
    return made


def byte_fallback() -> Tokenizer:
    """Characters without a piece become bytes, as in Llama 2."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    space = normalizers.Replace(" ", "▁")
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), space])
    trainer = trainers.BpeTrainer(
        vocab_size=600, show_progress=False,
        special_tokens=[*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))],
    )  # fmt: skip
    # Words one by one, or a sentence would be a single one.
    made.train_from_iterator([f"{word}" for item in everything() for word in item.split()], trainer)
    content = json.loads(made.to_str())
    # Bytes are pieces, not tokens that are looked for in texts.
    content["added_tokens"] = [item for item in content["added_tokens"] if item["id"] < 5]
    content["post_processor"] = json.loads(_with(_template()))["post_processor"]
    return Tokenizer.from_str(json.dumps(content))


def _template() -> Any:
    return processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )


def _with(processor: Any) -> str:
    made = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    made.post_processor = processor
    return str(made.to_str())


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "wordpiece": wordpiece, "unigram": unigram, "byte-level": byte_level, "ended": ended,
    "byte-fallback": byte_fallback,
}  # fmt: skip


def write_corpus(folder: Path, count: int = 300) -> Path:
    """A folder of texts, a language in each kind of file that is read."""
    import gzip

    folder.mkdir(exist_ok=True)
    (folder / "aa.txt").write_text("\n".join(sentences("aa", count)), "utf-8")
    with gzip.open(folder / "train.bb.gz", "wt", encoding="utf-8") as stream:
        stream.write("\n".join(sentences("bb", count)))
    lines = [f"# sent_id = {i}\n# text = {s}\n1\tx\n" for i, s in enumerate(sentences("cc", count))]
    (folder / "cc_made-ud-test.conllu").write_text("\n".join(lines), "utf-8")
    return folder
