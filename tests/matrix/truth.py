"""How many of each kind torch computes: what every account of an export can be held against."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import exporting
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from matrix.architectures import Architecture, built
from matrix.inputs import TRACED

MODULES = {
    "normalization": re.compile(r"(Layer|RMS)Norm$"),
    "activation": re.compile(r"NewGELU|BloomGelu|QuickGELU"),
}
"""Modules of no operator of their own, by the names of their classes."""

OPERATORS = {
    "_softmax": "attention", "gelu": "activation", "silu": "activation", "relu": "activation",
}  # fmt: skip
ROUTER = re.compile(r"Router|Gate$")


class _Operators(TorchDispatchMode):
    """Counts softmaxes, without those of routers, and halves that are turned by negating them."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.routing = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in OPERATORS and not self.routing:
            self.counts[OPERATORS[name]] += 1
        if name == "neg" and args[0].is_floating_point():
            self.counts["rotary"] += 1
        return func(*args, **(kwargs or {}))


def truth(architecture: Architecture) -> dict[str, int]:
    """Attentions, normalizations, activations and rotary embeddings of one run in eager mode.

    A table of positions that is normalized is counted although an exporter may fold it.
    """
    inputs = architecture.inputs(TRACED)
    module = exporting.wrapped(built(architecture, "eager"), inputs)
    operators = _Operators()
    for part in module.modules():
        kind = type(part).__name__
        for name, pattern in MODULES.items():
            if pattern.search(kind):
                part.register_forward_hook(_adding(operators.counts, name))
        if ROUTER.search(kind):
            part.register_forward_pre_hook(lambda *_: _route(operators, 1))
            part.register_forward_hook(lambda *_: _route(operators, -1))
    with torch.no_grad(), operators:
        module(*(value for value, _ in inputs.values()))
    return {kind: operators.counts[kind] for kind in ("attention", *MODULES, "rotary")}


def _adding(counts: Counter[str], name: str) -> Callable[..., None]:
    def hook(*_: Any) -> None:
        counts[name] += 1

    return hook


def _route(operators: _Operators, step: int) -> None:
    operators.routing += step
