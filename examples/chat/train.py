"""Train a small causal model that holds conversations.

    python train.py [CHECKPOINT] [--data FOLDER]

Without data it makes up conversations (`conversations.py`) and takes some seconds. `FOLDER` holds
`train.jsonl`: `messages`, of a `role` and a `content` each, a line.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from conversations import TEMPLATE, conversation, read, written

HERE = Path(__file__).parent
PAD, END = "<pad>", "<|end|>"
SPECIAL = [PAD, END, "<|user|>", "<|assistant|>", "<|system|>"]
COUNT, PEAK, WARMUP, LONGEST = 4000, 4e-3, 0.1, 512

INITIAL = 0.1
"""Standard deviation of weights at first: with 0.02, Llama's own, so few steps do not suffice."""


def make_tokenizer(texts: list[str], pieces: int) -> Tokenizer:
    """Byte pairs over words, as GPT-2 has them; roles and ends are tokens of their own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=pieces, special_tokens=[AddedToken(name, special=True) for name in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def tensors(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    """Rows as the model takes them: all tokens but padding are to be learned."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [-100] * (longest - len(row)) for row in rows])
    mask = ids >= 0
    return {"input_ids": ids.clamp(min=0), "attention_mask": mask.long(), "labels": ids}


def train(model: LlamaForCausalLM, rows: list[list[int]], steps: int, batch: int) -> None:
    """So many steps, at a rate that rises and falls."""
    draw = random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK, total_steps=steps, pct_start=WARMUP
    )
    for step in range(steps):
        loss = model(**tensors(draw.sample(rows, min(batch, len(rows))))).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


def main() -> None:
    """Tokenizer, model, training, checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=HERE / "checkpoint")
    parser.add_argument("--data", type=Path, help="folder with train.jsonl")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--pieces", type=int, default=700)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a model gains nothing by more
    if arguments.data:
        conversations = read(arguments.data / "train.jsonl")
    else:
        rng = random.Random(0)
        conversations = [conversation(rng) for _ in range(COUNT)]
    texts = [message["content"] for messages in conversations for message in messages]
    tokenizer = make_tokenizer(texts, arguments.pieces)
    heads = arguments.width // 16
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=arguments.width,
        intermediate_size=3 * arguments.width, num_hidden_layers=arguments.layers,
        num_attention_heads=heads, num_key_value_heads=max(1, heads // 2),
        max_position_embeddings=LONGEST, tie_word_embeddings=True, pad_token_id=0,
        bos_token_id=None, eos_token_id=1, initializer_range=INITIAL,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    rows = [tokenizer.encode(written(messages)).ids[:LONGEST] for messages in conversations]
    train(model, rows, arguments.steps, arguments.batch)
    model.generation_config.max_new_tokens = 64
    model.eval().save_pretrained(arguments.checkpoint)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, model_max_length=LONGEST,
        chat_template=TEMPLATE,
    )  # fmt: skip
    fast.save_pretrained(arguments.checkpoint)


if __name__ == "__main__":
    main()
