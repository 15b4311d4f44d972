"""The tagger's network, a small Transformer encoder, and its export to ONNX."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """Sizes of the network, in units (features, heads, layers, pieces)."""

    vocabulary: int = 8000
    embedding: int = 64
    hidden: int = 192
    heads: int = 6
    layers: int = 3
    feed_forward: int = 640
    positions: int = 256
    labels: int = 7


def sinusoids(positions: int, features: int) -> Tensor:
    """Return the sine and cosine table of float32 [positions, features]."""
    angle = torch.arange(positions).unsqueeze(1) * torch.exp(
        torch.arange(0, features, 2) * (-math.log(10000.0) / features)
    )
    return torch.stack((angle.sin(), angle.cos()), dim=2).reshape(positions, features)


class PooledDropout(nn.Module):
    """Dropout whose masks are random slices of one pool of noise, renewed by `refresh`.

    Drawing a fresh mask for each call takes some 40 percent of a training step on a CPU, because
    the generator is serial; a slice at a random offset costs next to nothing.
    """

    pools: ClassVar[dict[tuple[float, torch.dtype], Tensor]] = {}

    def __init__(self, probability: float) -> None:
        """Drop with this probability, in 0 to 1."""
        super().__init__()
        self.probability = probability

    @classmethod
    def refresh(cls) -> None:
        """Forget the pools, so that new ones are drawn when they are needed."""
        cls.pools.clear()

    def _pool(self, dtype: torch.dtype, count: int) -> Tensor:
        # Kept in the dtype of the states: a product of two dtypes would convert on every call.
        pool = self.pools.get((self.probability, dtype))
        if pool is None or pool.numel() < count:
            kept = torch.rand(max(1 << 22, 2 * count)) >= self.probability
            pool = (kept / (1.0 - self.probability)).to(dtype)
            self.pools[self.probability, dtype] = pool
        return pool

    def forward(self, states: Tensor) -> Tensor:
        """Zero random features of a float tensor of any shape and scale up the others."""
        if not self.training or self.probability == 0.0:
            return states
        count = states.numel()
        pool = self._pool(states.dtype, count)
        offset = int(torch.randint(pool.numel() - count + 1, ()))
        return states * pool[offset : offset + count].view(states.shape)


class Attention(nn.Module):
    """Multi-head self attention."""

    def __init__(self, shape: Shape) -> None:
        """Create the four projections of [hidden, hidden]."""
        super().__init__()
        self.heads = shape.heads
        self.width = shape.hidden // shape.heads
        self.query = nn.Linear(shape.hidden, shape.hidden)
        self.key = nn.Linear(shape.hidden, shape.hidden)
        self.value = nn.Linear(shape.hidden, shape.hidden)
        self.output = nn.Linear(shape.hidden, shape.hidden)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """Attend over each sequence.

        Args:
            states: float32 [batch, sequence, hidden].
            bias: float32 [batch, 1, 1, sequence], 0 for a real piece and very negative for padding.

        Returns:
            float32 [batch, sequence, hidden].
        """
        batch, sequence, hidden = states.shape

        def split(projected: Tensor) -> Tensor:
            return projected.view(batch, sequence, self.heads, self.width).transpose(1, 2)

        query, key, value = (
            split(self.query(states)),
            split(self.key(states)),
            split(self.value(states)),
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(self.width) + bias
        context = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(batch, sequence, hidden)
        output: Tensor = self.output(context)
        return output


class Block(nn.Module):
    """One pre-norm encoder layer: attention, then feed-forward with GELU."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        """Create the layer's norms and projections."""
        super().__init__()
        self.attention_norm = nn.LayerNorm(shape.hidden)
        self.attention = Attention(shape)
        self.feed_norm = nn.LayerNorm(shape.hidden)
        self.expand = nn.Linear(shape.hidden, shape.feed_forward)
        self.contract = nn.Linear(shape.feed_forward, shape.hidden)
        self.activation = nn.GELU()
        self.dropout = PooledDropout(dropout)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """Map float32 [batch, sequence, hidden] to the same shape."""
        states = states + self.dropout(self.attention(self.attention_norm(states), bias))
        inner = self.dropout(self.activation(self.expand(self.feed_norm(states))))
        output: Tensor = states + self.dropout(self.contract(inner))
        return output


class Tagger(nn.Module):
    """Factorized embedding, encoder layers and one linear classifier a piece."""

    def __init__(self, shape: Shape, dropout: float = 0.2) -> None:
        """Create the network with random weights."""
        super().__init__()
        self.pieces = nn.Embedding(shape.vocabulary, shape.embedding)
        self.positions = nn.Parameter(0.3 * sinusoids(shape.positions, shape.embedding))
        self.project = nn.Linear(shape.embedding, shape.hidden)
        self.blocks = nn.ModuleList(Block(shape, dropout) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.hidden)
        self.classify = nn.Linear(shape.hidden, shape.labels)
        self.dropout = PooledDropout(dropout)
        nn.init.normal_(self.pieces.weight, std=0.3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Score the labels of every piece.

        Args:
            input_ids: int64 [batch, sequence], at most `positions` pieces a sequence.
            attention_mask: int64 [batch, sequence], 1 for a real piece and 0 for padding.

        Returns:
            Logits, float32 [batch, sequence, labels].
        """
        sequence = input_ids.shape[1]
        embedded = self.pieces(input_ids) + self.positions[:sequence]
        states = self.dropout(self.project(embedded))
        bias = (1.0 - attention_mask.to(torch.float32))[:, None, None, :] * -10000.0
        for block in self.blocks:
            states = block(states, bias)
        logits: Tensor = self.classify(self.norm(states))
        return logits


def export_onnx(model: Tagger, path: Path) -> None:
    """Write the model as one float32 ONNX file with dynamic batch and sequence axes."""
    model.eval()
    ids = torch.ones((2, 9), dtype=torch.int64)
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    torch.onnx.export(
        model,
        (ids, torch.ones_like(ids)),
        str(path),
        dynamo=True,
        opset_version=20,
        external_data=False,
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        dynamic_shapes=(axes, axes),
        verbose=False,
    )
    tidy(path)


def tidy(path: Path) -> None:
    """Name the dynamic axes and drop the exporter's records of where each node came from."""
    proto = onnx.load(str(path))
    for value in (*proto.graph.input, *proto.graph.output):
        dims = value.type.tensor_type.shape.dim
        dims[0].dim_param = "batch"
        dims[1].dim_param = "sequence"
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    # Intermediate shapes are written in the exporter's own axis names, so they go too.
    del proto.graph.value_info[:]
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(path))
