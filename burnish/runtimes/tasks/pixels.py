"""Images as a model takes them: resized, cropped, scaled and normalized, as its file says.

The steps are those of the image processors of Transformers that run on Pillow, whose settings
`preprocessor_config.json` holds; of them, those are done that have no steps of their own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from burnish.optimizer.errors import InvalidModel, StorageError, UnsupportedModel, UsageError
from burnish.runtimes.arrays import Array


class Picture(Protocol):
    """What is used of a `PIL.Image.Image`."""

    mode: str
    size: tuple[int, int]

    def convert(self, mode: str) -> Any: ...

    def resize(self, size: tuple[int, int], resample: int) -> Any: ...


Image = str | os.PathLike[str] | Array | Picture
"""A path, an array uint8 [height, width, channels] or [height, width], or a Pillow image."""

PLAIN = {
    "BeitImageProcessor", "BitImageProcessor", "BlipImageProcessor", "CLIPImageProcessor",
    "ChineseCLIPImageProcessor", "ConvNextImageProcessor", "DeiTImageProcessor",
    "MobileNetV1ImageProcessor", "MobileNetV2ImageProcessor", "PvtImageProcessor",
    "SiglipImageProcessor", "ViTImageProcessor",
}  # fmt: skip
"""Image processors that have no steps of their own, but for `crop_pct`."""

BY_SHORTER = {
    "BitImageProcessor", "CLIPImageProcessor", "ChineseCLIPImageProcessor",
    "ConvNextImageProcessor", "MobileNetV1ImageProcessor", "MobileNetV2ImageProcessor",
}  # fmt: skip
"""Those for which a size that is one number is that of the shorter side."""

WARPED = 384
"""Sizes from which on `crop_pct` crops nothing (ConvNeXt)."""

MISSING = "pip install 'burnish[image]'"


@dataclass(frozen=True)
class Recipe:
    """The steps, in order; a step that is not done is None.

    Attributes:
        size: height and width, or the shorter side alone.
        resample: Pillow's number of the filter.
        cropped: share of the image that `crop_pct` keeps.
        crop: height and width that are cut out of the middle.
        scale: what values are multiplied by.
        mean, deviation: of each channel.
        color: whether images become RGB, whatever they are.
    """

    size: tuple[int, ...] | None
    resample: int
    cropped: float | None
    crop: tuple[int, int] | None
    scale: float | None
    mean: Array | None
    deviation: Array | None
    color: bool = True

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Recipe:
        """The steps that `preprocessor_config.json` asks for.

        Raises:
            InvalidModel: it is missing or makes no sense.
            UnsupportedModel: it asks for steps that are not known here.
        """
        if not settings:
            raise InvalidModel("images need a preprocessor_config.json beside the model")
        kind = str(settings.get("image_processor_type") or settings.get("feature_extractor_type"))
        kind = kind.removesuffix("Fast").removesuffix("Pil")
        kind = kind.replace("FeatureExtractor", "ImageProcessor")
        if kind not in PLAIN or settings.get("do_pad"):
            raise UnsupportedModel(f"the steps of {kind} are not known", place="image_processor")
        try:
            return _recipe(cls, settings, kind)
        except (KeyError, TypeError, ValueError):
            raise InvalidModel("preprocessor_config.json makes no sense") from None

    def __call__(self, image: Image) -> Array:
        """Pixels as float32 [channels, height, width].

        Raises:
            StorageError: the file is no image. UsageError: Pillow is missing.
        """
        picture = opened(image)
        if self.color:
            picture = colored(picture)
        if self.size is not None:
            picture = self._resized(picture)
        values = np.asarray(picture)
        values = values[:, :, None] if values.ndim == 2 else values
        if self.crop is not None:
            values = centre(values, self.crop)
        pixels: Array = values.astype(np.float32)
        if self.scale is not None:
            pixels = (values.astype(np.float64) * self.scale).astype(np.float32)
        if self.mean is not None and self.deviation is not None:
            if len(self.mean) != pixels.shape[-1]:
                raise UsageError(f"the image has {pixels.shape[-1]} channels")
            pixels = (pixels - self.mean) / self.deviation
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _resized(self, picture: Any) -> Any:
        assert self.size is not None
        if len(self.size) == 2:
            height, width = self.size
            return picture.resize((width, height), resample=self.resample)
        side = self.size[0]
        if self.cropped is None:
            return picture.resize(_by_shorter(picture, side), resample=self.resample)
        if side >= WARPED:
            return picture.resize((side, side), resample=self.resample)
        larger = _by_shorter(picture, int(side / self.cropped))
        return _cut(picture.resize(larger, resample=self.resample), (side, side))


def _recipe(cls: type[Recipe], settings: dict[str, Any], kind: str) -> Recipe:
    crop = settings.get("crop_size") if settings.get("do_center_crop") else None
    normal = settings.get("do_normalize", True)
    return cls(
        size=_size(settings["size"], kind) if settings.get("do_resize", True) else None,
        resample=int(settings.get("resample", 2)),
        cropped=float(settings["crop_pct"]) if settings.get("crop_pct") else None,
        crop=None if crop is None else _square(crop),
        scale=float(settings.get("rescale_factor", 1 / 255))
        if settings.get("do_rescale", True)
        else None,
        mean=np.asarray(settings["image_mean"], np.float32) if normal else None,
        deviation=np.asarray(settings["image_std"], np.float32) if normal else None,
        color=bool(settings.get("do_convert_rgb", True)),
    )


def _size(told: Any, kind: str) -> tuple[int, ...]:
    """Height and width, or the shorter side."""
    if isinstance(told, dict):
        told = {key: value for key, value in told.items() if value is not None}
        if set(told) == {"shortest_edge"}:
            return (int(told["shortest_edge"]),)
        if set(told) == {"height", "width"}:
            return int(told["height"]), int(told["width"])
        raise ValueError("sizes of another kind")
    if isinstance(told, int) and kind in BY_SHORTER:
        return (told,)
    return _square(told)


def _square(told: Any) -> tuple[int, int]:
    if isinstance(told, dict):
        return int(told["height"]), int(told["width"])
    if isinstance(told, int):
        return told, told
    height, width = told
    return int(height), int(width)


def opened(image: Image) -> Any:
    """The Pillow image of a path or an array.

    Raises:
        StorageError: the file is no image. UsageError: Pillow is missing, or it is none of these.
    """
    try:
        import PIL.Image
    except ImportError:
        raise UsageError("images need Pillow", hint=MISSING) from None
    if isinstance(image, PIL.Image.Image):
        return image
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise UsageError("an image as an array is uint8 [height, width, channels]")
        return PIL.Image.fromarray(image)
    if not isinstance(image, str | os.PathLike):
        raise UsageError("an image is a path, an array or a Pillow image")
    try:
        picture = PIL.Image.open(image)
        picture.load()
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        raise StorageError(f"{os.fspath(image)} is no image that can be read") from None
    return picture


def colored(picture: Any) -> Any:
    """An image in RGB; what is transparent lies on white, as Transformers have it."""
    import PIL.Image

    if "A" not in picture.getbands() and picture.info.get("transparency") is None:
        return picture.convert("RGB")
    over = picture.convert("RGBA")
    white = PIL.Image.new("RGBA", over.size, (255, 255, 255, 255))
    return PIL.Image.alpha_composite(white, over).convert("RGB")


def _by_shorter(picture: Any, side: int) -> tuple[int, int]:
    """Width and height with that shorter side, in the image's own proportions."""
    width, height = picture.size
    longer = int(side * max(width, height) / min(width, height))
    return (side, longer) if width <= height else (longer, side)


def _cut(picture: Any, size: tuple[int, int]) -> Any:
    import PIL.Image

    return PIL.Image.fromarray(centre(np.asarray(picture), size))


def centre(values: Array, size: tuple[int, int]) -> Array:
    """The middle of an image [height, width, ...], with zeros around it where it is smaller."""
    height, width = values.shape[:2]
    tall, wide = max(size[0], height), max(size[1], width)
    if (tall, wide) != (height, width):
        # An odd place more goes before, and half of an odd surplus is rounded down.
        top, left = -((height - tall) // 2), -((width - wide) // 2)
        larger = np.zeros((tall, wide, *values.shape[2:]), values.dtype)
        larger[top : top + height, left : left + width] = values
        values = larger
        rows = (height - size[0]) // 2 + top
        columns = (width - size[1]) // 2 + left
    else:
        rows, columns = (height - size[0]) // 2, (width - size[1]) // 2
    rows, columns = max(rows, 0), max(columns, 0)
    return values[rows : rows + size[0], columns : columns + size[1]]
