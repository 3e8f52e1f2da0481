"""Image preprocessing without torch, bit-identical to the published one."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.config.image_towers import NaflexVisionConfig
from zebra.config.model import ModelConfig
from zebra.config.structure import structure
from zebra.config.transformer import MAX_TOKENS, require_in_range
from zebra.errors import ConfigError
from zebra.images.decode import MAX_ASPECT_RATIO, DecodeMode, convert_to_rgb
from zebra.images.patch_grid import fit_grid
from zebra.values import PatchBatch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

MAX_RESIZE_FACTOR = 4
"""Largest ratio of resize_size to image_size: most of the image would be cut off, and the rest takes its memory."""


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Preprocessing of the images of a model; stored beside the weights as preprocess.json."""

    image_size: int
    """Side of the square input in pixels; for NaFlex, of the square image whose patches have the stored positions."""
    resize: Literal["shortest", "squash", "naflex"] = "shortest"
    """shortest scales the shorter side and crops the center square; squash ignores the aspect ratio; naflex keeps it
    and fills a grid of at most `max_num_patches` patches."""
    interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic"
    """The resampling filter of the resize, as in Pillow."""
    crop: Literal["half_even", "floor"] = "half_even"
    """Rounding of an odd margin of the center crop: half_even as in torchvision, floor as in transformers."""
    rgb: Literal["last", "first"] = "last"
    """When other modes are converted to RGB: after the crop, dropping transparency (OpenAI, open_clip), or before the
    resize, compositing transparency on white (transformers)."""
    mean: tuple[float, float, float] = OPENAI_MEAN
    """Mean per channel of values in [0, 1]."""
    std: tuple[float, float, float] = OPENAI_STD
    decode: DecodeMode = "careful"
    """Decode mode of `zebra.images.decode` for this model."""
    patch_size: int | None = None
    """Patch side in pixels; for naflex only."""
    max_num_patches: int | None = None
    """Largest number of patches of an image; for naflex only."""
    resize_size: int | None = None
    """Side that the resize produces, if the center crop is smaller; None: `image_size`."""

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ConfigError(f"image_size is {self.image_size}; it must be at least 1")
        if min(self.std) <= 0:
            raise ConfigError(f"std is {self.std}; every channel must be positive")
        for name, value in (("patch_size", self.patch_size), ("max_num_patches", self.max_num_patches)):
            if (value is not None) != (self.resize == "naflex"):
                raise ConfigError(f"{name} is {value}; it is needed with resize naflex, and only then")
            if value is not None:
                require_in_range(name, value, MAX_TOKENS)
        if self.resize_size is not None and self.resize == "naflex":
            raise ConfigError("resize_size is not for resize naflex; leave it out")
        largest = MAX_RESIZE_FACTOR * self.image_size
        if self.resize_size is not None and not self.image_size <= self.resize_size <= largest:
            raise ConfigError(
                f"resize_size is {self.resize_size}; it must be from image_size ({self.image_size}) to "
                f"{MAX_RESIZE_FACTOR} times as much"
            )

    @property
    def max_aspect_ratio(self) -> float:
        """Largest ratio of the sides of an image that is accepted."""
        return self.max_num_patches or MAX_ASPECT_RATIO

    def resized_size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height to which an image is resized, before the crop."""
        if self.patch_size is not None and self.max_num_patches is not None:
            rows, columns = fit_grid(width, height, patch_size=self.patch_size, max_num_patches=self.max_num_patches)
            return columns * self.patch_size, rows * self.patch_size
        side = self.resize_size or self.image_size
        return (side, side) if self.resize == "squash" else _resized_size((width, height), side)

    def visible_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of the part of an image that the crop keeps, in its pixels."""
        new_width, new_height = self.resized_size(width, height)
        if self.resize == "naflex":
            return 0.0, 0.0, float(width), float(height)
        left, top, right, bottom = _center_crop_box((new_width, new_height), self.image_size, self.crop)
        x, y = width / new_width, height / new_height
        return left * x, top * y, right * x, bottom * y

    def min_shorter_side(self, width: int, height: int) -> int:
        """Return the shorter side of the smallest image of this shape that is not enlarged by the resize."""
        if self.resize != "naflex":
            return self.resize_size or self.image_size
        new_width, new_height = self.resized_size(width, height)
        return math.ceil(min(width, height) * max(new_width / width, new_height / height))

    def resize_and_crop(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize, center-crop and convert to RGB, as uint8 [3, H, W].

        H and W are `image_size` or, for NaFlex, whole numbers of patches. The order matters for images that are not
        RGB: a palette image, for example, is resized by nearest neighbor unless it is converted first.
        """
        size, image = self.image_size, convert_to_rgb(image) if self.rgb == "first" else image
        image = image.resize(self.resized_size(*image.size), Image.Resampling[self.interpolation.upper()])
        if self.resize != "naflex":
            image = image.crop(_center_crop_box(image.size, size, self.crop))
        image.info.pop("transparency", None)  # does not change colors; avoids a warning of Pillow
        return to_channels_first(image.convert("RGB"))

    def normalize(self, images: "Tensor") -> "Tensor":
        """Convert uint8 [B, 3, H, W] to normalized float32, on the same device.

        The result is bit-identical to torchvision. transformers divides by 255 in double precision, which changes a
        value by at most 1e-6.
        """
        # Full-size constants in the memory format of the images: [3, 1, 1] takes twice as long for channels-last.
        like = images[:1].float() * 0
        mean, std = (like + like.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return images.float().div_(255).sub_(mean).div_(std)

    def normalize_array(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Convert uint8 [B, 3, H, W] to float32, bit-identical to `normalize` on the CPU."""
        pixels = np.divide(images, np.float32(255), dtype=np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            pixels[:, channel] -= np.float32(mean)
            pixels[:, channel] /= np.float32(std)
        return pixels

    def normalize_patches(self, batch: PatchBatch, dtype: "torch.dtype | None" = None) -> PatchBatch:
        """Normalize uint8 patches in float32, as `normalize` does, and convert them to `dtype` if it is given."""
        patches_BPI = batch.patches_BPI
        pixels_B3N1 = patches_BPI.view(len(patches_BPI), -1, 1, 3).permute(0, 3, 1, 2)
        normalized = self.normalize(pixels_B3N1).permute(0, 2, 3, 1).reshape(patches_BPI.shape)
        return batch._replace(patches_BPI=normalized if dtype is None else normalized.to(dtype))

    def to_dict(self) -> dict[str, Any]:
        """Return a mapping that `from_dict` reads, without the settings that only some models have."""
        settings = {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}
        return {name: value for name, value in settings.items() if value is not None}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Preprocess":
        """Read a mapping from `to_dict`. Every key is required, because a wrong default would change the vectors.

        Raises:
            ConfigError: If a key is unknown or missing, or a value has the wrong type.
        """
        preprocess = structure(cls, raw, "preprocess")
        missing = [
            field.name for field in dataclasses.fields(cls) if field.default is not None and field.name not in raw
        ]
        if missing:
            raise ConfigError(f"missing settings in preprocess: {', '.join(missing)}")
        return preprocess


def build_preprocess(model: ModelConfig, max_num_patches: int | None = None) -> Preprocess:
    """Return the preprocessing of a new model.

    Args:
        max_num_patches: For NaFlex; None takes as many as the model has positions.
    """
    size, vision = model.image_size, model.vision
    if not isinstance(vision, NaflexVisionConfig):
        return Preprocess(image_size=size)
    max_num_patches = max_num_patches or (size // vision.patch_size) ** 2
    return Preprocess(image_size=size, resize="naflex", patch_size=vision.patch_size, max_num_patches=max_num_patches)


def to_channels_first(image: Image.Image) -> NDArray[np.uint8]:
    """Copy an RGB image to a writable uint8 array [3, H, W]."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _resized_size(size: tuple[int, int], target: int) -> tuple[int, int]:
    """Return the size with `target` as the shorter side; the longer is truncated, as in the reference libraries."""
    width, height = size
    if width <= height:
        return target, int(target * height / width)
    return int(target * width / height), target


def _center_crop_box(
    size: tuple[int, int], side: int, rounding: Literal["half_even", "floor"]
) -> tuple[int, int, int, int]:
    """Return the box of the center square; Python rounds halves to even, as torchvision does."""
    if rounding == "floor":
        left, top = ((length - side) // 2 for length in size)
    else:
        left, top = (round((length - side) / 2) for length in size)
    return left, top, left + side, top + side
