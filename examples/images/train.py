"""Train a small Swin Transformer that tells shapes.

    python train.py [CHECKPOINT] [--data FOLDER]

Without data it draws shapes (`draw.py`) and takes some seconds. `FOLDER` holds images as
`train/CLASS/NAME`; they are scaled to `--side` pixels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import SwinConfig, SwinForImageClassification

from draw import CLASSES, draw

HERE = Path(__file__).parent
COUNT, NOISE, PEAK, WARMUP = 3000, 0.03, 3e-3, 0.1

INITIAL = 0.1
"""Standard deviation of weights at first: with 0.02, Swin's own, so few steps do not suffice."""

Labelled = tuple[torch.Tensor, torch.Tensor]
"""Pixels uint8 [images, 3, side, side], and numbers of classes."""


def drawn(side: int) -> Labelled:
    """Made-up images."""
    rng = np.random.default_rng(0)
    kinds = [number % len(CLASSES) for number in range(COUNT)]
    images = np.stack([draw(rng, CLASSES[kind], side, NOISE) for kind in kinds])
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.tensor(kinds)


def read(folder: Path, side: int) -> tuple[list[str], Labelled]:
    """Names of the classes of a folder, and its images."""
    names = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    images, kinds = [], []
    for kind, name in enumerate(names):
        for path in sorted((folder / "train" / name).iterdir()):
            image = Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
            images.append(np.asarray(image))
            kinds.append(kind)
    return names, (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.tensor(kinds))


def train(model: SwinForImageClassification, images: Labelled, steps: int, batch: int) -> None:
    """So many steps, at a rate that rises and falls."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK, total_steps=steps, pct_start=WARMUP
    )
    model.train()
    for step in range(steps):
        chosen = torch.randint(0, len(images[1]), (batch,))
        pixels = images[0][chosen].float() / 127.5 - 1
        if torch.rand(()) < 0.5:  # a mirrored image is of the same class
            pixels = pixels.flip(3)
        loss = model(pixel_values=pixels, labels=images[1][chosen]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    model.eval()


def main() -> None:
    """Images, training, checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?", default=HERE / "checkpoint")
    parser.add_argument("--data", type=Path, help="folder with train/CLASS/NAME")
    parser.add_argument("--side", type=int, default=32, help="pixels; a multiple of 32")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--width", type=int, default=32)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a model gains nothing by more
    side, names = arguments.side, list(CLASSES)
    if arguments.data:
        names, images = read(arguments.data, side)
    else:
        images = drawn(side)
    config = SwinConfig(
        image_size=side, patch_size=4, window_size=4, embed_dim=arguments.width, depths=[2, 2],
        num_heads=[2, 4], mlp_ratio=2.0, drop_path_rate=0.0, initializer_range=INITIAL,
        id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)},
    )  # fmt: skip
    model = SwinForImageClassification(config)
    train(model, images, arguments.steps, arguments.batch)
    model.save_pretrained(arguments.checkpoint)
    settings = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "do_rescale": True,
        "do_normalize": True, "size": {"height": side, "width": side}, "resample": 2,
        "rescale_factor": 1 / 255, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    (arguments.checkpoint / "preprocessor_config.json").write_text(json.dumps(settings) + "\n")


if __name__ == "__main__":
    main()
