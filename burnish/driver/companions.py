"""What goes with the stages of a plan, so that they generate: tokenizer, settings, the encoder."""

from __future__ import annotations

import shutil
from pathlib import Path

from burnish.optimizer.artifact import companion
from burnish.optimizer.frontend.companions import KEPT
from burnish.optimizer.saving import locations
from burnish.runtimes.generate.opening import DECODER, ENCODER


def copy(model: Path, folder: Path) -> None:
    """Copy the small files that belong to a model; and the encoder of a pair's decoder."""
    for name in KEPT:
        if (file := companion(model, name)).is_file():
            shutil.copyfile(file, folder / name)
    encoder = model.parent / ENCODER
    if model.name == DECODER and encoder.is_file():
        # Names without folders: nothing outside of the artifact is read.
        for name in (ENCODER, *(name for name in locations(encoder) if Path(name).name == name)):
            shutil.copyfile(encoder.parent / name, folder / name)
