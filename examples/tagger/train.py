"""Train the example tagger on annotated sentences and write its files.

Usage: python train.py DATA_DIR [--output DIR] [--minutes M] [--epochs E] [--seed S]
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from tagger_augment import IGNORED, Augmentation, Example, ExampleMaker
from tagger_data import (
    LABELS,
    LANGUAGES,
    MAX_LENGTH,
    PAD_ID,
    Sentence,
    encode_words,
    first_pieces,
    length_batches,
    load_folder,
    pad_batch,
    split_sentences,
)
from tagger_model import PooledDropout, Shape, Tagger, export_onnx
from tagger_muon import Muon
from tagger_scores import span_scores

ALPHABET = 300
# What Metaspace puts before each word.
MARK = "\u2581"
BATCH_SIZE = 256
BATCH_PIECES = 3600
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.05
EMA_DECAY = 0.994
WARMUP = 0.04
# Words with inner apostrophes and hyphens stay whole, every other mark stands alone.
WORD_PATTERN = "\\w+(?:['\u2019-]\\w+)*|[^\\w\\s]"


def train_tokenizer(sentences: Sequence[Sentence], vocabulary: int) -> Tokenizer:
    """Train a cased byte pair encoding of at most `vocabulary` pieces."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=True))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.Metaspace(prepend_scheme="always", split=False),
        ]
    )
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    # Chosen here, because the trainer itself breaks ties between rare characters at random.
    normal = [tokenizer.normalizer.normalize_str(" ".join(one.words)) for one in sentences]
    counts = Counter("".join(normal).replace(" ", ""))
    alphabet = sorted(counts, key=lambda one: (-counts[one], one))[: ALPHABET - 1]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        limit_alphabet=ALPHABET,
        initial_alphabet=[MARK, *alphabet],
        special_tokens=special,
        show_progress=False,
    )
    tokenizer.train_from_iterator(normal, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, special.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.enable_truncation(MAX_LENGTH)
    return tokenizer


def predict(
    model: Tagger, tokenizer: Tokenizer, sentences: Sequence[Sentence]
) -> list[tuple[str, ...]]:
    """Tag the words of sentences with a torch model; returns one label for each word."""
    encodings = encode_words(tokenizer, [sentence.words for sentence in sentences])
    answers: list[tuple[str, ...]] = [()] * len(sentences)
    model.eval()
    with torch.inference_mode():
        for batch in length_batches([len(encoding) for encoding in encodings], 256):
            ids, mask = pad_batch([encodings[index].ids for index in batch])
            best = model(torch.from_numpy(ids), torch.from_numpy(mask)).argmax(dim=2).numpy()
            for row, index in enumerate(batch):
                first = first_pieces(encodings[index])
                count = len(sentences[index].words)
                answers[index] = tuple(
                    LABELS[best[row, first[word]]] if word in first else "O"
                    for word in range(count)
                )
    return answers


class Training:
    """The state of one training run: model, its running average, optimizers and schedule."""

    def __init__(self, shape: Shape, epochs: int, dropout: float) -> None:
        """Create the model with random weights from torch's current seed."""
        self.model = Tagger(shape, dropout)
        self.average = copy.deepcopy(self.model)
        # Muon learns the encoder's matrices in far fewer steps; it is no method for tables,
        # vectors and the last layer, which AdamW trains.
        matrices = [value for value in self.model.blocks.parameters() if value.dim() == 2]
        chosen = {id(value) for value in matrices}
        others = [value for value in self.model.parameters() if id(value) not in chosen]
        self.muon = Muon(matrices, momentum=0.95, decay=WEIGHT_DECAY)
        self.adam = torch.optim.AdamW(
            others, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self.epochs = epochs
        self.progress = 0.0
        self.steps = 0

    def learning_rate(self) -> float:
        """Return the rate at the current progress (0 to 1): linear warm-up, then half a cosine."""
        if self.progress < WARMUP:
            return LEARNING_RATE * self.progress / WARMUP
        part = (self.progress - WARMUP) / (1.0 - WARMUP)
        return LEARNING_RATE * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(part, 1.0))))

    def step(self, examples: Sequence[Example]) -> float:
        """Take one optimizer step on a batch and return its loss."""
        ids, mask = pad_batch([example.ids for example in examples])
        labels, _ = pad_batch([example.labels for example in examples], IGNORED)
        rate = self.learning_rate()
        for group in self.adam.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.model(torch.from_numpy(ids), torch.from_numpy(mask))
        loss = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1),
            torch.from_numpy(labels).flatten(),
            ignore_index=IGNORED,
            label_smoothing=LABEL_SMOOTHING,
        )
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.muon.step(rate)
        self.adam.step()
        self.steps += 1
        decay = min(EMA_DECAY, self.steps / (self.steps + 10))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, 1.0 - decay)
        return float(loss.detach())

    def epoch(self, examples: Sequence[Example], shuffle: random.Random) -> float:
        """Train on every example once and return the mean loss of the batches."""
        self.model.train()
        PooledDropout.refresh()
        lengths = [len(example.ids) for example in examples]
        batches = length_batches(lengths, BATCH_SIZE, BATCH_PIECES)
        shuffle.shuffle(batches)
        total = 0.0
        for batch in batches:
            total += self.step([examples[index] for index in batch])
            self.progress += 1.0 / (len(batches) * self.epochs)
        return total / len(batches)


