"""Products with a constant weight become two of lower rank, where that is measured faster."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from burnish.optimizer.analysis.products import Product, find_products, label
from burnish.optimizer.contract import (
    LOSSY,
    Array,
    Choice,
    Context,
    Outcome,
    Phase,
    Refusal,
    Sparing,
)
from burnish.optimizer.model import add_initializer
from burnish.optimizer.samples import LARGEST_WORK, Sample, rows_of
from burnish.passes.compress.low_rank import tables
from burnish.passes.compress.low_rank.factors import STEP, Factors, factors
from burnish.passes.compress.products import observed, why_not
from burnish.passes.compress.splice import before, drop_unused, replace
from burnish.passes.compress.times import FLOAT, at_full_size, times

NOTHING_FOUND = "it has no product with a constant weight"

LONGEST = 4096
"""Shorter side of the largest weight that is factored: the time is cubic in it."""

FEWER = 0.75
"""Share of the multiplications that two products have at most where one is replaced by rule."""

OPSET = 17
"""Operator set of the samples; a product is the same in all."""


@dataclass(frozen=True)
class LowRank(Sparing):
    """Products with a constant weight of low rank, as two products.

    It runs where the user asks for it (`--low-rank`).

    Before:
        `y = MatMul(x, w) + b`, with `w` [k, n].
    After:
        `y = MatMul(MatMul(x, u), v) + b`, with `u` [k, r] and `v` [r, n], of the least rank `r`, in
        steps of 16, that loses no more than `error` by itself. For the places in `finer` that is
        `finer_error`. With the user's data the mean of what is lost goes into `b`. With `tables`
        also `Gather(t, ids)` as `MatMul(Gather(t @ d, ids), d^T)`, with `d` [n, r]: smaller, and
        a little slower, which is why `--force` asks for it.
    Refuses when:
        Two products of that rank multiply as much as one does, or are measured no faster. The
        weight is not a float32 matrix, holds NaN, has other readers, or is longer than 4096 on both
        sides; or the product is in `keep`. A table has other readers than lookups, or two factors
        take more than three quarters of it.
    Numerics:
        Lossy. With the user's data the error is that of what varies in the products with a quarter
        of the rows that were kept of `x`, and the other three quarters say which directions count;
        else that of the weight.
    """

    keep: tuple[str, ...] = ()
    finer: tuple[str, ...] = ()
    error: float = 0.1
    finer_error: float = 0.03
    tables: bool = False

    name = "low-rank"
    phase = Phase.COMPRESS
    promise = LOSSY
    asked = True

    @property
    def finer_is(self) -> str:
        return f"ranks that lose at most {self.finer_error:g}"

    def apply(self, model: ir.Model, context: Context) -> Outcome:
        """Rewrite in place, by the choices of `context.choose`."""
        products, refusals = find_products(model)
        usable = []
        for member in products:
            reason = why_not(member, self.keep) or _why_whole(member)
            if reason:
                refusals.append(Refusal(label(member.nodes[0]), reason))
            else:
                usable.append(member)
        rows = _rows(usable, model, context)
        spent: dict[str, tuple[float, float]] = {}
        ranks = []
        for member in usable:
            found = self._factors(member, rows.get(member.activation), context)
            reason = _why_no_gain(member, found, self._error(member))
            if not reason:
                choice = _choose(member, found.rank, context)
                spent |= times([member], choice)
                reason = _why_slower(choice, found.rank)
            if reason:
                refusals.append(Refusal(label(member.nodes[0]), reason))
                continue
            split(member, found)
            ranks.append(found.rank)
        said = []
        if ranks:
            said.append(f"{len(ranks)} products in two, of ranks {min(ranks)} to {max(ranks)}")
        narrower = self._tables(model, context, refusals) if self.tables else []
        said += [f"a table of {was} in rows of {rank}" for was, rank in narrower]
        if not said:
            return Outcome(0, tuple(refusals), detail=NOTHING_FOUND, times=spent)
        drop_unused(model)
        count = len(ranks) + len(narrower)
        return Outcome(count, tuple(refusals), None, ", ".join(said), times=spent)

    def _tables(
        self, model: ir.Model, context: Context, refusals: list[Refusal]
    ) -> list[tuple[str, int]]:
        """Tables that become narrower, with their sizes before and their ranks."""
        taken, others = tables.find(model, self.keep)
        refusals += others
        found = []
        for nodes in taken:
            source = nodes[0].inputs[0]
            assert source is not None and source.const_value is not None
            table = source.const_value.numpy()
            error = min(self._error_at(node.outputs[0]) for node in nodes)
            seen = tables.seen_rows(model, nodes, context)
            directions, rank = tables.narrowed(table, seen, error)
            size = " x ".join(map(str, table.shape))
            if directions.shape[1]:
                tables.split(nodes, table, directions)
                found.append((size, rank))
            else:
                least = int(tables.SMALLER * table.size / sum(table.shape))
                reason = f"a table of {size} needs rank {rank} to lose at most {error:g}, and is "
                reason += f"smaller in two up to {least}"
                refusals.append(Refusal(label(nodes[0]), reason))
        return found

    def _error(self, member: Product) -> float:
        return self._error_at(member.output)

    def _error_at(self, value: ir.Value) -> float:
        return self.finer_error if value.name in self.finer else self.error

    def _factors(self, member: Product, rows: Array | None, context: Context) -> Factors:
        """The factors of a weight; found once however often the pass runs."""
        tensor, error = member.weight.const_value, self._error(member)
        assert tensor is not None
        key = ("factors", id(tensor), member.transposed, member.activation.name, error)
        if key not in context.memo:
            matrix = tensor.numpy().T if member.transposed else tensor.numpy()
            # The tensor stays alive with what was made of it, so that no other has its id.
            context.memo[key] = tensor, factors(matrix, rows, error, _most(member))
        found: Factors = context.memo[key][1]
        return found


def _most(member: Product) -> int:
    """The largest rank whose two products multiply less than the one."""
    return (member.k * member.n - 1) // (member.k + member.n)


def _why_whole(member: Product) -> str:
    """Why a weight cannot be factored; empty where it can."""
    if _most(member) < STEP:
        return f"too small for two products ({member.k} x {member.n})"
    if min(member.k, member.n) > LONGEST:
        return f"both of its sides are longer than {LONGEST} ({member.k} x {member.n})"
    others = len(member.weight.uses()) > 1 or member.weight.is_graph_output()
    return "its weight has other readers" if others else ""


def _why_no_gain(member: Product, found: Factors, error: float) -> str:
    if found.rank <= _most(member):
        return ""
    return (
        f"{member.k} x {member.n} needs rank {found.rank} to lose at most {error:g}, and two "
        f"products multiply less up to {_most(member)}"
    )


def _why_slower(choice: Choice, rank: int) -> str:
    if choice.winner != FLOAT:
        return ""
    gain = f"{choice.speedup:.2f} times" if choice.measured else "not measured"
    return f"two products of rank {rank} are not measurably faster ({gain})"


def _rows(taken: list[Product], model: ir.Model, context: Context) -> dict[ir.Value, Array]:
    """Rows of the activations of products; nothing where the feeds are made up."""
    if context.observe is None or not context.observe.real:
        return {}
    found = observed((member.activation for member in taken), model, context)
    return {value: seen.rows for value, seen in found.items() if seen.rows is not None}


def _choose(member: Product, rank: int, context: Context) -> Choice:
    """Whether two products are faster; those of the same sizes share one measurement."""
    tokens, k, n = rows_of(member.activation, context), member.k, member.n
    rows = max(1, min(tokens, LARGEST_WORK // (k * n)))
    form = f"rank {rank}"
    forms: dict[str, Callable[[], onnx.ModelProto]] = {
        FLOAT: functools.partial(sample, rows, k, n),
        form: functools.partial(sample, rows, k, n, rank),
    }
    rule = form if rank * (k + n) <= FEWER * k * n else FLOAT
    choice = context.choose(f"low-rank rows={rows} k={k} n={n} rank={rank}", forms, rule)
    return at_full_size(choice, tokens * k * n, rows * k * n, k * n / (rank * (k + n)))


def sample(rows: int, k: int, n: int, rank: int = 0) -> onnx.ModelProto:
    """A product [rows, k] x [k, n] for timing; with a rank as two."""
    made = Sample(OPSET)
    value = made.port("x", (rows, k))
    widths = [k, *([rank] if rank else []), n]
    for index, (width, following) in enumerate(itertools.pairwise(widths)):
        value = made.node("MatMul", value, made.weight(f"w{index}", width, following))
    return ir.to_proto(made.model(value))


def split(member: Product, found: Factors) -> None:
    """Write two products in the place of one."""
    anchor, home, name = member.nodes[0], member.weight.graph, member.weight.name
    assert isinstance(home, ir.Graph)
    right = found.right * np.float32(member.alpha)
    parts = {"left": found.left, "right": right}
    result = anchor.inputs[0]
    for key, array in parts.items():
        stored = add_initializer(home, f"{name}_{key}", ir.Tensor(np.ascontiguousarray(array)))
        result = before(anchor, "MatMul", [result, stored])
    assert result is not None
    bias = _bias(member, found.shift)
    if bias is not None:
        result = before(anchor, "Add", [result, bias])
    replace(member.nodes, member.output, result)


def _bias(member: Product, shift: Array) -> ir.Value | None:
    """The bias of a product that is moved by `shift`; None where there is nothing to add."""
    plain = member.bias if member.beta != 0.0 else None
    if member.beta == 1.0 and not shift.any():
        return plain
    array: Array = shift * np.float32(member.alpha)
    if plain is not None:
        assert plain.const_value is not None
        array = array + plain.const_value.numpy().reshape(-1) * np.float32(member.beta)
    home = member.weight.graph
    assert isinstance(home, ir.Graph)
    return add_initializer(home, f"{member.weight.name}_bias", ir.Tensor(array))
