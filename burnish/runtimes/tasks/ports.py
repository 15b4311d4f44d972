"""Inputs of an opened model: their types, and the sizes that are fixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from burnish.optimizer.errors import BurnishError, UnsupportedModel, first_line
from burnish.runtimes.arrays import Array
from burnish.runtimes.interface import Runtime
from burnish.runtimes.providers import PROVIDERS

TYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
}

INTEGERS = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "logits_to_keep")
"""Inputs that hold whole numbers, for runtimes that do not tell types."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Opened:
    """An open model.

    Attributes:
        session: see `interface.Runtime`.
        provider: the row of the table that opened it.
    """

    session: Runtime
    provider: str

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs, in order."""
        return [port.name for port in self.session.get_inputs()]

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs, in order."""
        return [port.name for port in self.session.get_outputs()]

    def fixed(self, name: str) -> list[int | None]:
        """Sizes of an input by axis, None where they are open (or the runtime does not tell)."""
        port = next(port for port in self.session.get_inputs() if port.name == name)
        shape = getattr(port, "shape", None) or []
        return [size if isinstance(size, int) else None for size in shape]

    def cast(self, name: str, values: Any) -> Array:
        """Values in the type of an input."""
        port = next(port for port in self.session.get_inputs() if port.name == name)
        assumed = np.int64 if name in INTEGERS else np.float32
        return np.asarray(values, TYPES.get(getattr(port, "type", ""), assumed))

    def run(self, outputs: Sequence[str], feed: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs asked for, by name.

        Raises:
            UnsupportedModel: the runtime fails.
        """
        try:
            found = self.session.run(list(outputs), feed)
        except BurnishError:
            raise
        except Exception as error:  # the bindings raise types of their own
            raise self.explained(error) from None
        return dict(zip(outputs, found, strict=True))

    def explained(self, error: Exception) -> BurnishError:
        """A failure of the runtime's binding in our terms."""
        found = PROVIDERS[self.provider].explain(error)
        return found if isinstance(found, BurnishError) else UnsupportedModel(first_line(error))


def in_batches(
    lengths: Sequence[int],
    rows: int,
    places: int,
    answer: Callable[[list[int]], Sequence[Answer]],
    *,
    alike: bool = False,
) -> list[Answer]:
    """Answers to items in batches of similar length, in the order of the items.

    Args:
        lengths: of the items.
        rows: most items of a batch.
        places: most items times the longest of them; one item always fits.
        answer: answers to the items with these numbers.
        alike: whether lengths within a batch have to be the same.
    """
    found: dict[int, Answer] = {}
    for batch in batches(lengths, rows, places, alike=alike):
        found |= zip(batch, answer(batch), strict=True)
    return [found[index] for index in range(len(lengths))]


def batches(
    lengths: Sequence[int], rows: int, places: int, *, alike: bool = False
) -> list[list[int]]:
    """Numbers of items, those of similar length together, the shortest first."""
    found: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        batch = found[-1] if found else []
        # The newest item is the longest, and sets the width of all.
        full = len(batch) == rows or (len(batch) + 1) * lengths[index] > places
        if not batch or full or (alike and lengths[index] != lengths[batch[0]]):
            batch = []
            found.append(batch)
        batch.append(index)
    return found


def surely(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise where a model wants an input that nothing here makes."""
    if unknown := [name for name in names if name not in known]:
        raise UnsupportedModel(
            "an input is of no known meaning", place=unknown[0], hint="burnish.load on the file"
        )
