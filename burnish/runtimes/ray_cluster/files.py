"""An artifact's files on nodes that lack them.

A node that has the same files at the same place uses those. Another one fetches them from an actor
beside the artifact, through Ray's object stores, a piece at a time: once for all that run there.
What is fetched is held to the digests that were taken where the artifact is.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from burnish import __version__
from burnish.optimizer import model
from burnish.optimizer.artifact import MANIFEST, companion
from burnish.optimizer.digests import digest_file
from burnish.optimizer.errors import StorageError, UsageError, reason_of

PIECE = 8 << 20
"""Bytes that are fetched at a time: small beside any object store."""

NAMESPACE = "burnish"
"""Of names of actors."""

BESIDE = (
    MANIFEST, "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
    "preprocessor_config.json", "sentence_bert_config.json", "chat_template.jinja",
)  # fmt: skip
"""Files that belong to a model by their names."""


class Depot:
    """The actor beside the artifact: reads pieces of its files."""

    def __init__(self, folder: str, names: tuple[str, ...]) -> None:
        self._folder, self._names = Path(folder), names

    def read(self, name: str, offset: int) -> bytes:
        """`PIECE` bytes of a file from an offset on; fewer at its end."""
        if name not in self._names:
            raise UsageError(f"{name} is no file of the artifact")
        with (self._folder / name).open("rb") as stream:
            stream.seek(offset)
            return stream.read(PIECE)


@dataclass(frozen=True)
class Shipment:
    """An artifact as nodes find it.

    Attributes:
        folder: where its files are beside the depot.
        main: name of its model there; empty where the folder is the artifact.
        digests: SHA-256 of its files by name.
        depot: name of the actor that reads them.
        version: that of Burnish there.
    """

    folder: str
    main: str
    digests: tuple[tuple[str, str], ...]
    depot: str
    version: str = __version__

    @property
    def key(self) -> str:
        """What a copy of these files is called."""
        return hashlib.sha256(repr(self.digests).encode()).hexdigest()[:32]

    def here(self) -> Copy:
        """The artifact on this node.

        Raises:
            StorageError: it cannot be written here, or has been changed meanwhile.
            UsageError: this node has another version of Burnish.
        """
        if self.version != __version__:
            raise UsageError(
                f"a node has Burnish {__version__}, and the artifact comes from {self.version}",
                hint="the same version on all nodes",
            )
        if self._is_in(Path(self.folder)):
            return Copy(Path(self.folder), self.main, None)
        try:
            return self._fetched()
        except OSError as error:
            reason = reason_of(error)
            raise StorageError(f"a node cannot keep the artifact's files: {reason}") from None

    def _is_in(self, folder: Path) -> bool:
        try:
            return all(digest_file(folder / name) == digest for name, digest in self.digests)
        except OSError:
            return False

    def _fetched(self) -> Copy:
        root = _root()
        handle = os.open(root / f"{self.key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)  # held while somebody uses the copy
            while not self._is_in(target := root / self.key):
                fcntl.flock(handle, fcntl.LOCK_EX)
                if not self._is_in(target):
                    shutil.rmtree(target, ignore_errors=True)
                    self._fetch(target)
                fcntl.flock(handle, fcntl.LOCK_SH)
        except BaseException:
            os.close(handle)
            raise
        return Copy(target, self.main, handle)

    def _fetch(self, target: Path) -> None:
        depot = ray.get_actor(self.depot, namespace=NAMESPACE)
        for name, _ in self.digests:
            (target / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (target / name).open("wb") as stream:
                while piece := ray.get(depot.read.remote(name, stream.tell())):
                    stream.write(piece)
        if not self._is_in(target):
            shutil.rmtree(target, ignore_errors=True)
            raise StorageError("the artifact was changed while it was sent", hint="once more")


@dataclass
class Copy:
    """The files of an artifact on a node, until `close`.

    Attributes:
        folder: where they are.
        main: see `Shipment`.
    """

    folder: Path
    main: str
    _handle: int | None

    @property
    def path(self) -> Path:
        """The artifact: its model, or its folder."""
        return self.folder / self.main

    def close(self) -> None:
        """Let go of the files; whoever is last removes what was fetched."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(handle)


def _root() -> Path:
    """The folder of copies on this node, which nobody else may write to."""
    node: str = ray.get_runtime_context().get_node_id()
    base = own_folder()
    _sweep(base)
    root = base / node[:16]
    root.mkdir(exist_ok=True, mode=0o700)
    return root


def own_folder() -> Path:
    """A folder of this user on this machine.

    Raises:
        StorageError: somebody else has made it.
    """
    folder = Path(tempfile.gettempdir()) / f"burnish-ray-{os.getuid()}"
    folder.mkdir(exist_ok=True, mode=0o700)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StorageError(f"{folder} belongs to somebody else", hint="another TMPDIR")
    return folder


def _sweep(base: Path) -> None:
    """Remove copies that nobody uses: their users were killed."""
    for lock in base.glob("*/*.lock"):
        with contextlib.suppress(OSError), lock.open("rb+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)


def shipped(path: Path) -> tuple[Shipment, Any]:
    """An artifact, ready to be sent, and its depot, which is to be kept as long.

    It is an .onnx file with what belongs to it, or a folder.

    Raises:
        BurnishError: it cannot be read, or reaches outside of its folder.
    """
    path = path.absolute()
    folder, main = (path, "") if path.is_dir() else (path.parent, path.name)
    names = sorted(set(_names(path)))
    if not names:
        raise UsageError("an empty folder: it is no artifact")
    try:
        digests = tuple((name, digest_file(folder / name)) for name in names)
    except OSError as error:
        raise StorageError(f"{error.filename} cannot be read: {reason_of(error)}") from None
    here = ray.get_runtime_context().get_node_id()
    depot = (
        ray.remote(Depot)
        .options(
            name=(name := f"depot-{uuid.uuid4().hex}"),
            namespace=NAMESPACE,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
        )
        .remote(str(folder), tuple(names))
    )
    return Shipment(str(folder), main, digests, name), depot


def _names(path: Path) -> Iterator[str]:
    """Names of the files of an artifact, from its folder on."""
    if path.is_dir():
        yield from (file.name for file in path.iterdir() if _counts(file))
    else:
        yield from (file.name for name in BESIDE if _counts(file := companion(path, name)))
    for item in sorted(path.glob("*.onnx")) if path.is_dir() else [path]:
        for file in model.load(item).files:
            yield file.relative_to(item.parent).as_posix()


def _counts(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".")
