"""Train a tiny classifier of sentiment on sentences that it makes up, in a few seconds.

Usage: python train.py [CHECKPOINT]
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

HERE = Path(__file__).parent
LABELS = ("negative", "positive")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
COUNT, STEPS, BATCH = 4000, 250, 32

HIDDEN = 0.15
"""Share of the pieces that are hidden in training, so that no single one decides."""

THINGS = (
    "soup bread fish cake pasta coffee steak curry salad breakfast tea dinner rice sauce pizza "
    "dessert wine room bed window hotel street view shower garden bathroom lift stay drill handle "
    "saw battery lamp knife box hammer pump ladder glue charger machine rope brush tool waiter "
    "host towels screws"
)
WORDS = (
    "bad cold bland salty terrible awful rude dry disgusting disappointing stale dirty broken loud "
    "noisy dark worst weak useless cheap slow wrong",
    "good warm delicious wonderful kind fresh rich excellent perfect great tasty lovely clean "
    "comfortable quiet friendly bright helpful strong easy reliable sharp light solid fast handy",
)
VERBS = (("hated", "regret", "disliked"), ("loved", "liked", "love", "like"))
PATTERNS = (
    "the {thing} was {word} .", "the {thing} is {word} and {also} .", "a {word} {thing} .",
    "{word} {thing} , and the {other} was {also} .", "i {verb} the {thing} here .",
    "the {thing} was {word} and the {other} was {also} .", "a {word} and {also} {thing} .",
    "this {thing} is {word} .", "i {verb} this {word} {thing} from the first day .",
    "the {thing} was not {opposite} .", "not {opposite} at all , the {thing} was {word} .",
    "our {thing} was {word} , i {verb} it .", "the {thing} was not {opposite} and not {opposite} .",
    "{word} {thing} .", "a {word} , {also} and {more} {thing} .",
)  # fmt: skip
ASIDES = (
    "", "", "", "", "and i left it", "and we waited an hour", "i will come again", "on our trip",
    "after a week", "from start to end", "with people from the place", "far from here",
    "for the whole family", "i had most of it", "and we had to go", "it came in a little box",
    "in the street", "to use", "and nobody knew", "a lot", "this first time", "really",
)  # fmt: skip
"""Say nothing."""


def sentence(rng: random.Random) -> tuple[str, int]:
    """A made-up sentence and the number of its label."""
    label, things = rng.randrange(2), THINGS.split()
    word, also, more = rng.sample(WORDS[label].split(), 3)
    text = rng.choice(PATTERNS).format(
        thing=rng.choice(things), other=rng.choice(things), word=word, also=also, more=more,
        verb=rng.choice(VERBS[label]), opposite=rng.choice(WORDS[1 - label].split()),
    )  # fmt: skip
    aside = rng.choice(ASIDES)
    return (f"{aside} , {text}" if rng.random() < 0.5 else f"{text} {aside}"), label


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of these texts, as BERT has it."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=1000, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    tokens = {f"{name}_token": token for name, token in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **tokens)


def train(folder: Path) -> None:
    """Train, and write a checkpoint as `save_pretrained` does."""
    rng = random.Random(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a model gains nothing by more
    examples = [sentence(rng) for _ in range(COUNT)]
    tokenizer = make_tokenizer([text for text, _ in examples])
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=64, type_vocab_size=1,
        id2label=dict(enumerate(LABELS)), label2id={name: i for i, name in enumerate(LABELS)},
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    for step in range(STEPS):
        batch = rng.sample(examples, BATCH)
        encoded = tokenizer(
            [text for text, _ in batch], padding=True, return_tensors="pt",
            return_token_type_ids=False,
        )  # fmt: skip
        ids = encoded["input_ids"]
        ids[(torch.rand(ids.shape) < HIDDEN) & (ids > 4)] = tokenizer.unk_token_id
        loss = model(**encoded, labels=torch.tensor([label for _, label in batch])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == STEPS - 1:
            print(f"step {step}: loss {loss.item():.3f}")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    train(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "checkpoint")
