"""Models as the exporters take them: positional tensors in, tensors out, caches as ports."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

Tensors = tuple[torch.Tensor, ...]


def takes(model: torch.nn.Module, name: str) -> bool:
    """Whether a model's `forward` has a parameter of that name."""
    return name in inspect.signature(model.forward).parameters


class Once(torch.nn.Module):
    """A model that runs once.

    Args:
        model: of the Transformers.
        inputs: names of its parameters, in order.
        outputs: names of the fields that it gives, in order.
    """

    def __init__(self, model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, tuple(inputs), tuple(outputs)
        self.uncached = {"use_cache": False} if hasattr(model.config, "use_cache") else {}

    def answer(self, *values: torch.Tensor) -> Any:
        """All that the model gives."""
        named = dict(zip(self.inputs, values, strict=True))
        return self.model(**named, **self.uncached, return_dict=True)

    def forward(self, *values: torch.Tensor) -> Tensors:
        """The outputs asked for."""
        result = self.answer(*values)
        return tuple(result[name] for name in self.outputs)


class Decoder(torch.nn.Module):
    """A decoder that takes its caches and gives them back, grown.

    Positions are counted over the mask, so that rows may be padded on the left. Where windows are
    short, caches keep all keys nevertheless: what a layer reads is said by its mask.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.placed = takes(model, "position_ids")
        self.keyword = keyword_of(model)

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, kept: torch.Tensor, *past: torch.Tensor
    ) -> Tensors:
        """Logits [batch, kept, vocabulary] of the tokens at `kept`, and the caches.

        Args:
            ids: [batch, sequence].
            mask: [batch, past + sequence].
            kept: [kept], places in the sequence, from its end where they are negative.
            past: keys and values of each layer, [batch, groups, past, size].
        """
        extra: dict[str, Any] = {self.keyword: cache_of(past)}
        places = torch.where(kept < 0, kept + ids.shape[1], kept)

        def select(head: Any, operands: Tensors) -> Tensors:
            """The tokens whose logits are wanted, before the head computes them."""
            return (operands[0].index_select(1, places),)

        if self.placed:
            counted, start = (mask.cumsum(-1) - 1).clamp(min=0), past[0].shape[2]
            extra["position_ids"] = counted[:, start : start + ids.shape[1]]
        head = self.model.get_output_embeddings()
        hook = head.register_forward_pre_hook(select) if head is not None else None
        result = self.model(input_ids=ids, attention_mask=mask, use_cache=True, **extra)
        if hook is not None:
            hook.remove()
        logits = result.logits if hook is not None else select(None, (result.logits,))[0]
        return (logits, *parts(result[self.keyword]))


class Encoder(torch.nn.Module):
    """The encoder of a pair, with the products that the decoder's layers make of its result.

    They are the caches of the decoder's attentions to the encoder. So the decoder does not hold
    those weights, and no step computes them again.
    """

    def __init__(self, model: Any, masked: bool) -> None:
        super().__init__()
        self.model, self.masked, self.keyword = model, masked, keyword_of(model)

    def forward(self, values: torch.Tensor, *mask: torch.Tensor) -> Tensors:
        """Keys and values of each layer, [batch, heads, encoder sequence, size]."""
        extra = {"attention_mask": mask[0]} if self.masked else {}
        hidden = self.model.get_encoder()(values, **extra, return_dict=True)
        first = torch.zeros_like(hidden[0][:, :1, 0], dtype=torch.int64)
        caches = EncoderDecoderCache(DynamicCache(), DynamicCache())
        result = self.model(
            decoder_input_ids=first, encoder_outputs=hidden, use_cache=True,
            **{self.keyword: caches}, **extra,
        )  # fmt: skip
        return parts(result[self.keyword].cross_attention_cache)


class PairDecoder(torch.nn.Module):
    """The decoder of a pair: its own caches grow, those of the encoder stay as they are."""

    def __init__(self, model: Any, masked: bool) -> None:
        super().__init__()
        self.model, self.masked, self.keyword = model, masked, keyword_of(model)
        config = model.config
        self.hidden = int(getattr(config, "d_model", None) or config.hidden_size)

    def forward(self, ids: torch.Tensor, *rest: torch.Tensor) -> Tensors:
        """Logits [batch, sequence, vocabulary], and the grown caches.

        Args:
            ids: [batch, sequence].
            rest: the encoder's mask [batch, encoder sequence], where there is one; keys and values
                of the layers' own caches; those of the encoder.
        """
        extra = {"attention_mask": rest[0]} if self.masked else {}
        caches = rest[1:] if self.masked else rest
        own, cross = caches[: len(caches) // 2], caches[len(caches) // 2 :]
        cache = EncoderDecoderCache(cache_of(own), cache_of(cross))
        cache.is_updated = dict.fromkeys(range(len(cross) // 2), True)
        # Only the sizes of the encoder's result are looked at: its products are there already.
        batch, _, length, _ = cross[0].shape
        hidden = cross[0].new_zeros((batch, length, self.hidden))
        result = self.model(
            decoder_input_ids=ids, encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            use_cache=True, **{self.keyword: cache}, **extra,
        )  # fmt: skip
        return (result.logits, *parts(result[self.keyword].self_attention_cache))


def keyword_of(model: torch.nn.Module) -> str:
    """What a model calls its cache, which changes between releases of Transformers."""
    return "cache" if takes(model, "cache") else "past_key_values"


def cache_of(past: Sequence[torch.Tensor]) -> DynamicCache:
    """Keys and values, layer by layer, as a cache."""
    cache = DynamicCache()
    for layer in range(len(past) // 2):
        cache.update(past[2 * layer], past[2 * layer + 1], layer)
    return cache


def parts(cache: Any) -> Tensors:
    """Keys and values of a cache, layer by layer."""
    return tuple(part for layer in cache.layers for part in (layer.keys, layer.values))
