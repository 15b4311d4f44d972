"""Sample inputs of a model for its task, with the axes that are free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.frontend.wrappers import takes

Axes = dict[int, str]

ROWS: Axes = {0: "batch", 1: "sequence_length"}
BATCH: Axes = {0: "batch"}
TOTAL: Axes = {0: "batch", 1: "past_sequence_length + sequence_length"}
PAST: Axes = {0: "batch", 2: "past_sequence_length"}
ENCODED: Axes = {0: "batch", 1: "encoder_sequence_length"}
CROSS: Axes = {0: "batch", 2: "encoder_sequence_length"}
KEPT: Axes = {0: "kept"}


@dataclass(frozen=True)
class Sizes:
    """Sizes of one sample.

    Attributes:
        batch, sequence, past: of ids and caches.
        padded: how many places of the first row are padding; on the left for decoders.
    """

    batch: int = 2
    sequence: int = 11
    past: int = 5
    padded: int = 0


TRACED = Sizes()
TRIALS = (Sizes(3, 7, 0, 2), Sizes(1, 1, 9), Sizes(2, 23, 3, 4), Sizes())
"""What an export is compared on with the model: other sizes than those it was traced with too."""


@dataclass
class Sample:
    """Values and free axes by input, in the order of the module's parameters.

    Attributes:
        values, axes: see above.
        seen: [batch, sequence], false where an answer is that of no token; or None.
    """

    values: dict[str, torch.Tensor] = field(default_factory=dict)
    axes: dict[str, Axes] = field(default_factory=dict)
    seen: torch.Tensor | None = None

    def add(self, name: str, value: torch.Tensor, axes: Axes) -> None:
        """One more input."""
        self.values[name], self.axes[name] = value, axes


Maker = Callable[[Sizes], Sample]


def inputs_of(model: Any) -> tuple[str, ...]:
    """The inputs that a model which runs once is given.

    Raises:
        UnsupportedModel: it wants something else than text, images or sound.
    """
    config = model.config
    main = [
        name
        for name in ("input_ids", "pixel_values", "input_values", "input_features")
        if takes(model, name)
    ]
    if takes(model, "pixel_values") and not hasattr(config, "text_config"):
        main = ["pixel_values"]
    if not main:
        raise UnsupportedModel(f"inputs of a {config.model_type} model are not known")
    names = list(main)
    if "input_ids" in main and takes(model, "attention_mask"):
        names.append("attention_mask")
    if takes(model, "token_type_ids") and getattr(config, "type_vocab_size", 0) > 1:
        names.append("token_type_ids")
    return tuple(names)


def once(model: Any, names: tuple[str, ...]) -> Maker:
    """Samples of a model that runs once."""

    def make(sizes: Sizes) -> Sample:
        sample, sizes = Sample(), within(sizes, model.config.get_text_config())
        for name in names:
            value, axes = _value(name, model.config, sizes)
            sample.add(name, value, axes)
        sample.seen = sample.values.get("attention_mask")
        return sample

    return make


def within(sizes: Sizes, config: Any) -> Sizes:
    """Sizes for which a model has positions, of which some keep two for themselves."""
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int) or most <= 3:
        return sizes
    past = min(sizes.past, (most - 2) // 2)
    sequence = min(sizes.sequence, most - 2 - past)
    return replace(sizes, past=past, sequence=sequence, padded=min(sizes.padded, sequence - 1))


def _value(name: str, config: Any, sizes: Sizes) -> tuple[torch.Tensor, Axes]:
    shape = (sizes.batch, sizes.sequence)
    text = config.get_text_config()
    if name == "input_ids":
        return ids(text, shape), ROWS
    if name == "attention_mask":
        return mask(shape, sizes.padded, left=False), ROWS
    if name == "token_type_ids":
        return torch.randint(0, text.type_vocab_size, shape), ROWS
    if name == "pixel_values":
        return torch.randn(sizes.batch, *image(config)), BATCH
    if name == "input_features":
        return torch.randn(sizes.batch, *spectrogram(config)), BATCH
    if hasattr(config, "num_mel_bins"):
        return torch.randn(sizes.batch, *spectrogram(config)), BATCH
    # Long enough for the strides of any feature extractor.
    return torch.randn(sizes.batch, 2400 + 160 * sizes.sequence), {0: "batch", 1: "samples"}


def ids(config: Any, shape: tuple[int, int]) -> torch.Tensor:
    """Ids over the whole vocabulary, but for the special ones that models act on."""
    special = {
        getattr(config, f"{name}_token_id", None)
        for name in ("pad", "bos", "eos", "decoder_start", "image", "mask")
    }
    made = torch.randint(0, config.vocab_size, shape)
    allowed = next(i for i in range(config.vocab_size) if i not in special and i > 3)
    for value in special:
        if isinstance(value, int):
            made[made == value] = allowed
    end = getattr(config, "eos_token_id", None)
    if isinstance(end, int) and end < config.vocab_size:
        made[:, -1] = end  # the place that CLIP and its kin read
    return made


def mask(shape: tuple[int, int], padded: int, *, left: bool) -> torch.Tensor:
    """Ones, and zeros at as many places of the first row."""
    made = torch.ones(shape, dtype=torch.int64)
    if padded:
        made[0, :padded] = 0 if left else made[0, :padded]
        made[0, shape[1] - padded :] = made[0, shape[1] - padded :] if left else 0
    return made


def image(config: Any) -> tuple[int, int, int]:
    """Channels, height and width of images."""
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", 224)
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    return int(getattr(vision, "num_channels", 3)), int(height), int(width)


def spectrogram(config: Any) -> tuple[int, int]:
    """Sizes of a spectrogram, which models fix."""
    bins = int(config.num_mel_bins)
    if hasattr(config, "max_source_positions"):
        return bins, 2 * int(config.max_source_positions)
    return int(getattr(config, "max_length", 1024)), bins


def decoder(model: Any, groups: list[tuple[int, int]]) -> Maker:
    """Samples of a decoder with its caches.

    Args:
        model: of the Transformers.
        groups: heads and size of the keys, then of the values, of each layer.
    """

    def make(sizes: Sizes) -> Sample:
        text = model.config.get_text_config()
        sizes = within(sizes, text)
        sample, total = Sample(), sizes.past + sizes.sequence
        sample.add("input_ids", ids(text, (sizes.batch, sizes.sequence)), ROWS)
        seen = mask((sizes.batch, total), min(sizes.padded, total - 1), left=True)
        sample.add("attention_mask", seen, TOTAL)
        kept = torch.arange(-sizes.sequence, 0)
        sample.add("logits_to_keep", kept, KEPT)
        _add_caches(sample, groups, sizes, "")
        sample.seen = seen[:, sizes.past :]
        return sample

    return make


def _add_caches(
    sample: Sample, groups: list[tuple[int, int]], sizes: Sizes, kind: str, axes: Axes = PAST
) -> None:
    for index, (heads, size) in enumerate(groups):
        name = f"past_key_values.{index // 2}{kind}.{('key', 'value')[index % 2]}"
        length = sizes.past if axes is PAST else sizes.sequence
        sample.add(name, torch.randn(sizes.batch, heads, length, size) * 0.5, axes)


def encoder(model: Any, name: str, masked: bool) -> Maker:
    """Samples of the encoder of a pair, whose input has that name."""

    def make(sizes: Sizes) -> Sample:
        sample = Sample()
        value, axes = _value(name, model.config, sizes)
        sample.add(name, value, axes)
        if masked:
            shape = (sizes.batch, sizes.sequence)
            sample.add("attention_mask", mask(shape, sizes.padded, left=False), ROWS)
        return sample

    return make


def pair(
    model: Any, own: list[tuple[int, int]], cross: list[tuple[int, int]], masked: bool
) -> Maker:
    """Samples of the decoder of a pair; heads and sizes of its caches are as in `decoder`."""

    def make(sizes: Sizes) -> Sample:
        sample = Sample()
        text = model.config.get_text_config(decoder=True)
        sample.add("input_ids", ids(text, (sizes.batch, sizes.sequence)), ROWS)
        encoded = Sizes(sizes.batch, sizes.sequence + 6, 0, sizes.padded)
        if masked:
            shape = (encoded.batch, encoded.sequence)
            seen = mask(shape, encoded.padded, left=False)
            sample.add("encoder_attention_mask", seen, ENCODED)
        _add_caches(sample, own, sizes, ".decoder")
        _add_caches(sample, cross, encoded, ".encoder", CROSS)
        return sample

    return make
