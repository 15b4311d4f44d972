"""What the decoder of a pair is run on: texts of the user's data, as its encoder has read them.

Inputs of such a decoder are no text: they are what the float model has written so far, and the keys
and values that the encoder gives. So the exported pair, before any pass, writes its answers to the
data; a feed holds those of a few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from burnish.optimizer import annotated
from burnish.optimizer.annotated import TEXT, Example
from burnish.optimizer.contract import Array
from burnish.optimizer.errors import UsageError
from burnish.optimizer.user_data import BATCH, LONGEST, MOST_FEEDS
from burnish.runtimes.generate.decoder import Decoder
from burnish.runtimes.generate.encoder import Encoder
from burnish.runtimes.generate.generator import Generator
from burnish.runtimes.generate.opening import pair_of
from burnish.runtimes.generate.ports import heads_and_size
from burnish.runtimes.generate.prompts import for_pair

Emit = Callable[[dict[str, Any]], None]

LANGUAGE = "language"

WRITTEN = 48
"""Tokens that are written for a text at most."""


def feeds_of_decoder(argument: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """Write feeds for a decoder as `.npz` files; how many.

    Args:
        argument: `data` (texts, see `annotated.read`), `exported` (a folder with
            `encoder/encoder.onnx` and `decoder/decoder.onnx`), and the `folder` to write to.
        emit: told of the step.

    Raises:
        UsageError, StorageError: the data are no texts.
    """
    emit({"stage": "writing what the decoder is compared on"})
    exported, folder = Path(argument["exported"]), Path(argument["folder"])
    examples = annotated.read(Path(argument["data"]), columns=False)[: BATCH * MOST_FEEDS]
    decoder, encoder = (exported / name / f"{name}.onnx" for name in ("decoder", "encoder"))
    count = 0
    with closing(pair_of(decoder, encoder, exported)) as generator:
        for rows in _batches(examples):
            feed = _feed(generator, rows)
            np.savez(folder / f"{count:03}.npz", **feed)  # type: ignore[arg-type]
            count += 1
    return {"feeds": count}


def _batches(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Texts of one language and of similar lengths."""
    texts = [(str(item.fields.get(LANGUAGE, "")), len(_text(item)), item) for item in examples]
    for language in sorted({tag for tag, _, _ in texts}):
        mine = sorted((row for row in texts if row[0] == language), key=lambda row: row[1])
        for start in range(0, len(mine), BATCH):
            yield [item for _, _, item in mine[start : start + BATCH]]


def _text(example: Example) -> str:
    for name in (TEXT, "source", "document"):
        if isinstance(text := example.fields.get(name), str) and text:
            return text
    raise example.wrong(f"the line has no {TEXT!r}")


def _feed(generator: Generator, rows: Sequence[Example]) -> dict[str, Array]:
    """What the decoder is given once it has written all but the last token of each row.

    Rows are cut to the shortest, since no mask hides what a row has not.
    """
    encoder, decoder, vocabulary = _parts(generator)
    language = str(rows[0].fields.get(LANGUAGE, "")) or None
    read = [vocabulary.encode(_text(item))[:LONGEST] for item in rows]
    made = generator.generate(ids=read, language=language, max_new_tokens=WRITTEN)
    prompts = for_pair(read, None, None, generator.settings)
    length = min(map(len, made.ids))
    written = [start + row[: length - 1] for start, row in zip(prompts.rows, made.ids, strict=True)]
    values, mask = prompts.for_encoder(generator.settings.pad)
    ports, feed = decoder.ports, dict(encoder(values, mask))
    feed[ports.ids] = np.array(written, np.int64)
    if ports.encoder_mask:
        feed[ports.encoder_mask] = mask
    for cache in ports.caches:
        heads, size = heads_and_size(cache.past)
        feed[cache.past.name] = np.zeros((len(rows), heads, 0, size), np.float32)
    return feed


def _parts(generator: Generator) -> tuple[Encoder, Decoder, Any]:
    encoder, vocabulary = generator.model.encoder, generator.model.vocabulary
    if encoder is None or not encoder.reads_text or vocabulary is None:
        raise UsageError("--data are texts, and this pair reads none", hint="leaving it out")
    return encoder, generator.model.decoder, vocabulary
