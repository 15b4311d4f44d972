"""Small models that generate, as artifact folders, and what PyTorch generates with them."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matrix.architectures import (
    BOTH,
    GEMMA,
    GROUPED,
    LAYERS,
    SPECIAL,
    T5,
    TEXT,
    WHISPER,
    Builder,
    plain,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from burnish.optimizer.artifact import MANIFEST
from burnish.optimizer.frontend.exporters import TORCHSCRIPT, Way, export
from burnish.optimizer.frontend.parts import parts_of
from burnish.optimizer.frontend.samples import TRACED
from burnish.optimizer.frontend.tasks import TASKS
from burnish.optimizer.frontend.wrappers import cache_of
from burnish.optimizer.frontend.wrappers import parts as caches_of

POSITIONS = {"max_position_embeddings": 512}
VOCABULARY = 300
TRANSLATION = "text2text-generation"


@dataclass(frozen=True)
class Model:
    """A model by its builder (see `matrix.architectures`), and the exporter that takes it."""

    build: Builder
    task: str = "text-generation"
    exporter: str = TORCHSCRIPT

    @property
    def pair(self) -> bool:
        return self.task != "text-generation"


MODELS = {
    "gpt2": Model(
        plain(
            "GPT2LMHeadModel", "GPT2Config", n_embd=64, n_layer=2, n_head=4, vocab_size=VOCABULARY,
            n_positions=512, bos_token_id=1, eos_token_id=2,
        )
    ),
    "llama": Model(plain("LlamaForCausalLM", "LlamaConfig", **TEXT, **GROUPED)),
    "mistral": Model(
        plain("MistralForCausalLM", "MistralConfig", **TEXT, **GROUPED, sliding_window=6)
    ),
    "gemma3": Model(
        plain("Gemma3ForCausalLM", "Gemma3TextConfig", **GEMMA, tie_word_embeddings=False)
    ),
    "opt": Model(
        plain(
            "OPTForCausalLM", "OPTConfig", **LAYERS, hidden_size=64, ffn_dim=128,
            vocab_size=VOCABULARY, **POSITIONS,
        )
    ),
    "gpt-neox": Model(plain("GPTNeoXForCausalLM", "GPTNeoXConfig", **TEXT)),
    "bart": Model(
        plain("BartForConditionalGeneration", "BartConfig", **{**BOTH, **POSITIONS}), TRANSLATION
    ),
    "t5": Model(
        plain(
            "T5ForConditionalGeneration", "T5Config", **T5, decoder_start_token_id=0,
            pad_token_id=0, eos_token_id=1, tie_word_embeddings=False,
        ),
        TRANSLATION,
    ),
    "whisper": Model(
        plain("WhisperForConditionalGeneration", "WhisperConfig", **WHISPER),
        "automatic-speech-recognition",
    ),
    "marian": Model(
        plain(
            "MarianMTModel", "MarianConfig", **{**BOTH, **POSITIONS}, **SPECIAL,
            decoder_start_token_id=0,
        ),
        TRANSLATION,
    ),
}  # fmt: skip


def built(name: str, seed: int = 0) -> Any:
    """A model with weights by which the best next token differs from place to place."""
    torch.manual_seed(seed)
    model: Any = MODELS[name].build("sdpa").eval()
    learned = [weight for weight in model.parameters() if weight.requires_grad]  # others are tables
    for weight in learned:
        weight.requires_grad_(False)
        if weight.dim() > 1 and (spread := float(weight.std())) > 0:
            weight.mul_(min(max(spread, 0.12), 0.3) / spread)
        elif weight.dim() == 1:
            weight.add_(torch.randn_like(weight), alpha=0.1)
    for key in ("bos_token_id", "eos_token_id", "forced_eos_token_id"):
        setattr(model.generation_config, key, None)
    model.generation_config.pad_token_id = 0
    return model


def artifact(name: str, folder: Path, model: Any, exporter: str = "") -> Path:
    """An artifact folder of a model, as the front end writes it before passes run."""
    kind = MODELS[name]
    way = Way(exporter or kind.exporter, "sdpa")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Transformers renames arguments from release to release
        parts = parts_of(copy.deepcopy(model), TASKS[kind.task])  # a hook stays on it
        for part in parts:
            export(part.module, part.make(TRACED), part.outputs, folder / f"{part.name}.onnx", way)
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    files = {part.name: f"{part.name}.onnx" for part in parts}
    content = {"burnish": "test", "schema": 1, "task": kind.task, "models": files}
    (folder / MANIFEST).write_text(json.dumps(content))
    return folder


class Positioned(torch.nn.Module):
    """A decoder that is told its positions and gives all logits, as Optimum exports it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, *past: torch.Tensor
    ) -> Any:
        result = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True,
            past_key_values=cache_of(past),
        )  # fmt: skip
        return (result.logits, *caches_of(result.past_key_values))


def foreign(folder: Path, model: Any) -> Path:
    """A folder with a decoder by Optimum's names, and nothing else."""
    (part,) = parts_of(copy.deepcopy(model), TASKS["text-generation"])
    sample = part.make(TRACED)
    sample.add("position_ids", sample.values["input_ids"] * 0, sample.axes["input_ids"])
    names = ["input_ids", "attention_mask", "position_ids"]
    names += [name for name in sample.values if name.startswith("past")]
    sample.values = {name: sample.values[name] for name in names}
    sample.axes = {name: sample.axes[name] for name in names}
    way = Way(TORCHSCRIPT, "sdpa")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export(Positioned(model), sample, part.outputs, folder / "model.onnx", way)
    return folder


def tokenizer() -> Tokenizer:
    """Byte-level pairs, so that characters beyond ASCII are several tokens; no added tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<pad>", "<s>", "</s>", "__fr__", "deu_Latn", ">>nld<<"],
    )  # fmt: skip
    made.train_from_iterator(["the model reads the text and the text goes on"] * 3, trainer)
    return made


def prompts(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """Random tokens, none of them special."""
    random = np.random.default_rng(seed)
    return [random.integers(5, VOCABULARY, length).tolist() for length in lengths]


def reference(model: Any, rows: list[list[int]], **settings: Any) -> list[list[int]]:
    """What PyTorch generates for a batch: new tokens up to the one that ends a text."""
    pair, longest = model.config.is_encoder_decoder, max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        where = slice(0, len(row)) if pair else slice(longest - len(row), longest)
        ids[place, where], mask[place, where] = torch.tensor(row), 1
    settings = {"do_sample": False, "pad_token_id": 0, **settings}
    with torch.no_grad():
        result = model.generate(input_ids=ids, attention_mask=mask, **settings)
    new = result[:, 1 if pair else longest :].tolist()
    return [up_to(row, settings.get("eos_token_id") or []) for row in new]


def up_to(row: list[int], ends: Sequence[int]) -> list[int]:
    """Tokens up to the first of `ends`, that included."""
    place = next((index for index, token in enumerate(row) if token in ends), len(row))
    return row[: place + 1]
