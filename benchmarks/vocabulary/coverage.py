"""How much of a language its tokens cover, by the size of the corpus and by what else is kept.

    python benchmarks/vocabulary/coverage.py DATA

DATA has `ud_pud`, `mt_multi30k` and `tokenizers`. XLM-R's tokenizer, German, French and Chinese;
each row is measured on the sentences that the whole corpus holds out. "seen" are the tokens of the
sentences and single characters, "alphabets" also all tokens of alphabets with few (what `optimize`
keeps), "inside" also tokens that occur anywhere inside of words.
"""

from __future__ import annotations

import sys
import tempfile
import unicodedata
from pathlib import Path
from unittest import mock

from languages import LANGUAGES, tokenizer_of

from burnish.optimizer.vocabulary import choice, corpus, rewriting
from burnish.optimizer.vocabulary.corpus import Texts
from burnish.optimizer.vocabulary.coverage import coverage
from burnish.optimizer.vocabulary.numbers import Numbers
from burnish.optimizer.vocabulary.rewriting import Tokenizer

SIZES = (90, 300, 900, 3000, 9000)


def inside(tokenizer: Tokenizer, corpus_: dict[str, Texts]) -> set[int]:
    """Tokens that occur inside of words."""
    longest = max(map(len, tokenizer.pieces))
    words = {word for texts in corpus_.values() for text in texts.used for word in text.split()}
    found = set()
    for word in words:
        text = choice.WORD_START + unicodedata.normalize("NFKC", word)
        for start in range(len(text)):
            for end in range(start + 1, min(len(text), start + longest) + 1):
                found.add(tokenizer.pieces.get(text[start:end], -1))
    return found - {-1}


def row(name: str, tokenizer: Tokenizer, used: dict[str, Texts], kept: tuple[int, ...]) -> str:
    """A line of the table."""
    found = coverage(tokenizer, Numbers(kept), used)
    shares = " | ".join(f"{found[language].kept:.4f}" for language in LANGUAGES)
    count = " ".join(str(len(used[language].used)) for language in LANGUAGES)
    return f"| {count} | {name} | {len(kept):,} | {shares} |"


def main() -> None:
    """Print the tables."""
    data = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        tokenizer_of("xlmr", data, Path(folder) / "tokenizer.json")
        tokenizer = rewriting.read(Path(folder) / "tokenizer.json")
    for source in (data / "ud_pud", data):
        texts = corpus.read(source, LANGUAGES)
        print(f"\n{source.name}: sentences of {', '.join(LANGUAGES)}\n")
        print(f"| sentences | kept are | tokens | {' | '.join(LANGUAGES)} |")
        print("|---|---|---|---|---|---|")
        most = max(len(item.used) for item in texts.values())
        for size in (*(size for size in SIZES if size < most), most):
            # The corpus is not in random order: every so manieth sentence.
            used = {
                language: Texts(item.used[:: max(1, len(item.used) // size)][:size], item.held)
                for language, item in texts.items()
            }
            print(row("alphabets", tokenizer, used, choice.chosen(tokenizer, used)))
        with mock.patch.object(choice, "WHOLE", 0.0):
            print(row("seen", tokenizer, texts, choice.chosen(tokenizer, texts)))
        more = inside(tokenizer, texts)
        print(row("inside", tokenizer, texts, choice.chosen(tokenizer, texts, more)))


if __name__ == "__main__":
    main()
