"""Weights in 4 and 8 bits of a causal model that this script trains: size, perplexity, logits.

    python benchmarks/precision/causal.py FOLDER --text DATA [--minutes 15]

`DATA` holds `train.*.gz` and `val.*.gz`, a sentence a line (Multi30k). Where `FOLDER` lacks it, a
Llama-shaped model of 5 million parameters with tied embeddings is trained for so long, and exported
by dynamo. Then `optimize --int4` runs on it with and without data, and ONNX Runtime's
`matmul_nbits_quantizer` (round to nearest, and HQQ), all with blocks of 32. Perplexity and the mean
divergence of the next token's distribution from that of float32 are those of sentences held out of
training; the calibration is of training sentences.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

import exporting

OPTIMIZE = str(Path(sys.executable).with_name("optimize"))
VOCABULARY, LENGTH, BATCH = 8000, 64, 48
END = "<end>"
HELD, CALIBRATION, FEEDS = 1000, 1024, 16
SPREAD = 7
"""Only every so many of the held-out sentences are taken, so that all languages are there."""

CONFIG = {
    "hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 5, "num_attention_heads": 8,
    "num_key_value_heads": 4, "vocab_size": VOCABULARY, "tie_word_embeddings": True,
    "max_position_embeddings": 256, "use_cache": False, "attn_implementation": "sdpa",
}  # fmt: skip


def sentences(folder: Path, part: str) -> list[str]:
    """All sentences of a part, language after language."""
    found: list[str] = []
    for file in sorted(folder.glob(f"{part}.*.gz")):
        with gzip.open(file, "rt", encoding="utf-8") as stream:
            found += [line.strip() for line in stream if line.strip()]
    return found


def tokenizer_of(path: Path, texts: list[str]) -> Tokenizer:
    """A byte pair encoding of the texts, trained where the file is missing."""
    if not path.exists():
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet,
            show_progress=False,
        )  # fmt: skip
        made.train_from_iterator(texts, trainer)
        made.save(str(path))
    return Tokenizer.from_file(str(path))


def rows_of(texts: list[str], tokenizer: Tokenizer) -> np.ndarray:
    """The texts in random order as rows of `LENGTH` tokens, one after the other."""
    end = tokenizer.token_to_id(END)
    order = np.random.default_rng(0).permutation(len(texts))
    stream = [i for row in order for i in (*tokenizer.encode(texts[row]).ids, end)]
    return np.array(stream[: len(stream) // LENGTH * LENGTH]).reshape(-1, LENGTH)


def train(texts: list[str], tokenizer: Tokenizer, minutes: float) -> LlamaForCausalLM:
    """A model trained for so long on rows of `LENGTH` tokens."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**CONFIG))
    rows = torch.tensor(rows_of(texts, tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05, betas=(0.9, 0.95))
    start, step = time.monotonic(), 0
    while (used := (time.monotonic() - start) / 60 / minutes) < 1:
        picked = rows[torch.randint(0, len(rows), (BATCH,))]
        rate = 2e-3 * min(1.0, step / 100) * (0.05 + 0.95 * math.cos(used * math.pi / 2) ** 2)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = model(input_ids=picked, labels=picked).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            print(f"step {step}, {used:.0%}: loss {loss.item():.3f}", file=sys.stderr, flush=True)
    return model.eval()


def prepared(folder: Path, data: Path, minutes: float) -> tuple[Path, Tokenizer]:
    """The exported model and its tokenizer, made where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = sentences(data, "train")
    tokenizer = tokenizer_of(folder / "tokenizer.json", texts)
    path = folder / "causal.onnx"
    if not path.exists():
        weights = folder / "causal.pt"
        if not weights.exists():
            torch.save(train(texts, tokenizer, minutes).state_dict(), weights)
        model = LlamaForCausalLM(LlamaConfig(**CONFIG)).eval()
        model.load_state_dict(torch.load(weights))
        ids = torch.randint(3, VOCABULARY, (2, 12))
        exporting.export(model, {"input_ids": (ids, exporting.ROWS)}, path, "dynamo", 20)
    rows = rows_of(texts[:: len(texts) // CALIBRATION], tokenizer)
    feeds = [json.dumps({"input_ids": part.tolist()}) for part in np.array_split(rows, FEEDS)]
    (folder / "calibration.jsonl").write_text("\n".join(feeds))
    return path, tokenizer


def logits(path: Path, rows: list[np.ndarray]) -> list[np.ndarray]:
    """Log probabilities of each next token, a sentence an array [length, vocabulary]."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = []
    for ids in rows:
        scores = session.run(None, {"input_ids": ids[None]})[0][0].astype(np.float64)
        scores -= scores.max(axis=-1, keepdims=True)
        found.append(scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True)))
    return found


