"""Lookup tables of narrower rows, and a product that widens what was looked up: for size.

Rows that occur in the data count as much as all rows of the table together do: what is never seen
may still be asked for.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from burnish.optimizer.analysis.products import label
from burnish.optimizer.contract import Array, Context, Refusal
from burnish.optimizer.model import add_initializer
from burnish.passes.compress import lookups
from burnish.passes.compress.low_rank.factors import STEP, leading
from burnish.passes.compress.products import observed
from burnish.passes.compress.splice import before, replace

SMALLER = 0.75
"""Share of a table that its two factors take at most."""


def find(model: ir.Model, keep: Collection[str]) -> tuple[list[list[ir.Node]], list[Refusal]]:
    """The lookups of each table that nothing else reads, and why others stay."""
    nodes, refusals = lookups.find(model, keep)
    together: dict[ir.Value, list[ir.Node]] = {}
    for node in nodes:
        if (table := node.inputs[0]) is not None:
            together.setdefault(table, []).append(node)
    found = []
    for table, readers in together.items():
        if len(readers) == len(table.uses()) and not table.is_graph_output():
            found.append(readers)
        else:
            refusals.append(Refusal(label(readers[0]), "its table has other readers"))
    return found, refusals


def seen_rows(model: ir.Model, nodes: list[ir.Node], context: Context) -> Array | None:
    """Rows that lookups give on the user's data, [rows, d]; None without it."""
    if context.observe is None or not context.observe.real:
        return None
    found = observed((node.outputs[0] for node in nodes), model, context)
    rows = [item.rows for item in found.values() if item.rows is not None]
    return np.concatenate(rows) if rows else None


def narrowed(table: Array, seen: Array | None, error: float) -> tuple[Array, int]:
    """The directions [d, rank] of least rank that lose at most `error`, a relative L2 error.

    Args:
        table: [vocabulary, d].
        seen: rows of it as data look them up, [rows, d]; both keep to the error.
        error: above 0.

    Returns:
        directions, and their number; none where the two factors would take more than `SMALLER` of
        the table.
    """
    parts = [part.astype(np.float64) for part in (table, seen) if part is not None and part.any()]
    if not parts:
        return np.zeros((table.shape[1], 0)), 0
    directions, _ = leading(sum(part.T @ part / (part**2).sum() for part in parts))
    lost = np.zeros(table.shape[1] + 1)
    for part in parts:
        energy = ((part @ directions) ** 2).sum(0)
        left = np.append(np.cumsum(energy[::-1])[::-1], 0.0)
        lost = np.maximum(lost, left / left[0])
    rank = int(np.argmax(lost <= max(error**2, 1e-14)))
    rank = min(-(-rank // STEP) * STEP, table.shape[1])
    return directions[:, : rank if gains(table, rank) else 0], rank


def gains(table: Array, rank: int) -> bool:
    """Whether two factors of that rank are so much smaller than a table that they are worth it."""
    return rank * sum(table.shape) <= SMALLER * table.size


def split(nodes: list[ir.Node], table: Array, directions: Array) -> None:
    """Read narrower rows, and multiply them."""
    source, home = nodes[0].inputs[0], nodes[0].graph
    assert source is not None and isinstance(source.graph or home, ir.Graph)
    graph = source.graph or home
    assert isinstance(graph, ir.Graph)
    narrow = (table @ directions).astype(np.float32)
    rows = add_initializer(graph, f"{source.name}_rows", ir.Tensor(narrow))
    back = np.ascontiguousarray(directions.T.astype(np.float32))
    wide = add_initializer(graph, f"{source.name}_directions", ir.Tensor(back))
    for node in nodes:
        taken = before(node, "Gather", [rows, node.inputs[1]], axis=0)
        replace((node,), node.outputs[0], before(node, "MatMul", [taken, wide]))
