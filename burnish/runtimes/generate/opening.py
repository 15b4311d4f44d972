"""Opening an artifact folder for generation."""

from __future__ import annotations

import functools
from pathlib import Path

from burnish.optimizer.artifact import MANIFEST
from burnish.optimizer.configurations import told_in
from burnish.optimizer.errors import StorageError, UsageError
from burnish.runtimes.generate import settings
from burnish.runtimes.generate.batch import Model
from burnish.runtimes.generate.decoder import Decoder
from burnish.runtimes.generate.encoder import Encoder
from burnish.runtimes.generate.generator import Generator
from burnish.runtimes.generate.text import FILE, Vocabulary
from burnish.runtimes.resident import open_resident

TASKS = ("text-generation", "text2text-generation", "automatic-speech-recognition")
"""Tasks of the manifest whose artifacts generate."""

MODEL, ENCODER, DECODER = "model.onnx", "encoder.onnx", "decoder.onnx"
"""Files of an artifact: a decoder by itself, or a pair."""


def open_generator(folder: Path | str, *, provider: str = "cpu", threads: int = 0) -> Generator:
    """A generator of what lies in a folder: ours with a manifest, or the same files by others.

    Args:
        folder: with `model.onnx`, or `encoder.onnx` and `decoder.onnx`; with `tokenizer.json`,
            `generation_config.json` and `config.json` where there are such.
        provider: cpu, cuda or tensorrt.
        threads: 0 for as many as ONNX Runtime takes.

    Raises:
        UsageError: its task is none of generation, or the provider did not start.
        UnsupportedModel: its decoder is none that caches are handed to; see `ports.read`.
        InvalidModel, StorageError: a file makes no sense, or is missing.
    """
    folder = Path(folder)
    task = task_of(folder)
    if task and task not in TASKS:
        raise UsageError(f"a model for {task} generates no text", hint=", ".join(TASKS))
    pair = (folder / DECODER).exists()
    if not pair and not (folder / MODEL).exists():
        raise StorageError(f"there is no {MODEL} in it, and no {DECODER}")
    decoder, encoder = folder / (DECODER if pair else MODEL), folder / ENCODER if pair else None
    return pair_of(decoder, encoder, folder, provider=provider, threads=threads)


def pair_of(
    decoder_file: Path,
    encoder_file: Path | None,
    folder: Path,
    *,
    provider: str = "cpu",
    threads: int = 0,
) -> Generator:
    """A generator of a decoder, and its encoder where it has one, with the settings in a folder."""
    opened = functools.partial(open_resident, provider=provider, threads=threads)
    decoder = Decoder(opened(decoder_file))
    encoder = Encoder(opened(encoder_file), decoder.ports.fixed) if encoder_file else None
    vocabulary = Vocabulary(folder / FILE) if (folder / FILE).exists() else None
    own, notes = settings.read(folder)
    model = Model(decoder, encoder, vocabulary)
    files = [file for file in (decoder_file, encoder_file) if file]
    return Generator(model, own, settings.context_of(folder), notes, files, folder)


def task_of(folder: Path) -> str:
    """The task that a folder's manifest names; empty where there is no manifest."""
    return str(told_in(folder / MANIFEST).get("task", ""))
