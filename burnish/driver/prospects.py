"""What each option would bring to a model, estimated from counts; nothing is run for this.

Sizes are computed from the types and shapes of weights. Limits of speed are what a run could gain
if the work that an option touches took the least that it can, and all other work as long as its
share of the operations: no measurement, and never reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import onnx_ir as ir

from burnish.driver.padding import packable
from burnish.driver.recovery import Recovered
from burnish.driver.workbench import Workbench
from burnish.optimizer.analysis.costs.scaling import Growth
from burnish.optimizer.analysis.products import Product, find_products
from burnish.optimizer.contract import Refusal
from burnish.optimizer.model import initializers
from burnish.optimizer.pipeline import Compiled
from burnish.optimizer.roles import TABLES, Role
from burnish.optimizer.signature import Port

BLOCK = 32
"""Weights that share a scale with `--int4`."""

FEW = 0.5 + 4.5 / BLOCK
"""Bytes of a weight in 4 bits, with its part of a float32 scale and of a zero in 4 bits."""

PER_CHANNEL = 5
"""Bytes of scale and zero of a channel in 8 bits."""

WINDOW = 128
"""The window that an estimate is made for."""

LONG = 4096
"""Tokens at which windows are told of, unless the model knows fewer positions."""

MUCH_VOCABULARY = 0.2
"""Share of the weights from which on a table of tokens is worth cutting."""


@dataclass(frozen=True)
class Prospect:
    """What an option would bring.

    Attributes:
        option: as on the command line; empty for what is done without any.
        says: what it would change, with counts.
        bytes: of the files then; None where they stay about as large.
        limit: times faster at most; None where nothing can be told without measuring.
        at: what the limit holds for.
        obstacle: why it would do nothing, or less; empty where nothing is in the way.
    """

    option: str
    says: str
    bytes: int | None = None
    limit: float | None = None
    at: str = ""
    obstacle: str = ""


@dataclass
class Counts:
    """What the estimates are made from.

    Attributes:
        size: bytes of the files.
        products: with constant weights in float32.
        refusals: products that int8 leaves, and why.
        tables: lookup tables in float32, as (rows, width).
        shares: of the operations, by kind.
        growth: operations by batch and length; None where they follow no law.
        facts: the architecture as data.
        attentions: those found, as data.
    """

    size: int
    products: list[Product]
    refusals: list[Refusal]
    tables: list[tuple[int, int]]
    shares: dict[str, float]
    growth: Growth | None
    facts: dict[str, Any]
    attentions: list[dict[str, Any]]
    floats: int = field(default=0)

    @property
    def weights(self) -> dict[ir.Value, Product]:
        """The products by their weights: one that several share counts once."""
        return {product.weight: product for product in self.products}


def counted(recovered: Recovered, size: int, **told: Any) -> Counts:
    """The counts of a recovered model; see `Counts` for what else is told."""
    products, refusals = find_products(recovered.model)
    weights = {product.weight for product in products}
    tables = [
        (int(shape[0]), int(shape[1]))
        for value in _tables(recovered.model)
        if value not in weights and len(shape := _shape(value)) == 2
    ]
    floats = sum(
        value.const_value.nbytes
        for value in initializers(recovered.model)
        if value.const_value is not None and value.const_value.dtype is ir.DataType.FLOAT
    )
    return Counts(size, products, refusals, tables, floats=floats, **told)


def _tables(model: ir.Model) -> list[ir.Value]:
    found: dict[ir.Value, None] = {}
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for _, place in TABLES.get((node.domain, node.op_type), ()):
            value = node.inputs[place] if place < len(node.inputs) else None
            tensor = value.const_value if value is not None else None
            if value is not None and tensor is not None and tensor.dtype is ir.DataType.FLOAT:
                found[value] = None
    return list(found)


def _shape(value: ir.Value) -> tuple[int, ...]:
    assert value.const_value is not None
    return tuple(int(size) for size in value.const_value.shape.numpy())


def prospects(bench: Workbench, compiled: Compiled, counts: Counts) -> list[dict[str, Any]]:
    """What each option would bring, as data; those that cannot matter to the model are left out."""
    found = [
        *_local(counts),
        *_few_bits(counts),
        *_half(counts),
        *_packed(bench, compiled, counts),
        *_window(counts),
        *_vocabulary(counts),
        *_caches(bench),
    ]
    return [asdict(item) for item in found]


def _few_bits(counts: Counts) -> Iterator[Prospect]:
    weights, tables = counts.weights, counts.tables
    if not weights and not tables:
        refused = next(iter(counts.refusals), None)
        reason = refused.reason if refused else "no product has a constant weight in float32"
        yield Prospect("--int8", "no product and no table", obstacle=reason)
        return
    elements = sum(item.k * item.n for item in weights.values()) + sum(a * b for a, b in tables)
    channels = sum(item.n for item in weights.values()) + sum(rows for rows, _ in tables)
    what = f"{len(weights)} weights of products and {len(tables)} tables"
    others = counts.refusals
    left = f"{len(others)} more products stay: {others[0].reason}" if others else ""
    share = counts.shares.get("linear", 0.0)
    whole = counts.size - 4 * elements
    yield Prospect(
        "--int8", f"{what} in 8 bits; {share:.0%} of the operations are in such products",
        bytes=whole + elements + PER_CHANNEL * channels, limit=1.0 / (1.0 - 0.75 * share),
        at="products in a quarter of the time", obstacle=left,
    )  # fmt: skip
    small = whole + int(FEW * elements)
    cached = counts.facts["kind"].startswith("decoder")
    yield Prospect(
        "--int4", f"{what} in 4 bits, in blocks of {BLOCK}; products compute in float32",
        bytes=small, limit=counts.size / small if cached and small > 0 else None,
        at="one token at a time, where reading weights takes the time" if cached else "",
        obstacle=left,
    )  # fmt: skip


def _half(counts: Counts) -> Iterator[Prospect]:
    if counts.floats:
        yield Prospect(
            "--fp16", "float16 where it holds the values; on processors for storage alone",
            bytes=counts.size - counts.floats // 2,
        )  # fmt: skip


def _packed(bench: Workbench, compiled: Compiled, counts: Counts) -> Iterator[Prospect]:
    if not any(slot.role is Role.MASK for slot in bench.slots):
        return
    part = packable(bench, compiled)
    if isinstance(part, str):
        yield Prospect("--pack", "padding is left out", obstacle=part)
    elif counts.facts["kind"] != "decoder":
        yield Prospect(
            "--pack", f"{part:.0%} of the operations run on tokens, and would skip padding",
            limit=1.0 / (1.0 - 0.5 * part), at="batches of which half is padding",
        )  # fmt: skip


def _length(counts: Counts) -> int:
    limit = counts.facts["limit"]
    return min(LONG, limit) if limit else LONG


def _saved(counts: Counts, share: float, width: int) -> float | None:
    """Times faster where so large a share of attentions computes a window's keys only."""
    length = _length(counts)
    if counts.growth is None or counts.growth.square <= 0 or width >= length:
        return None
    whole = counts.growth.at(1, length)
    quadratic = counts.growth.square * length * length
    return whole / (whole - quadratic * share * (1.0 - width / length))


