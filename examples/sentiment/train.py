"""Train a small classifier of sentiment in several languages.

    python train.py [CHECKPOINT] [--data FOLDER]

Without data it makes up sentences in three languages (`phrases.py`) and takes some seconds.
`FOLDER` holds `train.jsonl`, a text and its label a line.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from phrases import sentence

HERE = Path(__file__).parent
LABELS = ["negative", "positive"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
COUNT, BATCH, LONGEST = 8000, 32, 128

HIDDEN = 0.15
"""Share of the pieces that are hidden in training, so that no single one decides."""


def read(folder: Path | None) -> tuple[list[str], list[tuple[str, int]]]:
    """Labels, and texts with the number of theirs, of a folder or made up."""
    if folder is None:
        rng = random.Random(0)
        return LABELS, [sentence(rng) for _ in range(COUNT)]
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text("utf-8").splitlines()]
    labels = sorted({row["label"] for row in rows})
    return labels, [(row["text"], labels.index(row["label"])) for row in rows]


def make_tokenizer(texts: list[str], pieces: int) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of these texts, as BERT has it."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=pieces, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    tokens = {f"{name}_token": token for name, token in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=LONGEST, **tokens)


def train(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    examples: list[tuple[str, int]],
    steps: int,
) -> None:
    """So many steps."""
    rng = random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    for step in range(steps):
        batch = rng.sample(examples, BATCH)
        encoded = tokenizer(
            [text for text, _ in batch], padding=True, truncation=True, return_tensors="pt",
            return_token_type_ids=False,
        )  # fmt: skip
        ids = encoded["input_ids"]
        ids[(torch.rand(ids.shape) < HIDDEN) & (ids > 4)] = tokenizer.unk_token_id
        loss = model(**encoded, labels=torch.tensor([label for _, label in batch])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


def main() -> None:
    """Tokenizer, model, training, checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=HERE / "checkpoint")
    parser.add_argument("--data", type=Path, help="folder with train.jsonl")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--pieces", type=int, default=1500)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a model gains nothing by more
    labels, examples = read(arguments.data)
    tokenizer = make_tokenizer([text for text, _ in examples], arguments.pieces)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=arguments.width,
        num_hidden_layers=arguments.layers, num_attention_heads=arguments.width // 16,
        intermediate_size=2 * arguments.width, max_position_embeddings=LONGEST, type_vocab_size=1,
        id2label=dict(enumerate(labels)), label2id={name: i for i, name in enumerate(labels)},
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    train(model, tokenizer, examples, arguments.steps)
    model.save_pretrained(arguments.checkpoint)
    tokenizer.save_pretrained(arguments.checkpoint)


if __name__ == "__main__":
    main()
