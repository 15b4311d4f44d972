"""Matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from burnish.training.operators.form import Attributes, Operator


def _gemm(
    attributes: Attributes, left: Tensor, right: Tensor, bias: Tensor | None = None
) -> Tensor:
    left = left.T if attributes.get("transA") else left
    right = right.T if attributes.get("transB") else right
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    product = left @ right
    product = product if alpha == 1.0 else product * alpha
    return product if bias is None else product + (bias if beta == 1.0 else bias * beta)


def _einsum(attributes: Attributes, *inputs: Tensor) -> Tensor:
    return torch.einsum(attributes["equation"].replace(" ", ""), *inputs)


PRODUCTS: dict[str, Operator] = {
    "Einsum": _einsum, "Gemm": _gemm,
    "MatMul": lambda attributes, left, right: torch.matmul(left, right),
}  # fmt: skip
