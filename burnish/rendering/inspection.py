"""What a model or a checkpoint is, as a page for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.tree import Tree

from burnish.rendering.structure import (
    alike_attentions,
    amount,
    attention_lines,
    left_lines,
    recovered_lines,
    work_lines,
)
from burnish.rendering.text import line, safe, size, table, texts

Facts = Mapping[str, Any]


def render_inspect(console: Console, facts: dict[str, Any]) -> None:
    """What a model is; of an artifact's folder, a page for each graph."""
    if "parts" in facts:
        labels = f", {len(facts['labels'])} classes" if facts["labels"] else ""
        told = f"[bold]{safe(facts['input']['path'])}[/bold]: an artifact for "
        line(console, told + safe(facts["task"] or "no task that it names") + labels)
        for part in facts["parts"].values():
            render_inspect(console, part)
        return
    given = facts["input"]
    line(
        console, f"[bold]{safe(given['path'])}[/bold]: [bold]{safe(facts['headline'], 300)}[/bold]"
    )
    if "checkpoint" in facts:
        _checkpoint(console, facts)
    else:
        _graph(console, facts)
    _growth(console, facts["scaling"], facts["memory"])
    _options(console, facts)
    _obstacles(console, facts["obstacles"])


def _graph(console: Console, facts: Facts) -> None:
    given = facts["input"]
    files = len(given["files"])
    line(
        console,
        f"{size(given['bytes'])} in {files} file{'s' * (files > 1)}, {given['nodes']} nodes, "
        f"operator set {given['opset']}, by {safe(facts['producer']) or 'unknown'}, needs ONNX "
        f"Runtime {facts['least_onnxruntime']}",
    )
    _ports(console, facts)
    _weights(console, facts["weights"])
    operators = ", ".join(f"{safe(name)} {count}" for name, count in facts["operators"].items())
    line(console, f"operators: {operators}")
    texts(console, recovered_lines(facts["recovered"]))
    texts(console, attention_lines(facts["attentions"]))
    texts(console, work_lines(facts["flops"]))
    console.print(_tree(facts))
    products = facts["products"]
    line(
        console,
        f"int8 would take {products['count']} products with {products['parameters']:,} parameters",
    )
    texts(console, left_lines("int8", products["left"]))


def _checkpoint(console: Console, facts: Facts) -> None:
    given, found = facts["input"], facts["checkpoint"]
    names = ", ".join(map(safe, found["architectures"])) or "no class"
    files = len(given["files"])
    line(
        console,
        f"a checkpoint of {safe(found['model_type'])} ({names}), {size(given['bytes'])} of weights "
        f"in {files} file{'s' * (files > 1)}, for {found['task'] or 'an unknown task'}",
    )
    _weights(console, facts["weights"])
    caches = ", with its caches as inputs and outputs" if found["caches"] else ""
    line(
        console,
        f"`optimize` would write the folder {safe(found['output'])}: "
        f"{' and '.join(found['graphs'])}{caches}, about {size(found['float32_bytes'])} in "
        f"float32, beside {', '.join(found['files']) or 'no other files'}",
    )


def _ports(console: Console, facts: Facts) -> None:
    ports = table(
        ("", "left"), ("name", "left"), ("type", "left"), ("shape", "left"), ("role", "left")
    )
    for kind in ("inputs", "outputs"):
        alike: dict[tuple[str, ...], list[str]] = {}
        for port in facts["signature"][kind]:
            shape = "?" if port["shape"] is None else " x ".join(map(str, port["shape"]))
            role = facts["roles"].get(port["name"], "") if kind == "inputs" else ""
            key = re.sub(r"[0-9]+", "0", port["name"]), port["dtype"], shape, role
            alike.setdefault(key, []).append(port["name"])
        for (_, dtype, shape, role), names in alike.items():
            name = safe(names[0])
            if len(names) > 1:
                name = f"{name} to {safe(names[-1])} ({len(names)})"
            ports.add_row(kind[:-1], name, safe(dtype), safe(shape), role)
    console.print(ports)


def _weights(console: Console, weights: Facts) -> None:
    """Types, then the largest ones."""
    parts = weights.get("by_part") or {}
    total = sum(parts.values()) or 1
    told = ", ".join(
        f"{part.replace('_', ' ')} {count / total:.0%}"
        for part, count in sorted(parts.items(), key=lambda item: -item[1])
    )
    shares = f" ({told})" if told else ""
    line(console, f"{weights['parameters']:,} parameters{shares}")
    types = table(
        ("weights", "left"), ("tensors", "right"), ("elements", "right"), ("bytes", "right")
    )
    for dtype, entry in weights["types"].items():
        types.add_row(
            safe(dtype), str(entry["tensors"]), f"{entry['elements']:,}", size(entry["bytes"])
        )
    console.print(types)
    if not weights["largest"]:
        return
    largest = table(
        ("largest", "left"), ("type", "left"), ("shape", "right"), ("bytes", "right"), ("", "left")
    )
    for row in weights["largest"]:
        where = row["part"].replace("_", " ")
        if not where and row["layer"] is not None:
            where = f"layer {row['layer']}"  # as names of weights have it
        elif row["layer"]:
            where = f"{where} of layer {row['layer']}"
        shape = " x ".join(map(str, row["shape"]))
        largest.add_row(safe(row["name"], 60), safe(row["dtype"]), shape, size(row["bytes"]), where)
    console.print(largest)