def quality(rows: list[np.ndarray], exact: list[np.ndarray], other: list[np.ndarray]) -> str:
    """Perplexity, mean divergence from the exact distributions, and agreement of first choices."""
    losses, divergences, same = [], [], []
    for ids, first, second in zip(rows, exact, other, strict=True):
        losses.append(-second[np.arange(len(ids) - 1), ids[1:]])
        divergences.append((np.exp(first) * (first - second)).sum(axis=-1))
        same.append(first.argmax(-1) == second.argmax(-1))
    perplexity = math.exp(np.concatenate(losses).mean())
    divergence, agreement = np.concatenate(divergences).mean(), np.concatenate(same).mean()
    return f"{perplexity:.3f} | {divergence:.5f} | {agreement:.4f}"


def peer(source: Path, target: Path, kind: str) -> None:
    """ONNX Runtime's quantizer of weights in blocks."""
    from onnxruntime.quantization import matmul_nbits_quantizer as quantizer

    if kind == "HQQ":
        config = quantizer.HQQWeightOnlyQuantConfig(
            block_size=32, bits=4, op_types_to_quantize=("MatMul",)
        )
    else:
        config = quantizer.DefaultWeightOnlyQuantConfig(
            block_size=32, is_symmetric=False, accuracy_level=4, bits=4,
            op_types_to_quantize=("MatMul", "Gather"),
        )  # fmt: skip
    made = quantizer.MatMulNBitsQuantizer(onnx.load(source), algo_config=config)
    made.process()
    made.model.save_model_to_file(str(target))


def burnish(source: Path, target: Path, *options: str) -> None:
    """Run `optimize`; the budget is no matter here."""
    command = [OPTIMIZE, str(source), "-o", str(target), "--max-drop", "1", "--force", "-q"]
    subprocess.run([*command, *options], check=True)


def main() -> None:
    """Train, export, quantize, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15.0)
    options = parser.parse_args()
    source, tokenizer = prepared(options.folder, options.text, options.minutes)
    held = sentences(options.text, "val")[::SPREAD][:HELD]
    rows = [np.array(tokenizer.encode(text).ids) for text in held]
    exact = logits(source, rows)
    data = ["--data", str(options.folder / "calibration.jsonl")]
    ways = {
        "burnish --int4": lambda path: burnish(source, path, "--int4"),
        "burnish --int4 --data": lambda path: burnish(source, path, "--int4", *data),
        "burnish --int4 --keep-embeddings": lambda path: burnish(
            source, path, "--int4", "--keep-embeddings"
        ),
        "burnish --int4 --keep-embeddings --data": lambda path: burnish(
            source, path, "--int4", "--keep-embeddings", *data
        ),
        "burnish --precision int8-weights": lambda path: burnish(
            source, path, "--precision", "int8-weights"
        ),
        "matmul_nbits_quantizer, 4 bits": lambda path: peer(source, path, "RTN"),
        "matmul_nbits_quantizer, 4 bits, HQQ": lambda path: peer(source, path, "HQQ"),
    }
    print(f"{len(rows)} held-out sentences, {sum(map(len, rows))} tokens\n")
    print("| weights | size | perplexity | divergence | first choice kept |\n|---|---|---|---|---|")
    print(f"| float32 | 1.000 | {quality(rows, exact, exact)} |")
    for index, (name, make) in enumerate(ways.items()):
        target = options.folder / f"causal.{index}.onnx"
        make(target)
        share = target.stat().st_size / source.stat().st_size
        print(
            f"| {name} | {share:.3f} | {quality(rows, exact, logits(target, rows))} |", flush=True
        )


if __name__ == "__main__":
    main()
