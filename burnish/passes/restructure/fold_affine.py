"""Constant scales and shifts go into the weights beside them, or away where they do nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.matching import only_reader
from burnish.optimizer.analysis.products import FLOATS, Product, find_products, label, shape_of
from burnish.optimizer.analysis.sizes import Sizes
from burnish.optimizer.computed import Part, side_by_side
from burnish.optimizer.contract import ROUNDING, Array, Context, Outcome, Pass, Phase, Refusal
from burnish.optimizer.model import add_initializer
from burnish.optimizer.pruning import give_way, prune, take_over
from burnish.passes.restructure.affine import Affine, chained
from burnish.passes.restructure.composed import compose

LAYOUT = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity")
"""Operators that move elements, which one factor for all of them passes unharmed."""

LARGEST = 1 << 29
"""Bytes of the largest weight that is made: one at a time is in memory while it is written."""

FLOAT16_SPAN = 64.0
"""Largest factor of a float16 weight, and its inverse the least: beyond, numbers may run out."""


@dataclass(frozen=True)
class FoldAffine(Pass):
    """Fold constant scales into the weights of the linear layers beside them.

    Only what saves a node is folded. The scale and bias of `LayerNormalization` and the weight of
    `RMSNormalization` stay: both operators need a scale in any case, so that to fold it saves
    nothing, and int8 needs it to even out the channels. The `scale` of `Attention` costs nothing
    either. `BatchNormalization` is left to onnxsim, and a scale of looked-up rows stays a node,
    since their table would be stored twice where a head shares it.

    Before:
        `Mul(Transpose(Reshape(x @ w + b)), c)`; `Mul(x, c) @ w`; `(x + c) + d`; `(x * c) / d`;
        `x + 0`, `x * 1`; `(x @ a + c) @ b + d` with fewer multiplications in one, as where
        embeddings are widened before the first layer.
    After:
        `Transpose(Reshape(x @ (w * c) + b * c))`; `x @ (c * w)`; `x + (c + d)`; `x * (c / d)`; `x`;
        `x @ (a @ b) + (c @ b + d)`. A weight is computed while it is written.
    Refuses when:
        The weight or a value on the way has other readers, a factor differs between channels and
        elements move on the way, a factor is not finite, the weight exceeds 512 MB, or the
        constant may change the shape.
    Numerics:
        Rounding: a factor is rounded into every weight instead of into every result. bfloat16 has
        too few bits for that, and only loses what does nothing.
    """

    name = "fold-affine"
    phase = Phase.RESTRUCTURE
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place until nothing is left to fold."""
        done, composed, known = 0, 0, Sizes.of(model)
        while True:
            # A product takes part once in a sweep, since a fold makes another product of it.
            dropped, refusals = _shorten(model, known)
            folder = _Folder(model, known)
            folded = folder.sweep()
            more, apart = compose(model)
            done, composed = done + dropped + folded, composed + more
            if not dropped and not folded and not more:
                break
        detail = f"{done} scales and shifts, {composed} layers in a row"
        return Outcome(done + composed, (*refusals, *folder.refusals, *apart), detail=detail)


def _shorten(model: ir.Model, known: Sizes) -> tuple[int, list[Refusal]]:
    """Drop what does nothing, and join neighbouring shifts and neighbouring scales."""
    done = 0
    refusals: list[Refusal] = []
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        affine = Affine.of(node)
        if affine is None:
            continue
        if affine.neutral():
            if reason := _why_kept(affine, known):
                refusals.append(Refusal(label(node), reason))
            else:
                give_way(node, affine.source)
                done += 1
        elif (first := _before(affine)) is not None:
            done += _join(first, affine)
    return done, refusals


def _why_kept(affine: Affine, known: Sizes) -> str:
    """Why what does nothing stays; empty where it can go."""
    if affine.output.is_graph_output():
        return "it does nothing, but gives an output of the graph"
    return (
        ""
        if affine.keeps_shape(known.shape(affine.source))
        else "it may change the shape, as far as the graph says"
    )


def _before(affine: Affine) -> Affine | None:
    """The shift or scale of the same kind whose only reader this one is."""
    node = affine.source.producer()
    first = Affine.of(node) if node is not None else None
    if first is None or only_reader(affine.source) is not affine.node:
        return None
    short = affine.constant.dtype is ir.DataType.BFLOAT16
    return first if first.scales == affine.scales and affine.floating and not short else None


def _join(first: Affine, second: Affine) -> bool:
    """Put two constants together in the place of the second; whether that was possible."""
    array = chained(first, second)
    if array is None:
        return False
    graph = second.node.graph
    assert isinstance(graph, ir.Graph)
    constant = add_initializer(graph, f"{first.constant.name}_joined", ir.tensor(array))
    joined = ir.node("Mul" if second.scales else "Add", [first.source, constant])
    result, value = second.output, joined.outputs[0]
    value.type, value.shape = result.type, result.shape
    graph.insert_before(second.node, joined)
    take_over(result, value)
    return True


