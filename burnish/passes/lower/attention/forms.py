"""The forms of an attention, and which is taken unmeasured."""

from __future__ import annotations

from typing import Protocol

from burnish.optimizer.forms import AS_IT_IS
from burnish.passes.lower.attention.bias import Masks
from burnish.passes.lower.attention.group_query import GroupQuery
from burnish.passes.lower.attention.hiding import Added, Limited, Padded
from burnish.passes.lower.attention.multi_head import MultiHead
from burnish.passes.lower.attention.packed import PackedHeads, Weighted
from burnish.passes.lower.attention.products import Products
from burnish.passes.lower.attention.site import Results, Site
from burnish.passes.lower.attention.windows import Windows
from burnish.passes.lower.attention.writer import Writer


class Form(Protocol):
    """One way to write an attention; it decides by the site, and builds without fail."""

    @property
    def name(self) -> str:
        """What the report calls it."""
        ...

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that have a kernel for it."""
        ...

    def refusal(self, site: Site) -> str:
        """Why it cannot say exactly what the attention computes; empty where it can."""
        ...

    def build(self, writer: Writer, masks: Masks, site: Site) -> Results:
        """Write it before the attention's node."""
        ...


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Products(),
        Windows(),
        MultiHead("MultiHeadAttention", Added()),
        MultiHead("MultiHeadAttention (causal)", Limited()),
        MultiHead("MultiHeadAttention (key padding)", Padded()),
        GroupQuery(),
        Weighted("Attention with weights", Added()),
        Weighted("Attention with weights (causal)", Limited()),
        Weighted("Attention with weights (key padding)", Padded()),
        PackedHeads("MultiHeadAttention (packed)", Added()),
        PackedHeads("MultiHeadAttention (packed, causal)", Limited()),
    )
}
"""All forms by name, the plainest first."""

RULES = {
    "cpu": (AS_IT_IS,),
    "cuda": (
        "MultiHeadAttention (causal)",
        "MultiHeadAttention",
        "MultiHeadAttention (key padding)",
        "products",
    ),
    "openvino": (AS_IT_IS, "products"),
}
"""What is taken unmeasured, by provider: the first that can say it.

On processors the operator was the fastest at eight shapes or within 5 % of it, but for many windows
of few tokens with a bias (Swin), where products took a third of its time. On GPUs
`MultiHeadAttention` is the one with memory-efficient kernels. Those take a causal limit, and a
tensor that is added, but no padding of keys [batch, keys]
(contrib_ops/cuda/bert/multihead_attention.cc), which is why that comes last.
OpenVINO makes the operator its own `ScaledDotProductAttention`."""


def runs_operator(provider: str, site: Site) -> bool:
    """Whether the operator itself may stay.

    OpenVINO 2026.4 runs it by itself where heads share keys and values, but in an exported decoder
    it failed: "incompatible MatMul batch dimension" in the kernel that it fuses.
    """
    return provider != "openvino" or site.facts.groups == site.facts.heads
