"""Train a small encoder of sentences on pairs that mean the same.

    python train.py [CHECKPOINT] [--data FOLDER]

Without data it makes pairs up and takes some seconds. `FOLDER` holds `train.jsonl`, `text1` and
`text2` a line.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

HERE = Path(__file__).parent
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BATCH, TEMPERATURE, LONGEST = 48, 0.07, 128

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


Pairs = list[tuple[str, str]]


def pairs_of(folder: Path | None, rng: random.Random) -> tuple[list[str], Callable[[], Pairs]]:
    """Texts for the tokenizer, and what draws a batch: of a folder, or made up."""
    if folder is None:
        texts = [frame.format("", "") for frame in FRAMES]
        texts += [word for row in (*SUBJECTS, *DEEDS) for word in row]
        places = [(i, j) for i in range(len(SUBJECTS)) for j in range(len(DEEDS))]
        return texts, lambda: [pair(rng, *place) for place in rng.sample(places, BATCH)]
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text("utf-8").splitlines()]
    pairs = [(row["text1"], row["text2"]) for row in rows]
    return [text for row in pairs for text in row], lambda: rng.sample(pairs, BATCH)


def make_tokenizer(texts: list[str], pieces: int) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of these texts, as BERT has it."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
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
    model: BertModel, tokenizer: PreTrainedTokenizerFast, steps: int, draw: Callable[[], Pairs]
) -> None:
    """So many steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    def vectors(texts: tuple[str, ...]) -> torch.Tensor:
        encoded = tokenizer(
            list(texts), padding=True, truncation=True, return_tensors="pt",
            return_token_type_ids=False,
        )  # fmt: skip
        shown = encoded["attention_mask"][..., None]
        hidden = model(**encoded).last_hidden_state
        return torch.nn.functional.normalize((hidden * shown).sum(1) / shown.sum(1), dim=-1)

    for step in range(steps):
        first, second = (vectors(column) for column in zip(*draw(), strict=True))
        # Each sentence is to find its own pair among all of the batch.
        loss = torch.nn.functional.cross_entropy(
            first @ second.T / TEMPERATURE, torch.arange(len(first))
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


def write_pooling(folder: Path) -> None:
    """Say that a text's vector is the mean of its pieces', and of length 1."""
    steps = ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")
    modules = [
        {"type": f"sentence_transformers.models.{name}", "path": path} for name, path in steps
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')


def main() -> None:
    """Tokenizer, model, training, checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=HERE / "checkpoint")
    parser.add_argument("--data", type=Path, help="folder with train.jsonl")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--pieces", type=int, default=800)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a model gains nothing by more
    texts, draw = pairs_of(arguments.data, random.Random(0))
    tokenizer = make_tokenizer(texts, arguments.pieces)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=arguments.width,
        num_hidden_layers=arguments.layers, num_attention_heads=arguments.width // 16,
        intermediate_size=2 * arguments.width, max_position_embeddings=LONGEST, type_vocab_size=1,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False)
    train(model, tokenizer, arguments.steps, draw)
    model.save_pretrained(arguments.checkpoint)
    tokenizer.save_pretrained(arguments.checkpoint)
    write_pooling(arguments.checkpoint)


if __name__ == "__main__":
    main()
