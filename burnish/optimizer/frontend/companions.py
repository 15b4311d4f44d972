"""What lies beside the weights: tokenizer, image processor, settings of generation, labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from burnish.optimizer.configurations import labels_of
from burnish.optimizer.errors import first_line
from burnish.optimizer.frontend.checkpoint import CONFIG, Checkpoint

TOKENIZER = "tokenizer.json"
KEPT = (
    CONFIG, TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "chat_template.jinja", "sentence_bert_config.json",
)  # fmt: skip
"""Small files that belong to an artifact as they are."""

SOURCES = ("vocab.txt", "vocab.json", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
"""What a tokenizer without a `tokenizer.json` is made of."""

MODULES = "modules.json"
"""Steps of a model of sentence-transformers."""

STEPS = ("Transformer", "Pooling", "Normalize")
"""Those that an artifact does."""

POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls",
            "pooling_mode_max_tokens": "max", "pooling_mode_lasttoken": "last"}  # fmt: skip


def copied(checkpoint: Checkpoint, folder: Path, warn: list[str]) -> dict[str, Any]:
    """Copy what an artifact needs beside its graphs; what of it the manifest tells."""
    for name in KEPT:
        if (checkpoint.folder / name).is_file():
            shutil.copyfile(checkpoint.folder / name, folder / name)
    if not (folder / TOKENIZER).exists():
        _make_tokenizer(checkpoint, folder, warn)
    told: dict[str, Any] = {}
    if labels := labels_of(checkpoint.config):
        told["labels"] = labels
    if pooling := _pooling(checkpoint.folder, warn):
        told["pooling"] = pooling
    return told


def _make_tokenizer(checkpoint: Checkpoint, folder: Path, warn: list[str]) -> None:
    """Write the `tokenizer.json` that stands for older files of a vocabulary."""
    if not any((checkpoint.folder / name).exists() for name in SOURCES):
        return
    import transformers

    try:
        made = transformers.AutoTokenizer.from_pretrained(checkpoint.folder, local_files_only=True)
        made.backend_tokenizer.save(str(folder / TOKENIZER))
    except Exception as error:  # what is missing or odd differs by kind of tokenizer
        warn.append(f"its tokenizer could not be read: {first_line(error)}")


def _pooling(folder: Path, warn: list[str]) -> dict[str, Any]:
    """How the vectors of tokens become one, as sentence-transformers keeps it.

    Warns where that takes more than a pooling of one kind, which no artifact does: it names that,
    so that it is not opened for vectors.
    """
    try:
        modules = json.loads((folder / MODULES).read_text())
        kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
        where = next(module["path"] for module in modules if module["type"].endswith("Pooling"))
        config = json.loads((folder / where / CONFIG).read_text())
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return {}
    modes = [key for key, value in config.items() if key.startswith("pooling_mode") and value]
    steps = [kind for kind in kinds if kind not in STEPS]
    if steps or len(modes) != 1 or modes[0] not in POOLINGS:
        told = ", ".join([*steps, *modes]) or "nothing known"
        warn.append(f"its vectors of texts are made by {told}, which the artifact does not do")
        return {"mode": told, "normalize": "Normalize" in kinds}
    return {"mode": POOLINGS[modes[0]], "normalize": "Normalize" in kinds}
