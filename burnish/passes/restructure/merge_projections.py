"""Linear layers that read the same value become one product, where that is measured faster."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.products import (
    FLOATS,
    Product,
    find_products,
    groups,
    label,
    shape_of,
)
from burnish.optimizer.computed import Part, side_by_side
from burnish.optimizer.contract import ROUNDING, Choice, Context, Outcome, Pass, Phase, Refusal
from burnish.optimizer.model import add_initializer
from burnish.optimizer.pruning import prune
from burnish.optimizer.samples import rows_of
from burnish.passes.restructure.merge_sample import Sample

LARGEST = 1 << 29
"""Bytes of the largest weight that is made: one at a time is in memory while it is written."""

FEW_ROWS = 64
"""Rows below which products are merged by rule on a processor.

With few rows a product takes as long as reading its weights, and one large product spreads that
over the threads better than several small ones, each with a call of its own. With many rows it is
bound by arithmetic, which merging does not change, and the `Split` is one more pass through memory.
On a GPU a product of few columns leaves most of the device idle, and each kernel costs a launch.
"""

OPSET = 13
"""The operator set from which `Split` takes its sizes as an input."""

Weights = tuple[ir.Value, ...]


@dataclass(frozen=True)
class MergeProjections(Pass):
    """Compute linear layers with a shared input as one product.

    These are the query, key and value of an attention, the keys and values that all layers of a
    decoder take from one encoder, and the two first layers of a gated feed-forward.

    Before:
        `MatMul(x, wq) + bq`, `MatMul(x, wk)`, `Gemm<transB = 1>(x, wv, bv)`.
    After:
        `Split(MatMul(x, [wq wk wv]) + [bq 0 bv])`; where none has a bias there is no `Add`. The
        weight is put together while it is written.
    Refuses when:
        The products are measured as fast apart; where nothing is measured, on a processor and
        more than a few rows. A weight has other readers, or another type than the first. A bias
        has two dimensions. The merged weight would exceed 512 MB: as many go together as stay
        below that. The operator set is older than 13.
    Numerics:
        Rounding: the same dot products, which a kernel may cut into other blocks. The factors of
        a `Gemm` go into the weight and the bias.
    """

    name = "merge-projections"
    phase = Phase.RESTRUCTURE
    promise = ROUNDING

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        shared = [group for group in groups(find_products(model, FLOATS)[0]) if len(group) > 1]
        if model.opset_imports.get("", OPSET) < OPSET:
            return Outcome(0, tuple(_refused(shared, f"Split needs operator set {OPSET}")))
        refusals: list[Refusal] = []
        choices: dict[Weights, Choice] = {}
        merger, gains, merged = _Merger(), [], 0
        for members in list(_mergeable(shared, refusals)):
            # By weights: those that several groups share are merged in all of them or in none.
            key = tuple(member.weight for member in members)
            if key not in choices:
                choices[key] = _choose(members, context)
            if choices[key].winner == "separate":
                refusals += _refused(members, _why_separate(choices[key]))
                continue
            merger.merge(members)
            merged += len(members)
            gains += [choices[key].speedup] if choices[key].measured else []
        speedup = math.exp(sum(map(math.log, gains)) / len(gains)) if gains else None
        detail = f"{merged} products became {merger.done}"
        return Outcome(merger.done, tuple(refusals), speedup, detail)


def _refused(members: list[Product] | list[list[Product]], reason: str) -> list[Refusal]:
    flat = [item for part in members for item in (part if isinstance(part, list) else [part])]
    return [Refusal(label(member.nodes[0]), reason) for member in flat]


def _why_separate(choice: Choice) -> str:
    if choice.measured:
        return f"merging is not measurably faster ({choice.speedup:.2f} times)"
    return f"merging gains below {FEW_ROWS} rows by rule (not measured)"


def _mergeable(shared: list[list[Product]], refusals: list[Refusal]) -> Iterator[list[Product]]:
    """Runs of products that can go together, each at least two."""
    readers: dict[ir.Value, Counter[Weights]] = defaultdict(Counter)
    for group in shared:
        key = tuple(member.weight for member in group)
        for member in group:
            readers[member.weight][key] += 1
    for group in shared:
        usable: list[Product] = []
        for member in group:
            reason = _why_not(member, (usable or group)[0], readers[member.weight])
            if reason:
                refusals.append(Refusal(label(member.nodes[0]), reason))
            else:
                usable.append(member)
        for run in _runs(usable):
            if len(run) > 1:
                yield run
            elif len(usable) > 1:
                reason = f"the weight would exceed {LARGEST >> 20} MB"
                refusals.append(Refusal(label(run[0].nodes[0]), reason))


def _why_not(member: Product, first: Product, readers: Counter[Weights]) -> str:
    """Why a product does not go together with its neighbours; empty where it does."""
    weight, kind = member.weight, _tensor(first.weight).dtype
    mine = [use.node for use in weight.uses()]
    through = [node for node in mine if node.op_type == "Transpose"]
    reads = len(mine) - len(through) + sum(len(node.outputs[0].uses()) for node in through)
    if len(readers) > 1 or max(readers.values()) != reads or weight.is_graph_output():
        return "its weight has other readers, and would be stored twice"
    if len(set(next(iter(readers)))) != len(next(iter(readers))):
        return "its neighbours read the same weight"
    if _tensor(weight).dtype is not kind:
        return f"its weight is {_tensor(weight).dtype.name}, that of its neighbour {kind.name}"
    if member.bias is not None and len(shape_of(member.bias)) != 1:
        return f"its bias has {len(shape_of(member.bias))} dimensions, not 1"
    return ""


def _runs(members: list[Product]) -> list[list[Product]]:
    """The members cut so that none of the merged weights is too large.

    Two neighbouring runs exceed the limit together, so that what was merged stays as it is.
    """
    found: list[list[Product]] = []
    size = LARGEST + 1
    for member in members:
        size += _tensor(member.weight).nbytes
        if size > LARGEST:
            found.append([])
            size = _tensor(member.weight).nbytes
        found[-1].append(member)
    return found


def _choose(members: list[Product], context: Context) -> Choice:
    rows = rows_of(members[0].activation, context)
    sample = Sample(
        rows,
        members[0].k,
        tuple(member.n for member in members),
        tuple(member.bias is not None for member in members),
        _tensor(members[0].weight).dtype,
    )
    merge = context.provider == "cuda" or rows < FEW_ROWS
    forms = {form: sample.builder(form) for form in ("separate", "merged")}
    return context.choose(sample.key, forms, "merged" if merge else "separate")


@dataclass
class _Merger:
    """Merges groups of one model; what several of them share is made once."""

    done: int = 0
    _operands: dict[Weights, ir.Value] = field(default_factory=dict)
    _biases: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)
    _sizes: dict[tuple[object, ...], ir.Value] = field(default_factory=dict)

    def merge(self, members: list[Product]) -> None:
        """Put one product before the first member, and its parts in place of all of them."""
        anchor, graph = members[0].nodes[0], members[0].graph
        # Read from the node: an earlier merge may have replaced the value found with the product.
        activation = anchor.inputs[0]
        assert activation is not None
        whole = ir.node("MatMul", [activation, self._operand(members)])
        made = [whole]
        if any(member.bias is not None for member in members):
            made.append(ir.node("Add", [whole.outputs[0], self._bias(members)]))
        width = sum(member.n for member in members)
        for node in made:
            value = node.outputs[0]
            value.type = ir.TensorType(_tensor(members[0].weight).dtype)
            if activation.shape is not None:
                value.shape = ir.Shape([*activation.shape[:-1], width])
        split = ir.node(
            "Split",
            [made[-1].outputs[0], self._lengths(members)],
            {"axis": -1},
            num_outputs=len(members),
        )
        graph.insert_before(anchor, [*made, split])
        for member, part in zip(members, split.outputs, strict=True):
            _replace(member, part)
        self.done += 1

    def _operand(self, members: list[Product]) -> ir.Value:
        key = tuple(member.weight for member in members)
        if key not in self._operands:
            parts = [
                Part(_tensor(item.weight), shape_of(item.weight), item.transposed, item.alpha)
                for item in members
            ]
            tensor = side_by_side(parts, _tensor(key[0]).dtype)
            name = f"{key[0].name}_merged"
            self._operands[key] = add_initializer(_home(members), name, tensor)
        return self._operands[key]

    def _bias(self, members: list[Product]) -> ir.Value:
        """The biases one after the other, zeros where a product has none."""
        key = (_home(members), *((item.bias, item.weight, item.beta) for item in members))
        if key not in self._biases:
            parts = [
                Part(_tensor(item.bias) if item.bias else None, (item.n,), factor=item.beta)
                for item in members
            ]
            tensor = side_by_side(parts, _tensor(members[0].weight).dtype)
            name = f"{members[0].weight.name}_bias"
            self._biases[key] = add_initializer(_home(members), name, tensor)
        return self._biases[key]

    def _lengths(self, members: list[Product]) -> ir.Value:
        widths = [member.n for member in members]
        key = (_home(members), *widths)
        if key not in self._sizes:
            tensor = ir.Tensor(np.array(widths, np.int64))
            self._sizes[key] = add_initializer(_home(members), "split_sizes", tensor)
        return self._sizes[key]


def _home(members: list[Product]) -> ir.Graph:
    """The graph that holds what the members share: that of their weights where it is one."""
    homes = {member.weight.graph for member in members}
    home = homes.pop() if len(homes) == 1 else members[0].graph
    assert isinstance(home, ir.Graph)
    return home


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    assert value.const_value is not None
    return value.const_value


def _replace(member: Product, part: ir.Value) -> None:
    """Let a part take the name, type and uses of a member's output, and drop the member."""
    old, name = member.output, member.output.name
    part.type, part.shape, part.doc_string = old.type, old.shape, old.doc_string
    part.metadata_props.update(old.metadata_props)
    inputs = [value for node in member.nodes for value in node.inputs]
    ir.convenience.replace_all_uses_with(old, part, replace_graph_outputs=True)
    member.graph.remove(reversed(member.nodes), safe=True)
    part.name = name
    prune(inputs)
