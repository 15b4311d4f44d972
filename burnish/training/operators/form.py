"""What the functions of operators have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

Attributes = Mapping[str, Any]
"""Attributes of a node by name, as plain Python values; tensors as tensors."""

Result = Tensor | Sequence[Tensor]

Operator = Callable[..., Result]
"""Computes a node: takes its attributes, then its inputs (None where one is left out)."""


def attributes_of(node: ir.Node) -> dict[str, Any]:
    """The attributes of a node, subgraphs left out."""
    graphs = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return {
        name: _plain(attribute)
        for name, attribute in node.attributes.items()
        if attribute.type not in graphs
    }


def _plain(attribute: ir.Attr) -> Any:
    if attribute.type is ir.AttributeType.TENSOR:
        return tensor_of(attribute.as_tensor())
    if attribute.type in (ir.AttributeType.INTS, ir.AttributeType.FLOATS):
        return list(attribute.value)
    return attribute.value


def tensor_of(stored: ir.TensorProtocol) -> Tensor:
    """A stored tensor as one of PyTorch, with memory of its own."""
    if stored.dtype is ir.DataType.BFLOAT16:
        return torch.from_numpy(stored.numpy().astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.array(stored.numpy()))


def whole(values: Tensor | Sequence[int] | None) -> list[int]:
    """Whole numbers that a small tensor, or an attribute, holds."""
    if values is None:
        return []
    if isinstance(values, Tensor):
        return [int(item) for item in values.reshape(-1).tolist()]
    return [int(item) for item in values]


def element_type(number: int) -> torch.dtype:
    """PyTorch's name of an element type of ONNX, by its number there."""
    kind = ir.DataType(number)
    if kind is ir.DataType.BFLOAT16:
        return torch.bfloat16
    return torch.from_numpy(np.zeros(0, kind.numpy())).dtype
