"""Train a small encoder-decoder that writes summaries.

    python train.py [CHECKPOINT] [--data FOLDER]

Without data it makes up notices (`reports.py`) and takes some seconds. `FOLDER` holds
`train.jsonl`, a text and its summary a line.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BartConfig, BartForConditionalGeneration

from reports import report

HERE = Path(__file__).parent
PAD, END, UNKNOWN = range(3)
SPECIAL = ["<pad>", "</s>", "<unk>"]
COUNT, PEAK, WARMUP = 4000, 2e-3, 0.1

INITIAL = 0.1
"""Standard deviation of weights at first: with 0.02, BART's own, copying takes long."""

HIDDEN = 0.1
"""Share of a text's pieces that are hidden in training, so that single ones do not decide."""

Rows = list[tuple[list[int], list[int]]]
"""Pieces of texts and of their summaries."""


def read(folder: Path | None) -> list[tuple[str, str]]:
    """Texts and summaries, of a folder or made up."""
    if folder is None:
        rng = random.Random(0)
        return [report(rng) for _ in range(COUNT)]
    lines = (folder / "train.jsonl").read_text("utf-8").splitlines()
    return [(row["text"], row["summary"]) for row in map(json.loads, lines)]


def make_tokenizer(texts: list[str], pieces: int) -> Tokenizer:
    """Byte pairs over whole words with a mark in front; each text ends with a token of its own."""
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[UNKNOWN]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=pieces, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {SPECIAL[END]}", special_tokens=[(SPECIAL[END], END)]
    )
    return tokenizer


def make_model(pieces: int, width: int, layers: int) -> BartForConditionalGeneration:
    """A model of BART's kind."""
    config = BartConfig(
        vocab_size=pieces, d_model=width, encoder_layers=layers, decoder_layers=layers,
        encoder_attention_heads=width // 16, decoder_attention_heads=width // 16,
        encoder_ffn_dim=2 * width, decoder_ffn_dim=2 * width, max_position_embeddings=512,
        dropout=0.0, init_std=INITIAL, pad_token_id=PAD, bos_token_id=END, eos_token_id=END,
        decoder_start_token_id=END, forced_eos_token_id=None,
    )  # fmt: skip
    return BartForConditionalGeneration(config)


def padded(rows: list[list[int]], fill: int) -> torch.Tensor:
    """Rows of one length."""
    longest = max(map(len, rows))
    return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])


def train(model: BartForConditionalGeneration, rows: Rows, steps: int, batch: int) -> None:
    """So many steps, at a rate that rises and falls."""
    draw = random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK, total_steps=steps, pct_start=WARMUP
    )
    for step in range(steps):
        chosen = draw.sample(rows, min(batch, len(rows)))
        texts = padded([text for text, _ in chosen], PAD)
        mask = (texts != PAD).long()
        texts[(torch.rand(texts.shape) < HIDDEN) & (texts > UNKNOWN)] = UNKNOWN
        labels = padded([summary for _, summary in chosen], -100)
        loss = model(input_ids=texts, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


def save(model: BartForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a checkpoint as `save_pretrained` does."""
    model.generation_config.max_new_tokens = 48
    model.generation_config.forced_eos_token_id = None
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    kind = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 500,
        "pad_token": SPECIAL[PAD], "eos_token": SPECIAL[END],
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(kind) + "\n")


def main() -> None:
    """Tokenizer, model, training, checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=HERE / "checkpoint")
    parser.add_argument("--data", type=Path, help="folder with train.jsonl")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--pieces", type=int, default=800)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a model gains nothing by more
    pairs = read(arguments.data)
    tokenizer = make_tokenizer([text for pair in pairs for text in pair], arguments.pieces)
    texts, summaries = (
        [row.ids[-500:] for row in tokenizer.encode_batch(column)]
        for column in (list(side) for side in zip(*pairs, strict=True))
    )
    model = make_model(tokenizer.get_vocab_size(), arguments.width, arguments.layers)
    rows = list(zip(texts, summaries, strict=True))
    train(model, rows, arguments.steps, arguments.batch)
    save(model.eval(), tokenizer, arguments.checkpoint)


if __name__ == "__main__":
    main()