def _local(counts: Counts) -> Iterator[Prospect]:
    for item in counts.facts["windows"]:
        width = item["left"] + item["right"] + 1
        limit = _saved(counts, item["count"] / item["of"], width)
        yield Prospect(
            "", f"{item['count']} attentions in blocks of their window of {width} keys",
            limit=limit, at=f"{_length(counts):,} tokens" if limit else "",
            obstacle="" if limit else "the model takes no sequence longer than its window",
        )  # fmt: skip


def _window(counts: Counts) -> Iterator[Prospect]:
    full = [item for item in counts.attentions if not item["window"] and item["source"] == "self"]
    opaque = [item["opaque"] for item in full if item["opaque"]]
    limit = _saved(counts, len(full) / max(1, len(counts.attentions)), WINDOW)
    if full and limit is not None and limit > 1.05:
        yield Prospect(
            f"--window {WINDOW}", f"{len(full)} attentions see {WINDOW} keys: an approximation",
            limit=limit, at=f"{_length(counts):,} tokens",
            obstacle=f"{len(opaque)} masks are not understood: {opaque[0]}" if opaque else "",
        )  # fmt: skip


def _vocabulary(counts: Counts) -> Iterator[Prospect]:
    rows = counts.facts["vocabulary"]
    held = {
        product.weight: product for product in counts.products if rows in (product.n, product.k)
    }
    size = sum(4 * item.k * item.n for item in held.values())
    size += sum(4 * a * b for a, b in counts.tables if a == rows)
    share = size / max(1, counts.size)
    if rows and share >= MUCH_VOCABULARY:
        yield Prospect(
            "--languages", f"tables of {rows:,} tokens are {share:.0%} of the bytes, so much for "
            "each tenth of the tokens that goes: " f"{size / 10 / 1e6:.1f} MB",
        )  # fmt: skip


def _caches(bench: Workbench) -> Iterator[Prospect]:
    size = cache_bytes([slot.port for slot in bench.slots if slot.role is Role.PAST])
    if size:
        yield Prospect(
            "--kv-cache int8", f"caches take {size / 4 / 1e3:.1f} kB a token and sequence instead "
            f"of {size / 1e3:.1f}", obstacle="it needs --data",
        )  # fmt: skip


def cache_bytes(ports: list[Port]) -> int:
    """Bytes of caches in float32 for each token of a sequence; 0 where sizes are not known."""
    total = 0
    for port in ports:
        fixed = [size for size in (port.shape or ())[1:] if isinstance(size, int)]
        if port.shape is None or port.dtype != "FLOAT" or len(fixed) != len(port.shape) - 2:
            continue
        count = 1
        for size in fixed:
            count *= size
        total += 4 * count
    return total
