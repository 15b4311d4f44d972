"""Steps of images against the image processors of Transformers, which run on Pillow too."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import transformers as hf

from burnish.optimizer.errors import BurnishError, StorageError, UnsupportedModel, UsageError
from burnish.runtimes.tasks.pixels import Recipe, centre

SIZES = [(40, 50), (61, 47), (33, 33), (20, 300)]


def pictures(mode: str = "RGB") -> list[Any]:
    rng = np.random.default_rng(0)
    found = []
    for height, width in SIZES:
        pixels = rng.integers(0, 256, (height, width, 4), np.uint8)
        found.append(PIL.Image.fromarray(pixels, "RGBA").convert(mode))
    return found


PROCESSORS = [
    hf.ViTImageProcessorPil(size={"height": 32, "width": 24}),
    hf.ViTImageProcessorPil(do_resize=False, do_normalize=False),
    hf.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    hf.CLIPImageProcessorPil(size={"shortest_edge": 20}, crop_size={"height": 33, "width": 31}),
    hf.SiglipImageProcessorPil(size={"height": 32, "width": 32}),
    hf.DeiTImageProcessorPil(
        size={"height": 37, "width": 37}, crop_size={"height": 32, "width": 32}
    ),
    hf.ConvNextImageProcessorPil(size={"shortest_edge": 32}),
    hf.ConvNextImageProcessorPil(size={"shortest_edge": 384}),
    hf.BeitImageProcessorPil(
        do_center_crop=True, size={"height": 40, "width": 40}, crop_size={"height": 32, "width": 32}
    ),
    hf.BitImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}),
]


@pytest.mark.parametrize("number", range(len(PROCESSORS)))
def test_pixels_are_those_of_transformers(number: int) -> None:
    processor = PROCESSORS[number]
    recipe = Recipe.of(processor.to_dict())
    for picture in pictures():
        expected = np.asarray(processor(picture, return_tensors="np")["pixel_values"][0])
        found = recipe(picture)
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_images_of_other_modes_become_rgb(mode: str) -> None:
    processor = hf.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    recipe = Recipe.of(processor.to_dict())
    for picture in pictures(mode):
        expected = np.asarray(processor(picture, return_tensors="np")["pixel_values"][0])
        assert np.abs(recipe(picture) - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("kind", "expected"), [("CLIPFeatureExtractor", (32,)), ("ViTFeatureExtractor", (32, 32))]
)
def test_files_of_older_releases(kind: str, expected: tuple[int, ...]) -> None:
    recipe = Recipe.of({
        "feature_extractor_type": kind, "size": 32, "resample": 3, "crop_size": 32,
        "do_center_crop": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    })  # fmt: skip
    assert recipe.size == expected
    assert recipe.crop == (32, 32)
    assert recipe.scale == 1 / 255


def test_steps_that_are_not_known_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="DonutImageProcessor"):
        Recipe.of({"image_processor_type": "DonutImageProcessor", "size": 32})
    with pytest.raises(BurnishError, match="makes no sense"):
        Recipe.of({"image_processor_type": "ViTImageProcessor", "size": {"longest_edge": 3}})
    with pytest.raises(BurnishError, match=r"preprocessor_config\.json"):
        Recipe.of({})


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    recipe = Recipe.of(PROCESSORS[0].to_dict())
    (tmp_path / "a.png").write_bytes(b"none")
    with pytest.raises(StorageError, match="no image"):
        recipe(tmp_path / "a.png")
    with pytest.raises(StorageError, match="no image"):
        recipe(str(tmp_path / "missing.png"))
    with pytest.raises(UsageError, match="uint8"):
        recipe(np.zeros((4, 4, 3)))
    with pytest.raises(UsageError, match="a path"):
        recipe(3)


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.of(PROCESSORS[0].to_dict())
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(UsageError, match="Pillow") as raised:
        recipe("a.png")
    assert "image" in raised.value.hint


def test_the_middle_of_an_image() -> None:
    values = np.arange(1, 6)[:, None] * np.ones((1, 2), int)
    assert centre(values, (3, 2))[:, 0].tolist() == [2, 3, 4]
    assert centre(values, (2, 2))[:, 0].tolist() == [2, 3]
    assert centre(values, (6, 2))[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
