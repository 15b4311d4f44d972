"""Digests of files, which take seconds for weights of gigabytes."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path


def digest_file(*paths: Path) -> str:
    """SHA-256 over the files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def digest_beside(*paths: Path) -> Future[str]:
    """The same, in a thread: hashing leaves the interpreter to others."""
    thread = ThreadPoolExecutor(1)
    future = thread.submit(digest_file, *paths)
    thread.shutdown(wait=False)
    return future
