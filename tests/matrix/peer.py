"""The other tool: ONNX Runtime's transformers optimizer, told the best of its model types."""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

from onnxruntime.transformers.optimizer import optimize_model

from matrix import isolation
from matrix.isolation import Facts

HANGING, PATIENCE = 40.0, 150.0
"""Seconds after which a model type is given up, and all of them."""

TYPES = (
    "bert", "gpt2", "gpt_neox", "bart", "t5", "vit", "swin", "clip", "phi", "qwen3", "conformer",
    "tnlr",
)  # fmt: skip
"""Every model type of a Transformer from PyTorch."""

OPERATORS = {
    "attention": {
        "Attention", "MultiHeadAttention", "GroupQueryAttention", "PackedAttention",
        "PackedMultiHeadAttention", "DecoderMaskedMultiHeadAttention", "LongformerAttention",
    },
    "normalization": {
        "LayerNormalization", "SkipLayerNormalization", "EmbedLayerNormalization",
        "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization", "RMSNormalization",
    },
    "activation": {"Gelu", "FastGelu", "BiasGelu", "QuickGelu", "Relu"},
    "rotary": {"RotaryEmbedding"},
}  # fmt: skip
"""Operators by kind, those of the export included: a LayerNormalization counts whoever wrote it."""


def optimize(source: Path, target: Path, heads: int, hidden: int) -> Facts:
    """Optimize with every model type; keep the one that leaves most attentions, then most else.

    Returns:
        `status`; `type` and what was `found` by kind; the `failures` of the types that fail.
    """
    done: dict[str, Facts] = {}
    failures: dict[str, str] = {}
    start = time.monotonic()
    for kind in TYPES:
        if time.monotonic() - start > PATIENCE:
            failures[kind] = "not tried: others took too long"
            continue
        path = target.with_name(f"{kind}.onnx")
        facts = isolation.call(_one, source, path, kind, heads, hidden, seconds=HANGING)
        if facts["status"] == "ok":
            done[kind] = facts["found"]
        else:
            failures[kind] = facts["error"]
    if not done:
        reason, _ = Counter(failures.values()).most_common(1)[0]
        return {"status": "error", "error": reason, "failures": failures}
    best = max(done, key=lambda kind: (done[kind]["attention"], sum(done[kind].values())))
    target.with_name(f"{best}.onnx").rename(target)
    return {"status": "ok", "type": best, "found": done[best], "failures": failures}


def _one(source: Path, target: Path, kind: str, heads: int, hidden: int) -> Facts:
    logging.disable(logging.CRITICAL)
    model = optimize_model(str(source), kind, num_heads=heads, hidden_size=hidden)
    model.save_model_to_file(str(target))
    return {"found": counts(model.model)}


def counts(model: Any) -> dict[str, int]:
    """Operators of a model by kind, those of its functions included."""
    graphs = (model.graph, *model.functions)
    nodes = Counter(node.op_type for graph in graphs for node in graph.node)
    return {kind: sum(nodes[operator] for operator in names) for kind, names in OPERATORS.items()}