@dataclass
class _Folder:
    """Folds scales into the products of one model, each product at most once."""

    model: ir.Model
    known: Sizes
    refusals: list[Refusal] = field(default_factory=list)
    _makers: dict[ir.Value, Product] = field(default_factory=dict)
    _readers: dict[ir.Value, list[Product]] = field(default_factory=lambda: defaultdict(list))
    _touched: set[ir.Node] = field(default_factory=set)

    def sweep(self) -> int:
        """Fold what can be folded now; how much."""
        for product in find_products(self.model, FLOATS)[0]:
            self._makers[product.output] = product
            self._readers[product.activation].append(product)
        done = 0
        for node in list(ir.traversal.RecursiveGraphIterator(self.model.graph)):
            affine = Affine.of(node)
            if affine is None or not affine.scales or not affine.floating:
                continue
            outcome = self._after(affine)
            if outcome is None:
                outcome = self._ahead(affine)
            if isinstance(outcome, str):
                self.refusals.append(Refusal(label(node), outcome))
            done += outcome is True
        return done

    def _after(self, affine: Affine) -> bool | str | None:
        """Fold a scale of what a product gives; None where it is none, or why not."""
        chain, value = [affine.source], affine.source
        while value not in self._makers:
            node = value.producer()
            if node is None or node.op_type not in LAYOUT or node.inputs[0] is None:
                return None
            value = node.inputs[0]
            chain.append(value)
        product = self._makers[value]
        if None in map(only_reader, chain) or product.graph is not affine.node.graph:
            return "what it scales has other readers"
        if len(chain) > 1 and not affine.uniform():
            return "its factors differ, and elements move on the way from the product"
        reason = self._unfit(affine, [product], product.n)
        if reason or self._is_touched([product]):
            return reason or False
        self._scale(product, affine.factor().reshape(-1), rows=False)
        for stale in (product.nodes[0].outputs[0], *chain):
            # Another value than before, so another name.
            stale.name = f"{stale.name}_scaled"
        _give_way(affine, renamed=True)
        return True

    def _ahead(self, affine: Affine) -> bool | str | None:
        """Fold a scale of what products read; None where it is none, or why not."""
        products = self._readers.get(affine.output, [])
        if not products:
            return None
        firsts = {product.nodes[0] for product in products}
        uses = affine.output.uses()
        if affine.output.is_graph_output() or any(
            use.node not in firsts or use.idx != 0 for use in uses
        ):
            return "what it gives has other readers than products"
        reason = self._unfit(affine, products, products[0].k)
        if reason or self._is_touched(products):
            return reason or False
        for product in products:
            self._scale(product, affine.factor().reshape(-1), rows=True)
        _give_way(affine, renamed=False)
        return True

    def _unfit(self, affine: Affine, products: Sequence[Product], width: int) -> str:
        """Why a scale cannot go into the weights of products; empty where it can."""
        if affine.constant.dtype is ir.DataType.BFLOAT16:
            return "bfloat16 has too few bits for a factor in every weight"
        sizes = np.abs(affine.factor())
        if not np.isfinite(sizes).all():
            return "its factor is not finite"
        if (
            affine.constant.dtype is ir.DataType.FLOAT16
            and not ((sizes >= 1 / FLOAT16_SPAN) & (sizes <= FLOAT16_SPAN)).all()
        ):
            return "float16 may not hold the weight times its factor"
        if not affine.keeps_shape(self.known.shape(affine.source)) or affine.factor().size not in (
            1,
            width,
        ):
            return "it may change the shape, as far as the graph says"
        for product in products:
            weight, read = product.weight, product.nodes[0].inputs[1]
            if len(weight.uses()) != 1 or weight.is_graph_output() or read is None:
                return "the weight has other readers, and would be stored twice"
            if len(read.uses()) != 1 or read.is_graph_output():
                return "the weight has other readers, and would be stored twice"
            if _tensor(weight).nbytes > LARGEST:
                return f"the weight exceeds {LARGEST >> 20} MB"
        return ""

    def _is_touched(self, products: Sequence[Product]) -> bool:
        """Whether one of the products is another one by now; if not, all of them are now."""
        nodes = {product.nodes[0] for product in products}
        if nodes & self._touched:
            return True
        self._touched |= nodes
        return False

    def _scale(self, product: Product, factor: Array, *, rows: bool) -> None:
        """Scale the rows [k] or the columns [n] of a weight, and with these the bias."""
        node, weight = product.nodes[0], product.weight
        read = node.inputs[1]
        assert read is not None
        turn = read is not weight  # it is read through a Transpose, which becomes needless
        across = product.transposed != turn
        # One number is that for all channels; others are laid along the axis of theirs.
        shaped = factor if factor.size == 1 else factor.reshape((-1, 1) if rows != across else (-1))
        part = Part(_tensor(weight), shape_of(weight), turn, shaped)
        node.replace_input_with(1, _made(weight, part, "scaled"))
        replaced = [read]
        if product.bias is not None and not rows:
            bias = product.bias
            part = Part(_tensor(bias), shape_of(bias), False, factor)
            holder = product.nodes[-1]
            place = next(index for index, item in enumerate(holder.inputs) if item is bias)
            holder.replace_input_with(place, _made(bias, part, "scaled"))
            replaced.append(bias)
        prune(replaced)


def _give_way(affine: Affine, *, renamed: bool) -> None:
    """Drop a scale; its source takes its name where it now holds the scaled value."""
    source, output, name = affine.source, affine.output, affine.output.name
    if renamed:
        source.type = source.type or output.type
        source.shape = source.shape if source.shape is not None else output.shape
    give_way(affine.node, source)
    if renamed:
        source.name = name


def _made(like: ir.Value, part: Part, suffix: str) -> ir.Value:
    home = like.graph
    assert isinstance(home, ir.Graph)
    return add_initializer(home, f"{like.name}_{suffix}", side_by_side([part], _tensor(like).dtype))


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    assert value.const_value is not None
    return value.const_value
