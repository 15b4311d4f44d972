"""Texts to tokens, and tokens to texts as they come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import InvalidModel, UsageError, first_line

FILE = "tokenizer.json"

UNKNOWN = "\ufffd"
"""What decoders write for bytes that are no character."""

PATIENCE = 8
"""Tokens after which what is no character yet is given as it is. The beginning of a character in
UTF-8 has three bytes, and so three tokens, at most."""

TAGS = ("{}", "__{}__", "<|{}|>")
"""How vocabularies write languages that a decoder begins with (NLLB, M2M100, Whisper)."""

PREFIXES = (">>{}<<", "<2{}>")
"""... and those that come before what an encoder reads (Marian, MADLAD)."""


class Vocabulary:
    """A tokenizer without padding and truncation.

    Raises:
        InvalidModel: the file is none.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain ones
            raise InvalidModel(f"{path.name} is no tokenizer: {first_line(error)}") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, text: str, *, plain: bool = False) -> list[int]:
        """The tokens of a text, with those that the model wants around it unless `plain`."""
        return list(self._tokenizer.encode(text, add_special_tokens=not plain).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def id_of(self, token: str) -> int | None:
        """The number of a token; None where there is none of that name."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    def prefix(self, tag: str) -> int | None:
        """The token before a text that asks for a translation to a language, if there is one."""
        found = (self.id_of(pattern.format(tag)) for pattern in PREFIXES)
        return next((number for number in found if number is not None), None)

    def language(self, tag: str) -> int:
        """The token that stands for a language, by its tag (`fr`, `fra_Latn`).

        Raises:
            UsageError: there is none, or several begin with the tag.
        """
        added = self._tokenizer.get_added_tokens_decoder().items()
        special = {token.content: int(number) for number, token in added if token.special}
        for pattern in TAGS:
            if (name := pattern.format(tag)) in special:  # a mere piece of words is no language
                return special[name]
        begun = {name: special[name] for name in sorted(special) if name.startswith(f"{tag}_")}
        if len(begun) == 1:
            return next(iter(begun.values()))
        if begun:
            raise UsageError(f"language {tag} may be {' or '.join(begun)}", hint="one of them")
        raise UsageError(f"the vocabulary has no language {tag}", hint="a tag that it has")


class Stream:
    """The text of tokens that come one by one, in pieces that are whole characters.

    A character may be made of several tokens. Its beginning is kept until the rest has come; so is
    what may be the beginning of a text that ends the stream.

    Args:
        vocabulary: see there.
        stops: texts that end the stream; they and what follows are left out.
    """

    def __init__(self, vocabulary: Vocabulary, stops: Sequence[str] = ()) -> None:
        self._vocabulary, self._stops = vocabulary, [stop for stop in stops if stop]
        self._context: list[int] = []  # tokens whose text has been given,
        self._given = 0  # how many characters that is,
        self._fresh: list[int] = []  # and tokens after them
        self._kept = ""
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """One more token; the text that is certain by now and has not been given."""
        if self.stopped:
            return ""
        self._fresh.append(token)
        text = self._vocabulary.decode(self._context + self._fresh)
        if len(text) <= self._given:
            return ""
        if text.endswith(UNKNOWN) and len(self._fresh) < PATIENCE:
            return ""
        return self._give(self._take(text))

    def finish(self) -> str:
        """What is left where no more tokens come."""
        if self.stopped:
            return ""
        text = self._vocabulary.decode(self._context + self._fresh)
        piece = self._give(self._take(text))
        rest, self._kept = self._kept, ""
        self.text += rest
        return piece + rest

    def _take(self, text: str) -> str:
        """The new part of a decoded text.

        The tokens of that part stay, as the context of the next ones: it tells whether a space
        belongs between them, and bytes that follow each other may be one run for a decoder.
        """
        fresh = text[self._given :]
        self._context, self._fresh = self._fresh, []
        self._given = len(self._vocabulary.decode(self._context))
        return fresh

    def _give(self, fresh: str) -> str:
        """Text less what may be the beginning of a stop; all up to a stop that is whole."""
        text = self._kept + fresh
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.stopped, self._kept = True, ""
            piece = text[: min(places)]
        else:
            held = max((_overlap(text, stop) for stop in self._stops), default=0)
            piece, self._kept = text[: len(text) - held], text[len(text) - held :]
        self.text += piece
        return piece


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text begin a stop."""
    longest = min(len(stop) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
