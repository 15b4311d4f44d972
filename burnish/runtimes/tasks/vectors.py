"""Vectors of texts: pooled, and of length 1 where the artifact says so."""

from __future__ import annotations

from typing import Any

import numpy as np

from burnish.optimizer.errors import InvalidModel, UsageError
from burnish.runtimes.arrays import Array
from burnish.runtimes.tasks.folder import Folder
from burnish.runtimes.tasks.ports import Opened
from burnish.runtimes.tasks.task import Task
from burnish.runtimes.tasks.texts import Row, Texts, admit

MEAN, FIRST, LARGEST, LAST = "mean", "cls", "max", "last"
POOLINGS = (MEAN, FIRST, LARGEST, LAST)

POOLED = ("sentence_embedding",)
"""Outputs that are vectors of texts already."""

TOKENS = ("last_hidden_state", "token_embeddings")
"""Outputs with a vector for each piece."""

SHORTEST = 1e-12
"""Length below which a vector is not divided by it."""


class FeatureExtraction(Task):
    """Called on a text, or a list of texts.

    Attributes:
        pooling: `mean`, `cls`, `max` or `last`; what the manifest says, or else the mean, as
            sentence-transformers has it.
        normalize: whether vectors have length 1; likewise, or else not.
    """

    name = "feature-extraction"

    def __init__(self, folder: Folder, opened: Opened) -> None:
        super().__init__(folder, opened)
        admit(opened)
        self.texts = Texts(folder, opened)
        self.pooling = str(folder.pooling.get("mode", MEAN))
        self.normalize = bool(folder.pooling.get("normalize", False))
        if self.pooling not in POOLINGS:
            raise InvalidModel(f"its manifest asks for the pooling {self.pooling}")
        self._vectors = self.output(*POOLED, *TOKENS)

    def __call__(self, texts: str | list[str], *, normalize: bool | None = None) -> Array:
        """Vectors, float32 [size], of a list [texts, size].

        Warns `TextsCut` where a text is too long.

        Args:
            texts: one, or several.
            normalize: whether vectors have length 1; None for what the artifact says.
        """
        encodings = self.texts.encode([texts] if isinstance(texts, str) else texts)

        def take(index: int, row: Row) -> Array:
            return pooled(row[self._vectors], len(encodings[index].ids), self.pooling)

        found = self.texts.run(encodings, [self._vectors], take)
        if not found:
            raise UsageError("there are no texts")
        vectors = np.stack(found)
        if self.normalize if normalize is None else normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), SHORTEST)
        return vectors[0] if isinstance(texts, str) else vectors


def pooled(values: Array, count: int, mode: str) -> Array:
    """One vector, float32 [size].

    Args:
        values: [sequence, size] with padding on the right, or [size] where the model has pooled.
        count: pieces that are no padding.
        mode: one of `POOLINGS`.
    """
    if values.ndim == 1:
        return values.astype(np.float32)
    if values.ndim != 2:
        raise InvalidModel(f"its output has {values.ndim + 1} axes, where vectors have 2 or 3")
    kept: Any = values[:count].astype(np.float32)
    ways = {MEAN: kept.mean, FIRST: lambda axis: kept[0], LARGEST: kept.max,
            LAST: lambda axis: kept[-1]}  # fmt: skip
    found: Array = ways[mode](axis=0)
    return found
