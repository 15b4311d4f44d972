"""What the model is made of: operators before and after, layers, and its attentions' masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from burnish.report.charts.bars import Bar, Row, rows
from burnish.report.charts.columns import Group, columns
from burnish.report.charts.mask import mask
from burnish.report.numbers import amount, counted, milliseconds, small

MOST_OPERATORS = 12
"""Operators that have rows of their own."""

MOST_MASKS = 12
"""Pictures of attentions that differ."""

HEAD = "head"

Report = dict[str, Any]


def operators(report: Report) -> dict[str, Any] | None:
    """Nodes by operator, and the time that their kernels take where that was measured."""
    mix = report.get("operators")
    if not mix:
        return None
    before, after = sum(mix["before"].values()), sum(mix["after"].values())
    count = _pairs(
        "Nodes by operator, before and after", mix["before"], mix["after"], lambda n: f"{n:,.0f}"
    )
    told = {"before": before, "after": after, "count": count, "time": None}
    kernels = (report.get("profile") or {}).get("kernels")
    if kernels:
        told["time"] = _pairs(
            "Time of kernels by operator, before and after",
            kernels["before"]["operators"],
            kernels["after"]["operators"],
            milliseconds,
        )
    return told


def mixture(title: str, counts: Mapping[str, float]) -> Markup:
    """One mix by itself: nodes by operator."""
    shown = dict(list(counts.items())[:MOST_OPERATORS])
    if rest := list(counts.values())[MOST_OPERATORS:]:
        shown[counted(len(rest), "other operator")] = sum(rest)
    most = max(shown.values(), default=1.0) or 1.0
    items = [
        Row(_plain(name), f"{count:,.0f}", (Bar(0, count / most, "after"),))
        for name, count in shown.items()
    ]
    return rows(title, ", ".join(f"{item.name} {item.value}" for item in items), items)


def _pairs(
    title: str, before: Mapping[str, float], after: Mapping[str, float], told: Any
) -> Markup:
    names = sorted(
        {*before, *after}, key=lambda name: (-before.get(name, 0) - after.get(name, 0), name)
    )
    pairs = [(_plain(name), before.get(name, 0.0), after.get(name, 0.0)) for name in names]
    shown, rest = pairs[:MOST_OPERATORS], pairs[MOST_OPERATORS:]
    if rest:
        name = counted(len(rest), "other operator")
        shown.append((name, sum(item[1] for item in rest), sum(item[2] for item in rest)))
    most = max((max(first, second) for _, first, second in shown), default=1.0) or 1.0
    items = [
        Row(
            name,
            f"{_of(first, told)} \N{RIGHTWARDS ARROW} {_of(second, told)}",
            (Bar(0, first / most, "before"), Bar(0, second / most, "after")),
        )
        for name, first, second in shown
    ]
    return rows(title, ", ".join(f"{item.name} {item.value}" for item in items), items)


def _of(number: float, told: Any) -> str:
    return str(told(number)) if number else "0"


def _plain(name: str) -> str:
    return name.removeprefix("com.microsoft.")


def layers(report: Report) -> dict[str, Any] | None:
    """Time and error of each layer."""
    errors = {row["layer"]: row for row in report.get("layers") or []}
    kernels = (report.get("profile") or {}).get("kernels")
    sides = [kernels[name]["layers"] for name in ("before", "after")] if kernels else [{}, {}]
    names = sorted({*errors, *sides[0], *sides[1]}, key=_order)
    if not names:
        return None
    told: dict[str, Any] = {"time": None, "error": None}
    if kernels:
        groups = [
            Group(
                _named(name),
                (sides[0].get(name), sides[1].get(name)),
                f"{_long(name)}: {milliseconds(sides[0].get(name, 0.0))} before, "
                f"{milliseconds(sides[1].get(name, 0.0))} after",
            )
            for name in names
        ]
        description = "; ".join(group.note for group in groups)
        title = "Time of kernels by layer, before and after"
        told["time"] = columns(title, description, groups, ("before", "after"), milliseconds)
    if errors:
        groups = [
            Group(_named(name), (errors[name]["error"] if name in errors else None,), _made(row))
            for name in names
            for row in [errors.get(name)]
        ]
        description = "; ".join(filter(None, (group.note for group in groups)))
        told["error"] = columns(
            "Largest error by layer", description, groups, ("lossy",), small, logarithmic=True
        )
    return told


def work(flops: Mapping[str, Any]) -> Markup | None:
    """Floating point operations by layer, as `inspect` tells them."""
    groups = []
    for row in flops["by_layer"]:
        total = sum(count for part, count in row.items() if part != "layer")
        name = str(row["layer"])
        groups.append(Group(_named(name), (total,), f"{_long(name)}: {amount(total)}"))
    if flops["head"]:
        groups.append(Group(HEAD, (flops["head"],), f"head: {amount(flops['head'])}"))
    if not groups:
        return None
    description = "; ".join(group.note for group in groups)
    return columns("Work by layer", description, groups, ("after",), _short)


def _short(flops: float) -> str:
    return amount(flops).removesuffix("FLOP")


def _order(name: str) -> tuple[bool, int]:
    return (True, 0) if not name.isdecimal() else (False, int(name))


def _named(name: str) -> str:
    return "in" if name == "0" else name


def _long(name: str) -> str:
    names = {"0": "before the first layer", HEAD: "head"}
    return names.get(name, f"layer {name}")


def _made(row: Mapping[str, Any] | None) -> str:
    return f"{_long(row['layer'])}: {small(row['error'])} by {row['pass']}" if row else ""


def attentions(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The attentions, those that are alike together, each kind with the picture of its mask."""
    groups: dict[str, dict[str, Any]] = {}
    for facts in found:
        text = _attention(facts)
        group = groups.setdefault(text, {"text": text, "facts": facts, "count": 0})
        group["count"] += 1
    kinds = [_kind(group) for group in groups.values()]
    return {"kinds": kinds[:MOST_MASKS], "more": len(kinds[MOST_MASKS:]), "count": len(found)}


def _attention(facts: Mapping[str, Any]) -> str:
    def told(key: str) -> str:
        return "?" if facts[key] is None else f"{facts[key]:g}"

    heads = f"{told('heads')} heads of {told('head_size')}"
    if facts["kv_heads"] != facts["heads"]:
        heads += f", {told('kv_heads')} of keys and values"
    cap = f", softcap {told('softcap')}" if facts["softcap"] else ""
    return f"{facts['operator']}|{heads}{cap}|{facts['mask']}"


def _kind(group: Mapping[str, Any]) -> dict[str, Any]:
    operator, heads, said = group["text"].split("|", 2)
    seen = group["facts"].get("picture")
    told = {
        "count": group["count"], "operator": operator, "heads": heads, "mask": said, "plot": None,
        "queries": 0, "keys": 0, "padding": [], "biased": False,
    }  # fmt: skip
    if not seen:
        return told
    title = f"Mask of {counted(group['count'], 'attention')}: {said}"
    description = (
        f"{seen['queries']} queries downwards, {seen['keys']} keys to the right; filled where a "
        "query sees a key"
    )
    drawing = mask(title, description, seen["rows"], padded=bool(seen["padding"]))
    known = {key: seen[key] for key in ("queries", "keys", "padding", "biased")}
    return told | known | {"plot": drawing}
