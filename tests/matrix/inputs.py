"""Sample inputs of the matrix: any number of rows, any length, any padding, the same by seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from exporting import ROWS, Inputs

VOCABULARY = 300
HIDDEN = 64


@dataclass(frozen=True)
class Batch:
    """What one set of inputs looks like.

    Attributes:
        rows, length: rows of the batch and tokens of the longest.
        padding: `none`, `right` or `left`; the first of several rows has none.
        seed: of the values.
    """

    rows: int = 2
    length: int = 12
    padding: str = "right"
    seed: int = 0


TRACED = Batch()
"""What the exporters trace with."""

TRIALS = (
    Batch(2, 12, "none", 1),
    Batch(3, 9, "right", 2),
    Batch(2, 14, "left", 3),
    Batch(1, 5, "none", 4),
    Batch(4, 20, "right", 5),
    Batch(1, 11, "right", 7),
    Batch(1, 8, "left", 8),
)
"""What outputs are compared on; one row and several, shorter and longer than traced."""

REFERENCE = Batch(2, 10, "right", 6)
"""What torch's own answers beside each export are of."""

Maker = Callable[[Batch], Inputs]


def text(batch: Batch) -> Inputs:
    """Ids and their padding mask."""
    return {
        "input_ids": (_ids(batch), ROWS),
        "attention_mask": (_mask(batch, batch.length), ROWS),
    }


def windows(batch: Batch) -> Inputs:
    """Ids whose length is a multiple of eight, at most 64, so that no window is cut."""
    return text(Batch(batch.rows, -(-batch.length // 8) * 8, batch.padding, batch.seed))


def image(batch: Batch) -> Inputs:
    """Images of 32 x 32."""
    return {"pixel_values": (_numbers(batch, 3, 32, 32), {0: "batch"})}


def pairs(batch: Batch) -> Inputs:
    """Texts and images, as many of the one as of the other."""
    ids, mask = text(batch).values()
    return {"input_ids": ids, **image(batch), "attention_mask": mask}


def translation(batch: Batch) -> Inputs:
    """Text for an encoder, and four tokens and more for its decoder."""
    axes = {0: "batch", 1: "encoder"}
    target = Batch(batch.rows, 3 + batch.length // 3, "none", batch.seed + 100)
    return {
        "input_ids": (_ids(batch), axes),
        "attention_mask": (_mask(batch, batch.length), axes),
        "decoder_input_ids": (_ids(target), ROWS),
    }


def decoded(batch: Batch) -> Inputs:
    """Ids beside the hidden states of an encoder and its mask."""
    axes = {0: "batch", 1: "encoder"}
    length = batch.length + 3
    return {
        "input_ids": (_ids(batch), ROWS),
        "encoder_hidden_states": (_numbers(batch, length, HIDDEN), axes),
        "encoder_attention_mask": (_mask(batch, length), axes),
    }


def transcribed(batch: Batch) -> Inputs:
    """Ids and their mask beside the hidden states of an encoder of sound, which has no padding."""
    hidden = _numbers(batch, 50, HIDDEN)
    return {**text(batch), "encoder_hidden_states": (hidden, {0: "batch"})}


def spectrogram(batch: Batch) -> Inputs:
    """Eighty bands, a hundred frames."""
    return {"input_features": (_numbers(batch, 80, 100), {0: "batch"})}


def sound(batch: Batch) -> Inputs:
    """Samples with their padding mask, forty a token."""
    samples = 40 * batch.length
    mask = _mask(batch, batch.length).repeat_interleave(40, 1)
    axes = {0: "batch", 1: "samples"}
    return {
        "input_values": (_numbers(batch, samples), axes),
        "attention_mask": (mask, axes),
    }


def cached(heads: int, size: int = 16, layers: int = 2) -> Maker:
    """A few tokens after a cache of so many heads, whose mask covers both."""

    def make(batch: Batch) -> Inputs:
        past = 4 + batch.length // 3
        shape = (heads, past, size)
        caches = {
            f"past_key_values.{layer}.{part}": (
                _numbers(Batch(batch.rows, 0, "none", batch.seed + 2 * layer + index), *shape),
                {0: "batch", 2: "past"},
            )
            for layer in range(layers)
            for index, part in enumerate(("key", "value"))
        }
        # Padding of a cache is on the left: what comes last is what is new.
        padding = "none" if batch.padding == "none" else "left"
        mask = _mask(Batch(batch.rows, 0, padding, 0), past + batch.length)
        return {
            "input_ids": (_ids(batch), ROWS),
            "attention_mask": (mask, {0: "batch", 1: "total"}),
            **caches,
        }

    return make


def _ids(batch: Batch) -> torch.Tensor:
    """Ids from 3 up: those below are the special tokens of the configurations."""
    generator = torch.Generator().manual_seed(batch.seed)
    return torch.randint(3, VOCABULARY - 1, (batch.rows, batch.length), generator=generator)


def _numbers(batch: Batch, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch.seed)
    return torch.randn(batch.rows, *shape, generator=generator)


def _mask(batch: Batch, length: int) -> torch.Tensor:
    """Row i of n has about i/n of a third of its tokens masked, and a row alone a sixth."""
    mask = torch.ones(batch.rows, length, dtype=torch.int64)
    if batch.padding == "none":
        return mask
    for row in range(int(batch.rows > 1), batch.rows):
        count = 1 + (length // 3) * max(row, 1) // max(batch.rows, 2)
        if batch.padding == "left":
            mask[row, :count] = 0
        else:
            mask[row, length - count :] = 0
    return mask
