"""Draws shapes: of any bright colour, size, place and angle, on a dark ground, lit from one side.

    python draw.py FOLDER [--count 6000] [--tests 600] [--side 64] [--noise 0.1] [--seed 1]

writes `train/CLASS/NUMBER.png` and `test/CLASS/NUMBER.png`, with `test.jsonl` for the latter.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]

CLASSES = ("circle", "cross", "ring", "square", "triangle")


def inside(kind: str, x: Array, y: Array) -> NDArray[np.bool_]:
    """Where a shape about as large as the unit circle is."""
    radius = np.hypot(x, y)
    if kind == "circle":
        return radius < 0.9
    if kind == "ring":
        return (radius < 1.0) & (radius > 0.6)
    if kind == "square":
        return np.maximum(abs(x), abs(y)) < 0.8
    if kind == "cross":
        return (np.minimum(abs(x), abs(y)) < 0.25) & (np.maximum(abs(x), abs(y)) < 1.0)
    corners = np.pi / 2 + np.arange(3) * 2 * np.pi / 3
    return np.all([x * np.cos(a) + y * np.sin(a) < 0.55 for a in corners], axis=0)


def draw(rng: np.random.Generator, kind: str, side: int, noise: float) -> NDArray[np.uint8]:
    """One image [side, side, 3].

    Args:
        rng: draws all that is left to chance.
        kind: a class.
        side: pixels.
        noise: standard deviation of what is added to each pixel, of the whole range.
    """
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    x, y = np.meshgrid(axis, axis)
    size, angle = rng.uniform(0.4, 0.75), rng.uniform(0, 2 * np.pi)
    at = rng.uniform(size - 1, 1 - size, 2)
    u, v = (x - at[0]) / size, (y - at[1]) / size
    turned = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    ground, colour = rng.uniform(0, 0.35, 3), rng.uniform(0.55, 1, 3)
    where = inside(kind, *turned)[..., None]
    lit = 1 + 0.2 * (x * np.cos(angle) + y * np.sin(angle))[..., None]
    image = np.where(where, colour, ground) * lit + rng.normal(0, noise, (side, side, 3))
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--tests", type=int, default=600)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    lines = []
    for part, count in (("train", arguments.count), ("test", arguments.tests)):
        for number in range(count):
            kind = CLASSES[number % len(CLASSES)]
            path = arguments.folder / part / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw(rng, kind, arguments.side, arguments.noise)).save(path)
            if part == "test":
                name = str(path.relative_to(arguments.folder))
                lines.append(json.dumps({"image": name, "label": kind}) + "\n")
    (arguments.folder / "test.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
