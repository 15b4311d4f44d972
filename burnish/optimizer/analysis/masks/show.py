"""Terms as text."""

from __future__ import annotations

from burnish.optimizer.analysis.masks.terms import Term

LONGEST = 200
"""Nodes of the largest term that is written out."""


def show(term: Term) -> str:
    """The term as a formula (`key - query <= past`)."""
    if term.weight > LONGEST:
        return "..."
    op, args = term.op, term.args
    if op == "const":
        return f"{term.value:.4g}" if isinstance(term.value, float) else str(term.value)
    if op == "index":
        return str(term.value)
    if op == "size":
        value = term.value
        return value if isinstance(value, str) else f"size({value[0].name}, {value[1]})"
    if op == "lookup":
        return f"{term.value.name}[{', '.join(map(show, args))}]"
    if op == "sum":
        return _sum(term)
    if op in ("at_most", "below", "zero"):
        sign = {"at_most": "<=", "below": "<", "zero": "=="}[op]
        return f"{show(args[0])} {sign} 0"
    if op in ("and", "or", "product"):
        sign = {"and": " & ", "or": " | ", "product": " * "}[op]
        return sign.join(f"({show(item)})" if item.args else show(item) for item in args)
    name = term.value if op == "call" else op
    return f"{name}({', '.join(map(show, args))})"


def _sum(term: Term) -> str:
    coefficients, constant = term.value
    parts = sorted(zip(coefficients, term.args, strict=True), key=lambda part: part[0] < 0)
    text = ""
    for factor, atom in parts:
        shown = f"({show(atom)})" if atom.op in ("or", "and") else show(atom)
        number = "" if abs(factor) == 1 else f"{abs(factor):.4g}*"
        sign = ("-" if factor < 0 else "") if not text else (" - " if factor < 0 else " + ")
        text += f"{sign}{number}{shown}"
    if constant:
        text += f" {'-' if constant < 0 else '+'} {abs(constant):.4g}"
    return text
