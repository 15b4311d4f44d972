"""Models of the shapes of XLM-R, multilingual BERT and Llama 2, with random weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers as hf

NAMES = ("input_ids", "attention_mask")
LENGTH, LONGEST = 16, 256

SHAPES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "xlmr": ("XLMRobertaForMaskedLM", "XLMRobertaConfig",
             {"vocab_size": 250002, "max_position_embeddings": 514, "type_vocab_size": 1}),
    "mbert": ("BertForMaskedLM", "BertConfig", {"vocab_size": 105879}),
    "llama": ("LlamaForCausalLM", "LlamaConfig",
              {"vocab_size": 32000, "tie_word_embeddings": False, "hidden_size": 2048,
               "intermediate_size": 5504, "num_attention_heads": 16, "num_hidden_layers": 4}),
}  # fmt: skip
"""Class, configuration, and what differs from its defaults, which are the base sizes; of Llama 2 a
narrower one with an untied head."""

SMALL = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
         "num_attention_heads": 4}  # fmt: skip


class Both(torch.nn.Module):
    """Logits, and the hidden states that they come from."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [batch, sequence, tokens], and hidden states [batch, sequence, width]."""
        extra = {"use_cache": False} if hasattr(self.model.config, "use_cache") else {}
        result = self.model(
            input_ids=ids, attention_mask=mask, output_hidden_states=True, return_dict=True, **extra
        )
        return result.logits, result.hidden_states[-1]


def export(name: str, path: Path, exporter: str, opset: int, *, small: bool = False) -> None:
    """Write a model to a file."""
    kind, config, changed = SHAPES[name]
    torch.manual_seed(0)
    settings = getattr(hf, config)(**{**changed, **(SMALL if small else {})})
    settings._attn_implementation = "sdpa"
    model = Both(getattr(hf, kind)(settings).eval()).eval()
    ids = torch.randint(5, 1000, (2, LENGTH))
    kept: dict[str, Any] = {
        "input_names": list(NAMES), "output_names": ["logits", "hidden"], "opset_version": opset,
    }  # fmt: skip
    dynamo = exporter == "dynamo"
    if dynamo:
        axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=LONGEST)}
        kept |= {"dynamic_shapes": (axes, axes), "external_data": False, "verbose": False}
    else:
        kept["dynamic_axes"] = {key: {0: "batch", 1: "sequence"} for key in NAMES}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (ids, torch.ones_like(ids)), path, dynamo=dynamo, **kept)
