"""Train a small encoder-decoder that translates English into German, French and Czech.

    python train.py DATA --output FOLDER [--minutes 12]

`DATA` is a folder with `train.en.gz`, `train.de.gz` and so on, parallel line by line, or a .jsonl
file such as `sample.jsonl`. `FOLDER` becomes a checkpoint: `optimize FOLDER --int8` takes it.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import M2M100Config, M2M100ForConditionalGeneration

from translation_data import (
    END,
    PAD,
    PIECES,
    Encoded,
    batches,
    encode,
    make_tokenizer,
    read,
    split,
)

PEAK, WARMUP = 4e-3, 0.04
"""Rate of learning at its highest, and the share of the time until then; it falls to zero."""

SMOOTHING, DROPOUT = 0.1, 0.05
AVERAGED = 0.99
"""How much of the running average of the weights stays in each step."""

LOOKS, PATIENCE = 12, 3
"""How often the held-back sentences are looked at, and how often they may have become worse."""

Model = M2M100ForConditionalGeneration


def make_model(tokenizer: Tokenizer, width: int, layers: tuple[int, int]) -> Model:
    """A pre-norm Transformer whose three tables of tokens are one."""
    pad, end = tokenizer.token_to_id(PAD), tokenizer.token_to_id(END)
    config = M2M100Config(
        vocab_size=tokenizer.get_vocab_size(), d_model=width, encoder_layers=layers[0],
        decoder_layers=layers[1], encoder_attention_heads=max(1, width // 32),
        decoder_attention_heads=max(1, width // 32), encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width, max_position_embeddings=256, dropout=DROPOUT,
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


def loss_of(model: Model, batch: list[Encoded], smoothing: float = 0.0) -> torch.Tensor:
    """The mean cross-entropy of a batch's target tokens, in nats."""
    values = tensors(batch, model.config.pad_token_id, model.config.eos_token_id)
    labels = values.pop("labels")
    logits = model(**values, use_cache=False).logits
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), label_smoothing=smoothing
    )


def optimizers(model: Model) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the table of tokens and all else."""
    own = dict(model.named_parameters())
    matrices = {name for name, value in own.items() if value.dim() == 2 and ".layers." in name}
    others = [value for name, value in own.items() if name not in matrices]
    return [
        torch.optim.Muon(
            [own[name] for name in matrices], lr=PEAK, weight_decay=0.01,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(others, lr=PEAK, betas=(0.9, 0.98), weight_decay=0.0),
    ]  # fmt: skip


class Development:
    """Sentences that are held back: the weights that do best on them are kept."""

    def __init__(self, pairs: Sequence[Encoded], tokens: int) -> None:
        """Make batches of so many target tokens."""
        self.batches = list(batches(pairs, tokens, random.Random(0))) if pairs else []
        self.best, self.worse = float("inf"), 0
        self.weights: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def look(self, model: Model) -> float:
        """The loss of a token of these sentences; keeps the weights where it is the least."""
        model.eval()
        counts = [sum(len(target) for _, target in batch) for batch in self.batches]
        losses = [float(loss_of(model, batch)) for batch in self.batches]
        total = sum(loss * count for loss, count in zip(losses, counts, strict=True))
        loss = total / max(sum(counts), 1)
        if loss < self.best or not self.batches:
            self.best, self.worse = loss, 0
            self.weights = copy.deepcopy(model.state_dict())
        else:
            self.worse += 1
        return loss


def train(
    model: Model, pairs: list[Encoded], held: Development, seconds: float, tokens: int
) -> int:
    """Train for so long, or until held-back sentences become worse; the passes that were begun."""
    draw, start, passes, looked, steps = random.Random(0), time.monotonic(), 0, 0, 0
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGED))
    both = optimizers(model)
    done = 0.0
    while done < 1.0 and held.worse < PATIENCE:
        passes += 1
        for batch in batches(pairs, tokens, draw):
            done = min((time.monotonic() - start) / seconds, 1.0)
            if done >= (looked + 1) / LOOKS:
                looked = int(done * LOOKS)
                loss = held.look(average.module)
                if held.batches:
                    print(f"{steps} steps, pass {passes}: held-back loss {loss:.3f}", flush=True)
                if done >= 1.0 or held.worse >= PATIENCE:
                    break
            rate = PEAK * min(done / WARMUP, (1.0 - done) / (1.0 - WARMUP))
            for optimizer in both:
                for group in optimizer.param_groups:
                    group["lr"] = rate
            model.train()
            model.zero_grad(set_to_none=True)
            loss_of(model, batch, SMOOTHING).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in both:
                optimizer.step()
            average.update_parameters(model)
            steps += 1
    model.load_state_dict(held.weights)
    return passes


def save(model: Model, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a checkpoint as `save_pretrained` does."""
    model.generation_config.max_new_tokens = 64
    model.eval().save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind) + "\n")


def main() -> None:
    """Tokenizer, model, training, checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3, help="of the encoder")
    parser.add_argument("--decoder-layers", type=int, default=2)
    parser.add_argument("--pieces", type=int, default=PIECES)
    parser.add_argument("--tokens", type=int, default=1000, help="of a batch")
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's own choice")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    pairs, held_back = split(read(arguments.data))
    tokenizer = make_tokenizer(pairs, arguments.pieces)
    model = make_model(tokenizer, arguments.width, (arguments.layers, arguments.decoder_layers))
    held = Development(encode(tokenizer, held_back), arguments.tokens)
    seconds = 60 * arguments.minutes
    passes = train(model, encode(tokenizer, pairs), held, seconds, arguments.tokens)
    save(model, tokenizer, arguments.output)
    count = sum(weight.numel() for weight in model.parameters())
    spent = time.process_time() / 60
    print(f"{count:,} parameters, {len(pairs):,} pairs, {passes} passes begun")
    print(f"{spent:.1f} minutes of processor time")


if __name__ == "__main__":
    main()
