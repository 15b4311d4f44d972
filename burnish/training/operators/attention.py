"""Attention and rotary embeddings, as operator set 23 defines them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from burnish.training.operators.form import Attributes, Operator

AFTER_SOFTMAX = 3
"""The mode of the fourth output that gives the probabilities."""


def heads_of(value: Tensor, heads: int | None) -> Tensor:
    """[batch, heads, sequence, size] of that or of [batch, sequence, heads * size]."""
    if value.ndim == 4:
        return value
    assert heads
    return value.reshape(*value.shape[:2], heads, -1).transpose(1, 2)


def _attention(
    attributes: Attributes, query: Tensor, key: Tensor, value: Tensor,
    mask: Tensor | None = None, past_key: Tensor | None = None, past_value: Tensor | None = None,
) -> Sequence[Tensor]:  # fmt: skip
    flat = query.ndim == 3
    shared = attributes.get("kv_num_heads")
    q = heads_of(query, attributes.get("q_num_heads"))
    k, v = heads_of(key, shared), heads_of(value, shared)
    past = 0
    if past_key is not None and past_value is not None:
        past = past_key.shape[2]
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    grown = k, v
    if (group := q.shape[1] // k.shape[1]) > 1:
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scale = attributes.get("scale") or 1.0 / math.sqrt(q.shape[-1])
    if attributes.get("is_causal"):
        mask = _causal(mask, q.shape[2], k.shape[2], past, q.dtype)
    cap, mode = attributes.get("softcap", 0.0), attributes.get("qk_matmul_output_mode", 0)
    if cap or mode:
        result, shown = _by_parts(q, k, v, mask, scale, cap, mode)
    else:
        result = functional.scaled_dot_product_attention(q, k, v, mask, scale=scale)
        shown = result.new_empty(0)  # the scores, for which nobody asks
    if flat:
        result = result.transpose(1, 2).flatten(2)
    return result, *grown, shown


def _causal(mask: Tensor | None, queries: int, keys: int, past: int, kind: torch.dtype) -> Tensor:
    """The mask with what lies after each query hidden as well."""
    near = torch.ones(queries, keys, dtype=torch.bool).tril(past)
    if mask is None:
        return near
    if mask.dtype == torch.bool:
        return mask & near
    return mask + torch.zeros(queries, keys, dtype=kind).masked_fill(~near, float("-inf"))


def _by_parts(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, cap: float, mode: int
) -> tuple[Tensor, Tensor]:
    """The result, and the scores at the place that the mode names."""
    stages = [(q * scale) @ k.transpose(2, 3)]
    capped = cap * torch.tanh(stages[0] / cap) if cap else stages[0]
    stages += [capped, capped]
    scores = capped
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, float("-inf"))
    elif mask is not None:
        scores = scores + mask
    blind = torch.isneginf(scores).all(-1, keepdim=True)
    weights = scores.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)
    shown = weights if mode == AFTER_SOFTMAX else (scores if mode else stages[0])
    return weights @ v, shown


def _rotary(
    attributes: Attributes, value: Tensor, cosine: Tensor, sine: Tensor,
    positions: Tensor | None = None,
) -> Tensor:  # fmt: skip
    flat = value.ndim == 3
    x = heads_of(value, attributes.get("num_heads"))
    if positions is not None:
        cosine, sine = cosine[positions], sine[positions]
    size = attributes.get("rotary_embedding_dim") or x.shape[-1]
    turned, rest = x[..., :size], x[..., size:]
    cosine, sine = cosine.unsqueeze(1), sine.unsqueeze(1)  # [batch, 1, sequence, size / 2]
    if attributes.get("interleaved"):
        first, second = turned[..., 0::2], turned[..., 1::2]
    else:
        first, second = turned.chunk(2, -1)
    real, imaginary = cosine * first - sine * second, sine * first + cosine * second
    if attributes.get("interleaved"):
        turned = torch.stack([real, imaginary], -1).flatten(-2)
    else:
        turned = torch.cat([real, imaginary], -1)
    result = torch.cat([turned, rest], -1) if rest.shape[-1] else turned
    return result.transpose(1, 2).flatten(2) if flat else result


ATTENTION: dict[str, Operator] = {"Attention": _attention, "RotaryEmbedding": _rotary}
