"""Train a tiny encoder of sentences on pairs that it makes up, in a few seconds.

Usage: python train.py [CHECKPOINT]
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

HERE = Path(__file__).parent
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
STEPS, BATCH, TEMPERATURE = 150, 48, 0.07

SUBJECTS = (
    ("cat", "kitten", "pet"), ("train", "railway", "station"), ("bread", "loaf", "bakery"),
    ("rain", "storm", "clouds"), ("doctor", "nurse", "hospital"), ("car", "engine", "garage"),
    ("school", "teacher", "pupils"), ("garden", "flowers", "roses"), ("ship", "boat", "harbour"),
    ("book", "novel", "library"), ("money", "bank", "loan"), ("football", "match", "goal"),
    ("horse", "stable", "rider"), ("phone", "call", "number"), ("bee", "honey", "hive"),
    ("piano", "music", "concert"),
)  # fmt: skip
"""Words of one subject stand for each other."""

DEEDS = (
    ("is new", "was bought today", "has just come"), ("is old", "is worn", "has seen better days"),
    ("is late", "has not come yet", "takes too long"), ("is lost", "cannot be found", "is gone"),
    ("is closed", "does not open", "is shut today"), ("is small", "is tiny", "takes little room"),
    ("costs much", "is expensive", "has a high price"),
    ("is loud", "makes noise", "can be heard far away"),
)  # fmt: skip

FRAMES = (
    "the {} {} .", "our {} {} .", "i think the {} {} .", "why is it that the {} {} ?",
    "they say that the {} {} .", "today the {} {} .", "in our village the {} {} .",
)  # fmt: skip


def pair(rng: random.Random, subject: int, deed: int) -> tuple[str, str]:
    """Two sentences that mean the same."""
    first, second = (
        rng.choice(FRAMES).format(rng.choice(SUBJECTS[subject]), rng.choice(DEEDS[deed]))
        for _ in range(2)
    )
    return first, second


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with a piece for each word, split and written as BERT has it."""
    texts = [frame.format(*parts) for frame in FRAMES for parts in [("", "")]]
    texts += [word for row in (*SUBJECTS, *DEEDS) for word in row]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=800, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    tokens = {f"{name}_token": token for name, token in names.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **tokens)


def train(folder: Path) -> None:
    """Train, and write a checkpoint as sentence-transformers does."""
    rng = random.Random(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a model gains nothing by more
    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=64, type_vocab_size=1,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    places = [(i, j) for i in range(len(SUBJECTS)) for j in range(len(DEEDS))]

    def vectors(texts: tuple[str, ...]) -> torch.Tensor:
        encoded = tokenizer(
            list(texts), padding=True, return_tensors="pt", return_token_type_ids=False
        )
        shown = encoded["attention_mask"][..., None]
        hidden = model(**encoded).last_hidden_state
        return torch.nn.functional.normalize((hidden * shown).sum(1) / shown.sum(1), dim=-1)

    for step in range(STEPS):
        rows = [pair(rng, *place) for place in rng.sample(places, BATCH)]
        first, second = (vectors(column) for column in zip(*rows, strict=True))
        # Each sentence is to find its own pair among all of the batch.
        loss = torch.nn.functional.cross_entropy(
            first @ second.T / TEMPERATURE, torch.arange(len(rows))
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == STEPS - 1:
            print(f"step {step}: loss {loss.item():.3f}")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_pooling(folder)


def write_pooling(folder: Path) -> None:
    """Say that a text's vector is the mean of its pieces', and of length 1."""
    steps = ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")
    modules = [
        {"type": f"sentence_transformers.models.{name}", "path": path} for name, path in steps
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')


if __name__ == "__main__":
    train(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "checkpoint")
