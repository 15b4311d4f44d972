"""Caches in int8 of the causal model that `causal.py` trains: their bytes, perplexity, logits.

    python benchmarks/precision/caches.py FOLDER --text DATA

exports the model of `causal.py` with its caches as inputs and outputs, runs `optimize --kv-cache
int8` on it with sentences of the training data, and reads held-out sentences token by token with
the caches handed on. Perplexity and divergence are as in `causal.py`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from causal import CALIBRATION, CONFIG, HELD, SPREAD, burnish, prepared, quality, sentences
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import exporting

LAYERS, GROUPS = CONFIG["num_hidden_layers"], CONFIG["num_key_value_heads"]
SIZE = CONFIG["hidden_size"] // CONFIG["num_attention_heads"]
NAMES = [f"past_key_values.{i}.{part}" for i in range(LAYERS) for part in ("key", "value")]
PROMPT = 4


def export(weights: Path, path: Path) -> None:
    """Write the model with its caches to `path`."""
    model = LlamaForCausalLM(LlamaConfig(**CONFIG | {"use_cache": True})).eval()
    model.load_state_dict(torch.load(weights))
    axes = {0: "batch", 2: "past"}
    inputs: exporting.Inputs = {
        "input_ids": (torch.ones(2, 3, dtype=torch.int64), exporting.ROWS),
        "attention_mask": (torch.ones(2, 8, dtype=torch.int64), {0: "batch", 1: "total"}),
        **{name: (torch.zeros(2, GROUPS, 5, SIZE), axes) for name in NAMES},
    }
    exporting.export(exporting.Cached(model), inputs, path, "dynamo", 20)


def decoded(path: Path, rows: list[np.ndarray], kind: type) -> tuple[list[np.ndarray], int]:
    """Log probabilities of each next token by sentence, and bytes of the caches at their ends."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found, held = [], 0
    for ids in rows:
        past = {name: np.zeros((1, GROUPS, 0, SIZE), kind) for name in NAMES}
        scores, read = [], 0
        for step in np.split(ids, [*range(PROMPT, len(ids))]):
            read += len(step)
            mask = np.ones((1, read), np.int64)
            feed = {"input_ids": step[None], "attention_mask": mask, **past}
            first, *grown = session.run(None, feed)
            scores.append(first[0].astype(np.float64))
            past = dict(zip(NAMES, grown, strict=True))
        held += sum(array.nbytes for array in past.values())
        rest = np.concatenate(scores)
        rest -= rest.max(axis=-1, keepdims=True)
        found.append(rest - np.log(np.exp(rest).sum(axis=-1, keepdims=True)))
    return found, held


def main() -> None:
    """Export, quantize, decode, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    options = parser.parse_args()
    folder = options.folder
    _, tokenizer = prepared(folder, options.text, 15.0)
    source, target = folder / "cached.onnx", folder / "cached.int8.onnx"
    if not source.exists():
        export(folder / "causal.pt", source)
    texts = sentences(options.text, "train")
    data = folder / "calibration.txt"
    data.write_text("\n".join(texts[:: len(texts) // CALIBRATION]), "utf-8")
    burnish(source, target, "--kv-cache", "int8", "--data", str(data), "--no-measure")
    held = sentences(options.text, "val")[::SPREAD][:HELD]
    rows = [np.array(tokenizer.encode(text).ids) for text in held]
    exact, before = decoded(source, rows, np.float32)
    other, after = decoded(target, rows, np.int8)
    print(f"{len(rows)} held-out sentences, {sum(map(len, rows))} tokens\n")
    print("| caches | bytes | perplexity | divergence | first choice kept |\n|---|---|---|---|---|")
    print(f"| float32 | 1.000 | {quality(rows, exact, exact)} |")
    print(f"| int8 | {after / before:.3f} | {quality(rows, exact, other)} |")


if __name__ == "__main__":
    main()
