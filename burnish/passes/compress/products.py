"""What compressions ask of a product, and of what it multiplies."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import onnx_ir as ir

from burnish.optimizer.analysis.products import Product, is_finite
from burnish.optimizer.contract import Context, Observation


def why_not(product: Product, keep: Collection[str]) -> str:
    """Why no compression can take a product; empty where one can."""
    if product.output.name in keep:
        return "kept in fp32 to stay within the budget"
    if product.activation.dtype not in (None, ir.DataType.FLOAT):
        return "its input is not float32"
    return "" if is_finite(product.weight) else "its weight holds NaN or infinity"


def observed(
    activations: Iterable[ir.Value], model: ir.Model, context: Context
) -> dict[ir.Value, Observation]:
    """What is known of activations; by value, since a division gives another name."""
    named = {value.name or "": value for value in activations}
    found = context.observe(model, [*named]) if named and context.observe is not None else {}
    return {named[name]: known for name, known in found.items()}