def fit(
    training: Training,
    tokenizer: Tokenizer,
    train: Sequence[Sentence],
    development: Sequence[Sentence],
    minutes: float,
    seed: int,
) -> Tagger:
    """Train and return the averaged weights that did best on the development sentences.

    Args:
        training: the run's state; its number of epochs shrinks if they do not fit in the time.
        tokenizer: the trained tokenizer.
        train: sentences to learn from.
        development: sentences to choose by, disjoint from the others.
        minutes: limit on wall time, in minutes.
        seed: seed of the augmentation and the order of batches.
    """
    maker = ExampleMaker(tokenizer, train, seed, Augmentation())
    shuffle = random.Random(seed)
    gold = [sentence.labels for sentence in development]
    started = time.monotonic()
    best, best_score, done = training.average, -1.0, 0
    while done < training.epochs:
        loss = training.epoch(maker.epoch(train), shuffle)
        done += 1
        taken = (time.monotonic() - started) / 60.0
        if done >= 2:
            # Shortened as a whole, so that the schedule still ends with small steps.
            fits = done + int((minutes - taken) / (taken / done))
            training.epochs = max(done, min(training.epochs, fits))
        guess = predict(training.average, tokenizer, development)
        score = span_scores(gold, guess)["micro"].f1
        print(
            f"epoch {done}/{training.epochs}: loss {loss:.4f}, development F1 "
            f"{100 * score:.2f}, {taken:.1f} min",
            flush=True,
        )
        if score > best_score:
            best, best_score = copy.deepcopy(training.average), score
    return best


def write_config(path: Path, shape: Shape) -> None:
    """Write labels, languages and sizes as JSON."""
    config = {
        "id2label": {str(index): label for index, label in enumerate(LABELS)},
        "languages": list(LANGUAGES),
        "max_length": MAX_LENGTH,
        "pad_token_id": PAD_ID,
        "architecture": dataclasses.asdict(shape),
    }
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train the example tagger.")
    parser.add_argument("data", type=Path, help="folder of <language>.* annotated files")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--minutes", type=float, default=60.0, help="limit on training time")
    parser.add_argument("--epochs", type=int, default=17)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, default=8000)
    parser.add_argument("--dropout", type=float, default=0.15)
    return parser.parse_args(arguments)


def main() -> None:
    """Train the tokenizer and the model, and write model, tokenizer and config."""
    arguments = parse_arguments()
    random.seed(arguments.seed)
    np.random.seed(arguments.seed)
    torch.manual_seed(arguments.seed)
    split = split_sentences(load_folder(arguments.data))
    print("sentences:", {name: len(part) for name, part in split._asdict().items()})
    tokenizer = train_tokenizer(split.train, arguments.vocabulary)
    shape = Shape(vocabulary=tokenizer.get_vocab_size())
    training = Training(shape, arguments.epochs, arguments.dropout)
    model = fit(
        training, tokenizer, split.train, split.development, arguments.minutes, arguments.seed
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    compact = json.loads(tokenizer.to_str())
    (arguments.output / "tokenizer.json").write_text(
        json.dumps(compact, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )
    write_config(arguments.output / "config.json", shape)
    export_onnx(model, arguments.output / "model.onnx")


if __name__ == "__main__":
    main()
