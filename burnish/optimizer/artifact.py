"""What is written: one .onnx file, with a data file where it must be; staged, then published.

A candidate is staged in a hidden folder beside its destination, where it is checked and timed as
the user would run it. Publishing gives it its digest and its name; until then, and if anything
fails, the destination is as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from burnish.optimizer.errors import StorageError, reason_of
from burnish.optimizer.saving import files_of, remove, save

DIGEST_KEY = "burnish"
"""Key of the digest in `metadata_props`."""


@contextlib.contextmanager
def staging(beside: Path) -> Iterator[Path]:
    """A hidden folder on the same file system as `beside`, gone afterwards."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=".burnish-", dir=beside.parent))
    except OSError as error:
        reason = reason_of(error)
        raise StorageError(f"nothing can be written to {beside.parent}: {reason}") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stage(model: ir.Model, folder: Path, target: Path, *, external: bool) -> tuple[Path, ...]:
    """Write the model into the staging folder under the name it will have."""
    folder.mkdir(exist_ok=True)
    if DIGEST_KEY in model.metadata_props:
        model = model.clone()
        del model.metadata_props[DIGEST_KEY]
    return save(model, folder / target.name, external=external)


def publish(files: tuple[Path, ...], target: Path, digest: Mapping[str, Any]) -> tuple[Path, ...]:
    """Move staged files to their destination: data first, the model last.

    The digest (no timings: the same input gives the same bytes) goes into the model's metadata.
    Data files of an earlier model at `target` are removed at the end.
    """
    addition = onnx.ModelProto()
    entry = addition.metadata_props.add()
    entry.key, entry.value = DIGEST_KEY, json.dumps(digest, sort_keys=True)
    before = files_of(target)
    data = [target.parent / file.name for file in files[1:]]
    try:
        with files[0].open("ab") as stream:
            # Messages that follow each other are one; see `wire` for where that is written.
            stream.write(addition.SerializeToString())
            stream.flush()
            os.fsync(stream.fileno())
        for staged, file in zip(files[1:], data, strict=True):
            staged.replace(file)
        files[0].replace(target)
    except OSError as error:
        remove(file for file in data if file not in before)
        raise StorageError(f"writing failed: {reason_of(error)}") from None
    remove(file for file in before if file not in data)
    return (target, *data)
