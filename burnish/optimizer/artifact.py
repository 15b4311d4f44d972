"""What is written: one .onnx file, with a data file where it must be; staged, then published.

What one file cannot say (several graphs, a tokenizer, settings) makes it a folder with a manifest.

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

from burnish.optimizer.configurations import told_in
from burnish.optimizer.errors import UsageError, not_written
from burnish.optimizer.saving import files_of, remove, save

DIGEST_KEY = "burnish"
"""Key of the digest in `metadata_props`."""

PIPELINE = "pipeline"
"""The task that a manifest names where a folder holds stages of a plan."""

MANIFEST = "manifest.json"
"""What an artifact folder is told by."""


def own_name(model: Path, name: str) -> Path:
    """The file that belongs to one model, and differs from that of the others in its folder.

    That of `m.int8.onnx` in place of `tokenizer.json` is `m.int8.tokenizer.json`.
    """
    return model.with_suffix(f".{name}")


def companion(model: Path, name: str) -> Path:
    """The file of that name that belongs to a model: its own, else that of its folder."""
    own = own_name(model, name)
    return own if own.exists() else model.parent / name


@contextlib.contextmanager
def staging(beside: Path) -> Iterator[Path]:
    """A hidden folder on the same file system as `beside`, gone afterwards."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=".burnish-", dir=beside.parent))
    except OSError as error:
        raise not_written(f"nothing can be written to {beside.parent}", error) from None
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
        raise not_written("writing failed", error) from None
    remove(file for file in before if file not in data)
    return (target, *data)


def is_folder(path: Path) -> bool:
    """Whether a folder is an artifact of ours."""
    return DIGEST_KEY in told_in(path / MANIFEST)


def graph_of(model: str) -> str:
    """The graph that a name stands for: a file itself, or the only one of an artifact folder.

    Raises:
        UsageError: a folder that is no artifact, or one of several graphs.
    """
    path = Path(model)
    if not os.path.isdir(path):
        return model
    if not is_folder(path):
        told = "an .onnx file in it, or `optimize FOLDER` where it is a checkpoint"
        raise UsageError("a folder without a manifest of ours", hint=told)
    graphs = sorted(item.name for item in path.glob("*.onnx"))
    if len(graphs) != 1:
        raise UsageError(f"an artifact of {len(graphs)} graphs", hint=", ".join(graphs))
    return str(path / graphs[0])


def admit_folder(target: Path, source: str) -> None:
    """Raise where an artifact folder cannot take a place without a loss.

    Raises:
        UsageError: it is the input, a file, or holds what is not ours.
    """
    if not os.path.lexists(target):
        return
    if os.path.exists(source) and os.path.samefile(source, target):
        raise UsageError("the output would overwrite the input", hint="another -o")
    if not target.is_dir():
        raise UsageError(f"the output {target} is a file; a checkpoint becomes a folder")
    if any(target.iterdir()) and not is_folder(target):
        raise UsageError(f"the folder {target} holds other files", hint="another -o")


def publish_folder(staged: Path, target: Path) -> None:
    """Move a folder to its place; an earlier artifact there goes, and comes back if that fails.

    Args:
        staged: on the same file system, beside which there is room for the earlier one.
        target: see `admit_folder`.

    Raises:
        StorageError: nothing has changed then.
    """
    earlier = staged.with_name(f"{staged.name}.earlier")
    try:
        if target.exists():
            target.rename(earlier)
        staged.rename(target)
    except OSError as error:
        if earlier.exists() and not target.exists():
            earlier.rename(target)
        raise not_written("writing failed", error) from None
