"""Ways through a protobuf message: graphs at every level, tensors, labels."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

Body = onnx.GraphProto | onnx.FunctionProto
"""What holds nodes."""


def graphs(body: Body, depth: int = 0) -> Iterator[tuple[Body, int]]:
    """The graph (or function) and its subgraphs at every level, each with its level."""
    yield body, depth
    for node in body.node:
        for attribute in node.attribute:
            for subgraph in subgraphs(attribute):
                yield from graphs(subgraph, depth + 1)


def subgraphs(attribute: onnx.AttributeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that an attribute holds."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def tensors(body: Body) -> Iterator[onnx.TensorProto]:
    """The tensors that a graph or function holds itself: initializers and attributes."""
    if isinstance(body, onnx.GraphProto):
        yield from body.initializer
        for sparse in body.sparse_initializer:
            yield sparse.values
            yield sparse.indices
    yield from constants(body)


def constants(body: Body) -> Iterator[onnx.TensorProto]:
    """The tensors in attributes of the nodes."""
    for node in body.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
            for item in (*sparse, *attribute.sparse_tensors):
                yield item.values
                yield item.indices


def normal(domain: str) -> str:
    """The domain; its standard operators have two names for theirs."""
    return "" if domain == "ai.onnx" else domain


def label(node: onnx.NodeProto) -> str:
    """The node as an error names it."""
    return f"{node.op_type} {node.name or (node.output[0] if node.output else '')}".strip()
