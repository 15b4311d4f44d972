"""Train a small encoder that finds the answer to a question in a text.

    python train.py [CHECKPOINT] [--data FOLDER]

Without data it makes up invitations (`invitations.py`) and takes some seconds. `FOLDER` holds
`train.jsonl`: `question`, `context` and `answers` a line, the first of which stands in the context.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForQuestionAnswering, PreTrainedTokenizerFast

from invitations import Asked, invitation

HERE = Path(__file__).parent
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNKNOWN = 0, 1
COUNT, PEAK, WARMUP, LONGEST = 4000, 4e-3, 0.1, 256

INITIAL = 0.1
"""Standard deviation of weights at first: with 0.02, BERT's own, so few steps do not suffice."""

HIDDEN = 0.15
"""Share of the pieces that are hidden in training, so that what stands around an answer counts."""


class Row(NamedTuple):
    """Pieces of a question and its context, the text that each is of, and the answer's ends."""

    ids: list[int]
    types: list[int]
    start: int
    end: int


def read(folder: Path | None) -> list[Asked]:
    """Questions of a folder, or made up."""
    if folder is None:
        rng = random.Random(0)
        return [invitation(rng) for _ in range(COUNT)]
    lines = (folder / "train.jsonl").read_text("utf-8").splitlines()
    rows = (json.loads(line) for line in lines)
    return [Asked(row["question"], row["context"], row["answers"][0]) for row in rows]


def make_tokenizer(texts: list[str], pieces: int) -> Tokenizer:
    """A cased WordPiece tokenizer of these texts; a context is the second text."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=pieces, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )  # fmt: skip
    return tokenizer


def encode(tokenizer: Tokenizer, asked: list[Asked]) -> list[Row]:
    """Questions as pieces; those whose answer is beyond the longest text are left out."""
    tokenizer.enable_truncation(LONGEST, strategy="only_second")
    found = []
    encodings = tokenizer.encode_batch([(item.question, item.context) for item in asked])
    for item, encoding in zip(asked, encodings, strict=True):
        begin = item.context.find(item.answer)
        end = begin + len(item.answer)
        inside = [
            place
            for place, (first, last) in enumerate(encoding.offsets)
            if encoding.sequence_ids[place] == 1 and begin <= first and last <= end
        ]
        if begin >= 0 and inside:
            found.append(Row(encoding.ids, encoding.type_ids, inside[0], inside[-1]))
    tokenizer.no_truncation()
    return found


def tensors(rows: list[Row]) -> dict[str, torch.Tensor]:
    """Rows as the model takes them, some pieces hidden."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [PAD] * (longest - len(row.ids)) for row in rows])
    types = torch.tensor([row.types + [0] * (longest - len(row.types)) for row in rows])
    mask = (ids != PAD).long()
    ids[(torch.rand(ids.shape) < HIDDEN) & (ids >= len(SPECIAL)) & (types == 1)] = UNKNOWN
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": types,
        "start_positions": torch.tensor([row.start for row in rows]),
        "end_positions": torch.tensor([row.end for row in rows]),
    }


def train(model: BertForQuestionAnswering, steps: int, draw: Callable[[], list[Row]]) -> None:
    """So many steps, at a rate that rises and falls."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK, total_steps=steps, pct_start=WARMUP
    )
    for step in range(steps):
        loss = model(**tensors(draw())).loss
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
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--pieces", type=int, default=800)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a model gains nothing by more
    asked = read(arguments.data)
    texts = [text for item in asked for text in (item.question, item.context)]
    tokenizer = make_tokenizer(texts, arguments.pieces)
    rows = encode(tokenizer, asked)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=arguments.width,
        num_hidden_layers=arguments.layers, num_attention_heads=arguments.width // 16,
        intermediate_size=2 * arguments.width, max_position_embeddings=LONGEST,
        initializer_range=INITIAL,
    )  # fmt: skip
    model = BertForQuestionAnswering(config)
    rng = random.Random(0)
    train(model, arguments.steps, lambda: rng.sample(rows, arguments.batch))
    model.save_pretrained(arguments.checkpoint)
    names = {name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    tokens = {f"{name}_token": token for name, token in names.items()}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=LONGEST, **tokens)
    fast.save_pretrained(arguments.checkpoint)


if __name__ == "__main__":
    main()
