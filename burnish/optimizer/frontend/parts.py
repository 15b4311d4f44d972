"""What a model is exported as: one graph, or an encoder and a decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from burnish.optimizer.errors import UnsupportedModel
from burnish.optimizer.frontend import samples
from burnish.optimizer.frontend.samples import TRACED, Axes, Maker
from burnish.optimizer.frontend.tasks import CACHED, PAIR, Task
from burnish.optimizer.frontend.wrappers import (
    Decoder,
    Encoder,
    Once,
    PairDecoder,
    keyword_of,
    parts,
)

MODEL, ENCODER, DECODER = "model", "encoder", "decoder"
"""Names of the graphs of an artifact."""

GROWN: Axes = {0: "batch", 2: samples.TOTAL[1]}
ENCODED: Axes = {0: "batch", 2: "sequence_length"}
"""Free axes of caches that a run has grown, and of those that an encoder gives."""


@dataclass(frozen=True)
class Part:
    """One graph.

    Attributes:
        name: see above.
        module: what is exported.
        make: samples for it.
        outputs: the free axes of what it gives, as far as they are known, by name.
    """

    name: str
    module: torch.nn.Module
    make: Maker
    outputs: dict[str, Axes]


def parts_of(model: Any, task: Task) -> list[Part]:
    """The graphs that a model for a task becomes.

    Raises:
        UnsupportedModel: its inputs or its caches are of a kind that is not known.
    """
    if task.kind == CACHED:
        return [_decoder(model)]
    if task.kind == PAIR:
        return _pair(model)
    names = samples.inputs_of(model)
    make = samples.once(model, names)
    with torch.no_grad():
        answer = Once(model, names, ()).answer(*make(TRACED).values.values())
    given = [key for key, value in answer.items() if isinstance(value, torch.Tensor)]
    outputs = [name for name in task.outputs if name in given] or given
    axes = {name: {0: "batch"} for name in outputs}
    return [Part(MODEL, Once(model, names, outputs), make, axes)]


def _decoder(model: Any) -> Part:
    ids = samples.ids(model.config.get_text_config(), (1, 3))
    with torch.no_grad():
        result = model(input_ids=ids, use_cache=True)
    groups = _groups(result.get(keyword_of(model)), model)
    return Part(
        MODEL, Decoder(model), samples.decoder(model, groups),
        {"logits": {0: "batch", 1: "kept"}, **_presents(groups, "", GROWN)},
    )  # fmt: skip


def _pair(model: Any) -> list[Part]:
    name = model.main_input_name
    masked = name == "input_ids"
    encoder = Encoder(model, masked)
    make = samples.encoder(model, name, masked)
    with torch.no_grad():
        cross = [tuple(part.shape[1::2]) for part in encoder(*make(TRACED).values.values())]
        ids = samples.ids(model.config.get_text_config(decoder=True), (1, 3))
        values = list(make(samples.Sizes(1)).values.values())
        result = model(values[0], decoder_input_ids=ids, use_cache=True)
    own = _groups(result[keyword_of(model)].self_attention_cache, model)
    decoder = samples.pair(model, own, cross, masked)
    outputs = {"logits": samples.ROWS, **_presents(own, ".decoder", GROWN)}
    return [
        Part(ENCODER, encoder, make, _presents(cross, ".encoder", ENCODED)),
        Part(DECODER, PairDecoder(model, masked), decoder, outputs),
    ]


def _groups(cache: Any, model: Any) -> list[tuple[int, int]]:
    """Heads and size of keys and values of each layer."""
    layers = getattr(cache, "layers", None)
    known = layers and all(
        isinstance(getattr(layer, kind, None), torch.Tensor) and getattr(layer, kind).dim() == 4
        for layer in layers
        for kind in ("keys", "values")
    )
    if not known:
        raise UnsupportedModel(
            f"the caches of a {model.config.model_type} model are no keys and values of attentions",
            hint="--task feature-extraction",
        )
    return [(part.shape[1], part.shape[3]) for part in parts(cache)]


def _presents(groups: list[tuple[int, int]], kind: str, axes: Axes) -> dict[str, Axes]:
    names = (
        f"present.{index // 2}{kind}.{('key', 'value')[index % 2]}" for index in range(len(groups))
    )
    return dict.fromkeys(names, axes)
