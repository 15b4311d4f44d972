"""Classes of images: those the model was trained for, or those that a caller names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from burnish.optimizer.errors import InvalidModel, UsageError
from burnish.runtimes.arrays import Array
from burnish.runtimes.tasks.answers import Classification
from burnish.runtimes.tasks.classes import classification, ranked
from burnish.runtimes.tasks.folder import PREPROCESSOR, Folder
from burnish.runtimes.tasks.pixels import Image, Recipe
from burnish.runtimes.tasks.ports import Opened, in_batches, surely
from burnish.runtimes.tasks.task import Task, sigmoid, softmax
from burnish.runtimes.tasks.texts import Texts, admit, positions

PIXELS, MASK = "pixel_values", "attention_mask"

ROWS = 16
"""Most images of a batch."""

TEMPLATE = "This is a photo of {}."
"""What a class becomes as a text; the one of Transformers."""

PAIRWISE = ("siglip", "siglip2")
"""Models that were trained with a sigmoid for each pair of image and text (arXiv:2303.15343), and
with texts of one length whose padding is read. Nothing but their name tells that; all others have a
softmax over the texts, and a mask."""


class ImageClassification(Task):
    """Called on an image (a path, an array or a Pillow image), or a list of images."""

    name = "image-classification"

    def __init__(self, folder: Folder, opened: Opened) -> None:
        super().__init__(folder, opened)
        surely(opened.inputs, (PIXELS,))
        self.recipe = Recipe.of(folder.settings(PREPROCESSOR))
        self._logits = self.output("logits")

    @overload
    def __call__(self, images: Image) -> Classification: ...

    @overload
    def __call__(self, images: list[Image]) -> list[Classification]: ...

    def __call__(self, images: Image | list[Image]) -> Classification | list[Classification]:
        """Classes; see `answers.Classification`."""
        given = images if isinstance(images, list) else [images]
        rows = self._opened.fixed(PIXELS)[:1]
        most = (rows[0] if rows else None) or ROWS

        def answer(batch: list[int]) -> list[Classification]:
            pixels = [self.recipe(given[index]) for index in batch]
            pixels += pixels[-1:] * ((rows[0] if rows and rows[0] else 0) - len(pixels))
            feed = {PIXELS: self._opened.cast(PIXELS, np.stack(pixels))}
            logits = self._opened.run([self._logits], feed)[self._logits]
            return [classification(row, self.folder) for row in logits[: len(batch)]]

        found = in_batches([1] * len(given), most, most, answer)
        return found if isinstance(images, list) else found[0]


class ZeroShotImageClassification(Task):
    """Called on an image, or a list of images, and the names of classes."""

    name = "zero-shot-image-classification"

    def __init__(self, folder: Folder, opened: Opened) -> None:
        super().__init__(folder, opened)
        admit(opened, PIXELS)
        self.texts = Texts(folder, opened)
        self.recipe = Recipe.of(folder.settings(PREPROCESSOR))
        self._logits = self.output("logits_per_image")
        self._pairwise = folder.config.get("model_type") in PAIRWISE

    @overload
    def __call__(
        self, images: Image, classes: Sequence[str], *, template: str = TEMPLATE
    ) -> Classification: ...

    @overload
    def __call__(
        self, images: list[Image], classes: Sequence[str], *, template: str = TEMPLATE
    ) -> list[Classification]: ...

    def __call__(
        self, images: Image | list[Image], classes: Sequence[str], *, template: str = TEMPLATE
    ) -> Classification | list[Classification]:
        """Classes; see `answers.Classification`.

        Args:
            images: one, or several.
            classes: their names.
            template: a text with `{}`, where the name of a class goes.
        """
        if not classes or "{}" not in template:
            raise UsageError("there are classes, and a template with {} for their names")
        given = images if isinstance(images, list) else [images]
        encodings = self.texts.encode([template.replace("{}", name) for name in classes])
        full = positions(self.folder.config) or 0
        feed = self.texts.feed(encodings, full if self._pairwise else 0)
        if self._pairwise and MASK in feed:
            feed[MASK] = np.ones_like(feed[MASK])
        found: list[Classification] = []
        for start in range(0, len(given), self._step(len(classes))):
            part = given[start : start + self._step(len(classes))]
            found += self._answer(feed, [self.recipe(image) for image in part], classes)
        return found if isinstance(images, list) else found[0]

    def _answer(
        self, feed: dict[str, Array], pixels: list[Any], classes: Sequence[str]
    ) -> list[Classification]:
        count = len(pixels)
        if self._tied():
            pixels += pixels[-1:] * (len(classes) - count)
        run = {**feed, PIXELS: self._opened.cast(PIXELS, np.stack(pixels))}
        logits = self._opened.run([self._logits], run)[self._logits]
        if logits.shape != (len(pixels), len(classes)):
            raise InvalidModel(f"{self._logits} does not hold a number for each image and class")
        chosen = (sigmoid if self._pairwise else softmax)(logits[:count])
        return [ranked(row, classes, several=self._pairwise) for row in chosen]

    def _tied(self) -> bool:
        """Whether the model was exported for as many images as texts."""
        shapes = {port.name: getattr(port, "shape", None) for port in self.session.get_inputs()}
        images, texts = shapes.get(PIXELS), shapes.get("input_ids")
        return not images or not texts or images[0] == texts[0]

    def _step(self, classes: int) -> int:
        """Images of one run."""
        return classes if self._tied() else ROWS
