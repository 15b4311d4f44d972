"""The three products of one input that give an attention its queries, keys and values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.heads import split_heads
from burnish.optimizer.analysis.matching import made_by, only_reader, rank
from burnish.optimizer.analysis.products import Product, shape_of
from burnish.optimizer.computed import Part, lazy
from burnish.optimizer.contract import Array
from burnish.passes.lower.attention.facts import Facts

LARGEST = 1 << 27
"""Elements of the largest weight that is put together: it is in memory while it is written."""

OTHERS = (
    "its queries, keys and values are not three products of one input with weights of their own"
)


@dataclass(frozen=True)
class Projection:
    """`activation @ matrix + bias` for queries, keys and values.

    Attributes:
        product: the first node that multiplies.
        k: length of the dot products.
        widths: columns of the three matrices.
        biased: whether any has a bias.
        columns: the matrices [k, width], computed each time they are asked for.
        offsets: the biases [width], likewise; zeros where there is none.
    """

    product: ir.Node
    k: int
    widths: tuple[int, int, int]
    biased: bool
    columns: tuple[Callable[[], Array], ...]
    offsets: tuple[Callable[[], Array], ...]

    @property
    def activation(self) -> ir.Value:
        """The one input [batch, sequence, k]; read from the node, since it may be replaced."""
        activation = self.product.inputs[0]
        assert activation is not None
        return activation

    def weight(self) -> ir.LazyTensor:
        """The matrices side by side: [k, all columns]."""
        return self._whole((self.k, sum(self.widths)), self.columns, None)

    def bias(self) -> ir.LazyTensor:
        """The biases one after the other."""
        return self._whole((sum(self.widths),), self.offsets, None)

    def weight_by_heads(self, heads: int) -> ir.LazyTensor:
        """The matrices so that columns run over heads, then queries, keys and values, then size."""
        return self._whole((self.k, sum(self.widths)), self.columns, heads)

    def bias_by_heads(self, heads: int) -> ir.LazyTensor:
        """The biases in the order of `weight_by_heads`."""
        return self._whole((sum(self.widths),), self.offsets, heads)

    def _whole(
        self, shape: tuple[int, ...], parts: Sequence[Callable[[], Array]], heads: int | None
    ) -> ir.LazyTensor:
        def compute() -> Array:
            whole = np.empty(shape, np.float32)
            if heads is None:
                start = 0
                for part, width in zip(parts, self.widths, strict=True):
                    whole[..., start : start + width] = part()
                    start += width
                return whole
            apart = whole.reshape(*shape[:-1], heads, 3, -1)
            for index, part in enumerate(parts):
                apart[..., index, :] = part().reshape(*shape[:-1], heads, -1)
            return whole

        return lazy(shape, ir.DataType.FLOAT, compute)


def projection_of(
    node: ir.Node, facts: Facts, products: Mapping[ir.Value, Product]
) -> Projection | str:
    """The projection behind the operands of an attention, or why there is none."""
    sources: list[ir.Value] = []
    for value, heads in zip(
        node.inputs[:3], (facts.heads, facts.groups, facts.groups), strict=True
    ):
        assert value is not None
        split = None if facts.flat else split_heads(value)
        if not facts.flat and (split is None or split.heads != heads or not _single(value)):
            return OTHERS
        sources.append(value if split is None else split.source)
    found = _apart(sources, products) or _merged(sources, products)
    if found is None or rank(found.activation) != 3:
        return OTHERS
    if found.widths != (
        facts.heads * facts.size, facts.groups * facts.size, facts.groups * facts.value_size
    ):  # fmt: skip
        return OTHERS
    if found.k * sum(found.widths) > LARGEST:
        return f"their weights together would exceed {LARGEST >> 18} MB"
    return found


def _single(value: ir.Value) -> bool:
    """Whether nobody else reads a value, nor what its heads were split from on the way."""
    turned = value.producer()
    assert turned is not None and turned.inputs[0] is not None
    return only_reader(value) is not None and only_reader(turned.inputs[0]) is turned


def _apart(sources: list[ir.Value], products: Mapping[ir.Value, Product]) -> Projection | None:
    members = [products[item] for item in sources if item in products]
    if len(members) != 3 or len({item.weight for item in members}) != 3:
        return None
    first = members[0]
    for member in members:
        alone = len(member.weight.uses()) == 1 and only_reader(member.output) is not None
        flat = member.bias is None or len(shape_of(member.bias)) == 1
        if member.activation is not first.activation or not (alone and flat):
            return None
    columns = [
        Part(_tensor(item.weight), shape_of(item.weight), item.transposed, item.alpha)
        for item in members
    ]
    offsets = [
        Part(None if item.bias is None else _tensor(item.bias), (item.n,), factor=item.beta)
        for item in members
    ]
    return Projection(
        first.nodes[0],
        first.k,
        (members[0].n, members[1].n, members[2].n),
        any(item.bias is not None for item in members),
        tuple(_reader(part) for part in columns),
        tuple(_reader(part) for part in offsets),
    )


def _reader(part: Part) -> Callable[[], Array]:
    return lambda: part.array(ir.DataType.FLOAT)


def _merged(sources: list[ir.Value], products: Mapping[ir.Value, Product]) -> Projection | None:
    """One product whose result was split into the three, in their order."""
    node = made_by(sources[0], "Split")
    whole = node.inputs[0] if node is not None else None
    if node is None or whole is None or list(node.outputs) != sources:
        return None
    member, axis = products.get(whole), node.attributes.get_int("axis", 0)
    if member is None or axis not in (-1, 2) or only_reader(whole) is not node:
        return None
    widths = [item.shape[-1] if item.shape is not None else None for item in sources]
    if len(member.weight.uses()) != 1 or any(only_reader(item) is None for item in sources):
        return None
    first, second, third = widths
    if not (isinstance(first, int) and isinstance(second, int) and isinstance(third, int)):
        return None
    if first + second + third != member.n:
        return None
    if member.bias is not None and len(shape_of(member.bias)) != 1:
        return None
    weight = Part(_tensor(member.weight), shape_of(member.weight), member.transposed, member.alpha)
    bias = Part(
        None if member.bias is None else _tensor(member.bias), (member.n,), factor=member.beta
    )
    ends = (0, first, first + second, member.n)
    return Projection(
        member.nodes[0],
        member.k,
        (first, second, third),
        member.bias is not None,
        tuple(_slice(weight, *ends[index : index + 2]) for index in range(3)),
        tuple(_slice(bias, *ends[index : index + 2]) for index in range(3)),
    )


def _slice(part: Part, start: int, end: int) -> Callable[[], Array]:
    return lambda: part.array(ir.DataType.FLOAT)[..., start:end]


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    assert value.const_value is not None
    return value.const_value
