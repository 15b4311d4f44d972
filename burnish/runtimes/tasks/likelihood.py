"""How likely a model holds texts: what perplexity is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.metrics.likelihood import losses
from burnish.runtimes.arrays import Array
from burnish.runtimes.tasks.folder import Folder
from burnish.runtimes.tasks.masks import FillMask
from burnish.runtimes.tasks.ports import TYPES, Opened, surely
from burnish.runtimes.tasks.task import Task
from burnish.runtimes.tasks.texts import Row, Texts

STEP = 7
"""One of so many pieces is masked, which is about what such models were trained with."""

CHUNK = 128
"""Pieces of one run of a decoder with caches: so many rows of logits are held at once."""

Loss = tuple[float, int]
"""The sum of the losses of a text's pieces, in nats, and how many there are."""


@dataclass(frozen=True)
class Pieces:
    """A text of which some pieces are masked."""

    ids: list[int]
    type_ids: list[int]


def of_masked(task: FillMask, texts: Sequence[str]) -> list[Loss]:
    """Losses of every seventh piece, masked; special pieces are none."""
    encodings = task.texts.encode(texts)
    places, masked = [], []
    for item in encodings:
        plain = [place for place, special in enumerate(item.special_tokens_mask) if not special]
        chosen = plain[min(STEP // 2, len(plain) // 2) :: STEP]
        ids = list(item.ids)
        for place in chosen:
            ids[place] = task.mask_id
        places.append(chosen)
        masked.append(Pieces(ids, item.type_ids))
    logits = task.output("logits")

    def take(index: int, row: Row) -> Loss:
        chosen = places[index]
        true = np.asarray(encodings[index].ids, np.int64)[chosen]
        return float(losses(row[logits][chosen], true).sum()) if chosen else 0.0, len(chosen)

    return task.texts.run(masked, [logits], take)


class CausalLikelihood(Task):
    """A decoder that is asked for the losses of texts, called on a list of them."""

    name = "text-generation"

    def __init__(self, folder: Folder, opened: Opened) -> None:
        super().__init__(folder, opened)
        self.texts = Texts(folder, opened)
        outputs = opened.outputs
        self._past = {
            name: f"present.{name.split('.', 1)[1]}"
            for name in opened.inputs
            if name.startswith("past_key_values.")
        }
        known = ("input_ids", "attention_mask", "position_ids", "logits_to_keep", *self._past)
        surely(opened.inputs, known)
        if missing := {"logits", *self._past.values()} - set(outputs):
            raise UnsupportedModel("an output of a decoder is missing", place=min(missing))

    def __call__(self, texts: Sequence[str]) -> list[Loss]:
        """Losses of each piece but the first, given those before it; special ones are none."""
        return [self._loss(item) for item in self.texts.encode(texts)]

    def _loss(self, encoding: Any) -> Loss:
        ids = np.asarray(encoding.ids, np.int64)
        counted = np.asarray(encoding.special_tokens_mask) == 0
        caches = {name: self._empty(name) for name in self._past}
        total, step = 0.0, CHUNK if self._past else max(len(ids), 1)
        for start in range(0, len(ids) - 1, step):
            part = ids[start : min(start + step, len(ids) - 1)]
            found = self._opened.run(
                ["logits", *self._past.values()], self._feed(part, start) | caches
            )
            for name, present in self._past.items():
                # Of a static cache a run gives what is new.
                whole = found[present].shape[2] == start + len(part)
                pieces = [found[present]] if whole else [caches[name], found[present]]
                caches[name] = np.concatenate(pieces, 2)
            rows = losses(found["logits"][0], ids[start + 1 : start + 1 + len(part)])
            total += float(rows[counted[start + 1 : start + 1 + len(part)]].sum())
        return total, int(counted[1:].sum())

    def _feed(self, ids: Array, start: int) -> dict[str, Array]:
        made = {
            "input_ids": ids[None],
            "attention_mask": np.ones((1, start + len(ids))),
            "position_ids": np.arange(start, start + len(ids))[None],
            "logits_to_keep": np.arange(-len(ids), 0),
        }
        names = [name for name in made if name in self._opened.inputs]
        return {name: self._opened.cast(name, made[name]) for name in names}

    def _empty(self, name: str) -> Array:
        """A cache without positions, [1, heads, 0, size]."""
        port = next(port for port in self.session.get_inputs() if port.name == name)
        shape = getattr(port, "shape", None) or []
        if len(shape) != 4 or not all(isinstance(shape[axis], int) for axis in (1, 3)):
            raise UnsupportedModel("the sizes of a cache are not known", place=name)
        return np.zeros((1, shape[1], 0, shape[3]), TYPES.get(port.type, np.float32))