def _tree(facts: Facts) -> Tree:
    """Layers with their parameters, work and attentions; those alike in one branch."""
    weights = {row["layer"]: _without(row) for row in facts["weights"]["by_layer"]}
    flops: dict[int | None, dict[str, float]] = {
        row["layer"]: _without(row) for row in facts["flops"]["by_layer"]
    }
    if facts["flops"]["head"]:
        flops[None] = {"head": facts["flops"]["head"]}
    seen: dict[int | None, list[Facts]] = {}
    for item in facts["attentions"]:
        seen.setdefault(item["layer"], []).append(item)
    groups: dict[str, tuple[list[int | None], Branch]] = {}
    for layer in sorted({*weights, *flops}, key=lambda item: (item is None, item or 0)):
        branch = (
            weights.get(layer, {}),
            flops.get(layer, {}),
            alike_attentions(seen.get(layer, ())),
        )
        groups.setdefault(repr(branch), ([], branch))[0].append(layer)
    tree = Tree("by layer", guide_style="dim")
    for layers, (held, worked, attentions) in groups.values():
        each = " each" if len(layers) > 1 else ""
        told = [f"{_count(sum(held.values()))} parameters{each}"] if held else []
        told += [f"{amount(sum(worked.values()))}{each}"] if worked else []
        node = tree.add(f"{_named(layers)}: {', '.join(told)}")
        for text in attentions:
            node.add(safe(text, 200))
        for part in dict.fromkeys((*held, *worked)):
            told = [f"{_count(held[part])} parameters"] if part in held else []
            told += [amount(worked[part])] if part in worked else []
            node.add(f"{part.replace('_', ' ')}: {', '.join(told)}")
    return tree


Branch = tuple[dict[str, int], dict[str, float], tuple[str, ...]]
"""Parameters and operations by part, and attentions in words."""


def _without(row: Facts) -> dict[str, Any]:
    return {part: count for part, count in row.items() if part != "layer"}


def _named(layers: Sequence[int | None]) -> str:
    """What a branch of layers is called: "layers 1-3, 5"."""
    if layers == [None]:
        return "behind the last layer"
    numbers = [layer for layer in layers if layer is not None]
    if numbers == [0]:
        return "before the first attention"
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    told = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
    return f"layer{'s' * (len(numbers) > 1)} {told}"


def _count(parameters: int) -> str:
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if parameters >= scale:
            return f"{parameters / scale:.2f} {unit}"
    return str(parameters)


def _growth(console: Console, scaling: Facts | None, memory: Facts) -> None:
    """Work and memory by batch and length."""
    if scaling is None:
        return
    if law := scaling["flops"]:
        terms = [
            ("", law["constant"]),
            (" x length", law["linear"]),
            (" x length^2", law["square"]),
        ]
        told = " + ".join(f"{amount(factor)}{name}" for name, factor in terms if factor)
        several = told.count(" + ") > 0
        told = f"({told})" if several and law["batched"] else told
        line(console, f"work grows as {'batch x ' * law['batched']}{told or '0'}")
    else:
        line(console, "work follows no simple law of batch and length")
    rows = table(
        ("batch", "right"), ("length", "right"), ("work", "right"), ("weights", "right"),
        ("values at once", "right"),
    )  # fmt: skip
    for row in scaling["rows"]:
        values = row["values_bytes"]
        rows.add_row(
            str(row["batch"]), "any" if row["length"] is None else f"{row['length']:,}",
            "?" if row["flops"] is None else amount(row["flops"]), size(memory["weights_bytes"]),
            "" if values is None else size(values),
        )  # fmt: skip
    console.print(rows)
    if cache := scaling["cache_bytes_per_token"]:
        line(console, f"caches take {size(cache)} for each token of a sequence")


def _options(console: Console, facts: Facts) -> None:
    """What each option would bring."""
    if not facts["options"]:
        return
    before = facts["checkpoint"]["float32_bytes"] if "checkpoint" in facts else 0
    before = before or facts["input"]["bytes"]
    rows = table(("option", "left"), ("size", "right"), ("at most", "right"), ("", "left"))
    for item in facts["options"]:
        after = item["bytes"]
        limit = f"{item['limit']:.2f} x" if item["limit"] else ""
        ratio = "" if after is None else f"{size(after)} ({after / before:.2f})"
        told = item["says"] + (f" (at most: {item['at']})" if item["limit"] else "")
        told += f"; but {item['obstacle']}" if item["obstacle"] else ""
        rows.add_row(item["option"] or "(none)", ratio, limit, safe(told, 400))
    console.print(rows)
    line(
        console,
        "sizes are computed; limits are what counts of work allow, and nothing was measured: "
        "`optimize MODEL` with the option measures",
        style="dim",
    )


def _obstacles(console: Console, obstacles: Iterable[Facts]) -> None:
    texts(console, _obstacle_lines(obstacles))


def _obstacle_lines(obstacles: Iterable[Facts]) -> Iterator[str]:
    rows = list(obstacles)
    if not rows:
        yield "nothing is in the way"
        return
    yield "in the way:"
    for item in rows:
        places = f" ({item['count']} places)" if item["count"] > 1 else ""
        remedy = f"; try {item['remedy']}" if item["remedy"] else ""
        yield f"  {item['what']}{places}: {item['reason']}{remedy}"
