"""Biases that products share though their weights differ, as exporters leave equal constants."""

from __future__ import annotations

import onnx_ir as ir

from burnish.optimizer.analysis.products import find_products
from burnish.optimizer.model import add_initializer


def separate_biases(model: ir.Model) -> None:
    """Give each weight a bias of its own, in place: repair changes biases with their weights."""
    owners: dict[ir.Value, ir.Value] = {}
    copies: dict[tuple[ir.Value, ir.Value], ir.Value] = {}
    for product in find_products(model)[0]:
        bias, node = product.bias, product.nodes[-1]
        if bias is None or bias.const_value is None or product.graph is not model.graph:
            continue
        read = sum(use.node.op_type not in ("Add", "Gemm") for use in bias.uses())
        if not read and owners.setdefault(bias, product.weight) is product.weight:
            continue
        key = bias, product.weight
        if key not in copies:
            tensor = ir.Tensor(bias.const_value.numpy())
            copies[key] = add_initializer(model.graph, bias.name or "bias", tensor)
        index = next(i for i, item in enumerate(node.inputs) if item is bias)
        node.replace_input_with(index, copies[key])
