"""Train a small encoder-decoder that translates English into German, French and Czech.

    python train.py DATA --output FOLDER [--minutes 20]

`DATA` is a folder with `train.en.gz`, `train.de.gz` and so on, parallel line by line, or a .jsonl
file such as `sample.jsonl`. `FOLDER` becomes a checkpoint: `optimize FOLDER --int8` takes it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import M2M100Config, M2M100ForConditionalGeneration

from translation_data import END, PAD, PIECES, Encoded, batches, encode, make_tokenizer, read

PEAK, WARMUP = 2e-3, 0.08
"""Rate of learning at its highest, and the share of the time until then."""

SMOOTHING = 0.1


def make_model(tokenizer: Tokenizer, width: int, layers: int) -> M2M100ForConditionalGeneration:
    """A pre-norm Transformer whose three tables of tokens are one."""
    pad, end = tokenizer.token_to_id(PAD), tokenizer.token_to_id(END)
    config = M2M100Config(
        vocab_size=tokenizer.get_vocab_size(), d_model=width, encoder_layers=layers,
        decoder_layers=layers, encoder_attention_heads=max(1, width // 32),
        decoder_attention_heads=max(1, width // 32), encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width, max_position_embeddings=256, dropout=0.1,
        attention_dropout=0.0, activation_dropout=0.0, encoder_layerdrop=0.0,
        decoder_layerdrop=0.0, pad_token_id=pad, bos_token_id=end, eos_token_id=end,
        decoder_start_token_id=end, scale_embedding=True,
    )  # fmt: skip
    return M2M100ForConditionalGeneration(config)


def tensors(batch: list[Encoded], pad: int, start: int) -> dict[str, torch.Tensor]:
    """A batch as the model takes it; the decoder is given what it has to say, one place later."""

    def padded(rows: list[list[int]], fill: int) -> torch.Tensor:
        longest = max(map(len, rows))
        return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])

    texts = padded([text for text, _ in batch], pad)
    return {
        "input_ids": texts,
        "attention_mask": (texts != pad).long(),
        "decoder_input_ids": padded([[start, *target[:-1]] for _, target in batch], pad),
        "labels": padded([target for _, target in batch], -100),
    }


def train(
    model: M2M100ForConditionalGeneration, pairs: list[Encoded], seconds: float, tokens: int
) -> int:
    """Train for so long; the passes over the data."""
    draw, start, passes = random.Random(0), time.monotonic(), 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.98), weight_decay=0.01)
    pad, end = model.config.pad_token_id, model.config.eos_token_id
    average = {name: value.detach().clone() for name, value in model.named_parameters()}
    model.train()
    while True:
        passes += 1
        for batch in batches(pairs, tokens, draw):
            done = (time.monotonic() - start) / seconds
            if done >= 1.0:
                model.load_state_dict(average, strict=False)
                return passes
            rise, fall = done / WARMUP, 0.5 + 0.5 * math.cos(math.pi * done)
            for group in optimizer.param_groups:
                group["lr"] = PEAK * min(1.0, rise) * max(fall, 0.02)
            values = tensors(batch, pad, end)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                labels = values.pop("labels")
                logits = model(**values, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), labels.flatten(), label_smoothing=SMOOTHING
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            keep = 0.995 if done > 0.3 else 0.9
            with torch.no_grad():
                for name, value in model.named_parameters():
                    average[name].lerp_(value, 1 - keep)


def main() -> None:
    """Tokenizer, model, training, checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--pieces", type=int, default=PIECES)
    parser.add_argument("--tokens", type=int, default=4000, help="of a batch")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    pairs = read(arguments.data)
    tokenizer = make_tokenizer(pairs, arguments.pieces)
    model = make_model(tokenizer, arguments.width, arguments.layers)
    seconds = 60 * arguments.minutes
    passes = train(model, encode(tokenizer, pairs), seconds, arguments.tokens)
    model.generation_config.max_new_tokens = 64
    model.eval().save_pretrained(arguments.output)
    tokenizer.save(str(arguments.output / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": END}
    (arguments.output / "tokenizer_config.json").write_text(json.dumps(kind) + "\n")
    count = sum(weight.numel() for weight in model.parameters())
    print(f"{count:,} parameters, {len(pairs):,} pairs, {passes} passes begun")


if __name__ == "__main__":
    main()
