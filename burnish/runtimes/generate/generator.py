"""Generation from an artifact folder: texts or tokens in, texts out."""

from __future__ import annotations

import functools
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from burnish.optimizer.errors import UsageError
from burnish.runtimes.generate.again import Again
from burnish.runtimes.generate.batch import Batch, Generated, Model
from burnish.runtimes.generate.chat import Chat, Message
from burnish.runtimes.generate.many import Many
from burnish.runtimes.generate.prompts import Prompts, for_decoder, for_pair
from burnish.runtimes.generate.sequences import Array
from burnish.runtimes.generate.settings import Settings
from burnish.runtimes.generate.text import Vocabulary

OnText = Callable[[int, str], None]
"""Is told of a row and of the next piece of its text, which is whole characters."""


TOGETHER = (
    "activations are rounded to 8 bits by the range of a whole run: guessed tokens, and other "
    "texts of a batch, may change what a text becomes"
)
"""What is said of int8 with ranges that each run finds."""


class Generator:
    """Generates texts.

    Args:
        model: see there.
        settings: the model's own.
        context: positions that the decoder has; 0 for no limit.
        notes: what the user should know of the settings.
        files: the models.
        folder: of the chat template.
    """

    def __init__(
        self,
        model: Model,
        settings: Settings,
        context: int = 0,
        notes: Sequence[str] = (),
        files: Sequence[Path] = (),
        folder: Path = Path(),
    ) -> None:
        self.model, self.settings, self.context, self.notes = model, settings, context, list(notes)
        self._files, self._folder = files, folder

    def generate(
        self,
        texts: str | Sequence[str] | None = None,
        *,
        ids: Sequence[Sequence[int]] | None = None,
        features: Array | None = None,
        begin: Sequence[int] | None = None,
        language: str | None = None,
        on_text: OnText | None = None,
        **options: Any,
    ) -> Generated:
        """Go on from prompts, or translate or transcribe with an encoder; a batch in one go.

        Args:
            texts: one prompt or several.
            ids: tokens instead, as they are.
            features: what an encoder of sound or images is given, [rows, ...].
            begin: tokens that the decoder of a pair begins with; default: as settings say.
            language: tag of the target language, for models whose decoder begins with it, or
                whose encoder reads it before the text.
            on_text: is told of the text as it comes; of beams, once it is whole.
            options: fields of `Settings`, which win over the model's own.

        Raises:
            UsageError: what is given does not go with the model, or with each other.
            WorkerFailed: a stage in a process of its own was lost, twice.
        """
        again = Again(lambda: self._batch(texts, ids, features, begin, language, options))
        for row, piece in again.pieces():
            if on_text is not None:
                on_text(row, piece)
        return again.batch.made

    def chat(self, messages: Sequence[Message], **options: Any) -> Generated:
        """The next message of a conversation, by the model's chat template; see `generate`.

        Args:
            messages: `role` (system, user, assistant) and `content` of each, in order.
            options: as those of `generate`.

        Raises:
            UsageError: the model has no template, or it refuses the messages.
        """
        return self.generate(ids=[self.chat_ids(messages)], **options)

    def chat_ids(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of a conversation, up to where the next message begins; see `chat`."""
        return self._vocabulary().encode(self._chat.prompt(messages), plain=True)

    @functools.cached_property
    def _chat(self) -> Chat:
        return Chat(self._folder)

    def stream(self, text: str, *, language: str | None = None, **options: Any) -> Iterator[str]:
        """The text that follows, piece by piece; see `generate`."""
        again = Again(lambda: self._batch(text, None, None, None, language, options))
        return (piece for _, piece in again.pieces())

    def submit(self, texts: str | Sequence[str] | None = None, **options: Any) -> Future[Generated]:
        """What `generate` gives, once it is there.

        As many batches are generated at once as the decoder has stages; the rest wait.
        """
        return self._many.submit(texts, **options)

    def map(self, batches: Iterable[str | Sequence[str]], **options: Any) -> Iterator[Generated]:
        """What `generate` gives for each batch of texts, in order; see `submit`."""
        return self._many.map(batches, options)

    def health(self) -> dict[str, Any]:
        """Whether a token comes: `healthy`, `seconds` (None where none did), and `error`."""
        return self._many.health()

    @functools.cached_property
    def _many(self) -> Many:
        return Many(self.generate, self.model.decoder.session.together)

    def _batch(
        self,
        texts: str | Sequence[str] | None,
        ids: Sequence[Sequence[int]] | None,
        features: Array | None,
        begin: Sequence[int] | None,
        language: str | None,
        options: dict[str, Any],
    ) -> Batch:
        settings = self.settings.override(**options)
        prefix = self._vocabulary().prefix(language) if language else None
        if language and prefix is None:
            token = self._vocabulary().language(language)
            settings = settings.override(forced_bos_token_id=token)
        if sum(item is not None for item in (texts, ids, features)) != 1:
            raise UsageError("a prompt is a text, tokens, or features: one of them")
        rows = [list(row) for row in ids or ()]
        if texts is not None:
            several = [texts] if isinstance(texts, str) else texts
            rows = [self._vocabulary().encode(text) for text in several]
        rows = rows if prefix is None else [[prefix, *row] for row in rows]
        prompts = self._prompts(rows, features, begin, settings)
        end, notes = self._end(prompts.longest, settings)
        batch = Batch(self.model, prompts, settings, end)
        if (settings.speculate or len(prompts.rows) > 1) and self._rounds_together:
            notes.append(TOGETHER)
        batch.made.notes = [*self.notes, *notes]
        return batch

    def _prompts(
        self,
        rows: list[list[int]],
        features: Array | None,
        begin: Sequence[int] | None,
        settings: Settings,
    ) -> Prompts:
        """What the batch starts from; raises UsageError where that does not go with the model."""
        encoder = self.model.encoder
        if features is not None and (encoder is None or encoder.reads_text):
            raise UsageError("the model reads text, not features")
        if encoder is None:
            return for_decoder(rows, settings)
        if features is None and not encoder.reads_text:
            raise UsageError(f"the model reads {encoder.main}, not text")
        return for_pair(rows, features, begin, settings)

    def _end(self, prompt: int, settings: Settings) -> tuple[int, list[str]]:
        """Tokens at which texts end, within what the model has positions for; and a note."""
        end = settings.length_after(prompt)
        if not self.context or end <= self.context:
            return end, []
        if prompt >= self.context:
            raise UsageError(f"the prompt has {prompt} tokens, the model {self.context} positions")
        told = f"texts end after {self.context} tokens, for which the model has positions"
        return self.context, [told] if settings.max_new_tokens else []

    @functools.cached_property
    def _rounds_together(self) -> bool:
        """Whether activations are rounded by the range that a whole run has."""
        return any(_mentions(path, b"DynamicQuantize") for path in self._files)

    def _vocabulary(self) -> Vocabulary:
        if self.model.vocabulary is None:
            raise UsageError("there is no tokenizer.json", hint="tokens (ids=) instead of texts")
        return self.model.vocabulary

    def close(self) -> None:
        """Free the sessions, once what was submitted and has begun is there."""
        if "_many" in self.__dict__:
            self._many.close()
        self.model.decoder.close()
        if self.model.encoder is not None:
            self.model.encoder.close()

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _mentions(path: Path, word: bytes) -> bool:
    """Whether a file holds a word, such as the name of an operator."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return view.find(word) >= 0
