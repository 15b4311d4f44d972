"""Opening an artifact folder for generation."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from burnish.optimizer.artifact import MANIFEST
from burnish.optimizer.configurations import told_in
from burnish.optimizer.errors import StorageError, UsageError
from burnish.runtimes import stages
from burnish.runtimes.generate import settings
from burnish.runtimes.generate.batch import Model
from burnish.runtimes.generate.decoder import Decoder
from burnish.runtimes.generate.encoder import Encoder
from burnish.runtimes.generate.generator import Generator
from burnish.runtimes.generate.staged import StagedSession
from burnish.runtimes.generate.text import FILE, Vocabulary
from burnish.runtimes.resident import ResidentSession, open_resident
from burnish.runtimes.workers.opening import THREADS

TASKS = ("text-generation", "text2text-generation", "automatic-speech-recognition")
"""Tasks of the manifest whose artifacts generate."""

MODEL, ENCODER, DECODER = "model.onnx", "encoder.onnx", "decoder.onnx"
"""Files of an artifact: a decoder by itself, or a pair."""


def open_generator(
    folder: Path | str,
    *,
    provider: str | Sequence[str] = "cpu",
    threads: int | Sequence[int] = 0,
    workers: str = THREADS,
) -> Generator:
    """A generator of what lies in a folder: ours with a manifest, or the same files by others.

    Args:
        folder: with `model.onnx`, or `encoder.onnx` and `decoder.onnx`, or the stages of a decoder
            (and `encoder.onnx`); with `tokenizer.json`, `generation_config.json` and `config.json`
            where there are such.
        provider: cpu, cuda or tensorrt; of stages, also one for each.
        threads: 0 for as many as ONNX Runtime takes; of stages, also a number for each.
        workers: whether stages have `processes` of their own.

    Raises:
        UsageError: its task is none of generation, or the provider did not start.
        UnsupportedModel: its decoder is none that caches are handed to; see `ports.read`.
        InvalidModel, StorageError: a file makes no sense, or is missing.
    """
    folder = Path(folder)
    encoder = folder / ENCODER
    if stages.is_pipeline(folder):
        plan = stages.read(folder)
        session: ResidentSession = StagedSession(
            folder, provider=provider, threads=threads, workers=workers
        )
        first = plan.openings(provider, threads, workers)[0]
        files = [stage.path for stage in plan.stages]
        return _generator(
            session, files, encoder if encoder.exists() else None, folder,
            functools.partial(open_resident, provider=first.provider, threads=first.threads),
        )  # fmt: skip
    if not isinstance(provider, str) or not isinstance(threads, int):
        raise UsageError("several providers or numbers of threads are for stages of a plan")
    task = task_of(folder)
    if task and task not in TASKS:
        raise UsageError(f"a model for {task} generates no text", hint=", ".join(TASKS))
    pair = (folder / DECODER).exists()
    if not pair and not (folder / MODEL).exists():
        raise StorageError(f"there is no {MODEL} in it, and no {DECODER}")
    decoder = folder / (DECODER if pair else MODEL)
    return pair_of(decoder, encoder if pair else None, folder, provider=provider, threads=threads)


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
    return _generator(opened(decoder_file), [decoder_file], encoder_file, folder, opened)


def _generator(
    session: ResidentSession,
    files: list[Path],
    encoder_file: Path | None,
    folder: Path,
    opened: Callable[[Path], ResidentSession],
) -> Generator:
    """A generator of a decoder's session, whose files are named."""
    with contextlib.ExitStack() as sessions:
        sessions.callback(session.close)
        decoder = Decoder(session)
        encoder = Encoder(opened(encoder_file), decoder.ports.fixed) if encoder_file else None
        vocabulary = Vocabulary(folder / FILE) if (folder / FILE).exists() else None
        own, notes = settings.read(folder)
        model = Model(decoder, encoder, vocabulary)
        files = [*files, *([encoder_file] if encoder_file else [])]
        found = Generator(model, own, settings.context_of(folder), notes, files, folder)
        sessions.pop_all()
    return found


def task_of(folder: Path) -> str:
    """The task that a folder's manifest names; empty where there is no manifest."""
    return str(told_in(folder / MANIFEST).get("task", ""))
