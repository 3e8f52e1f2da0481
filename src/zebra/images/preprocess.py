"""Image preprocessing, bit-identical to CLIP's published preprocessing."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zebra.config.structure import structure
from zebra.errors import ConfigError
from zebra.images.decode import DecodeMode, convert_to_rgb

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Preprocessing of the images of a model; stored beside the weights as preprocess.json."""

    image_size: int
    """Side of the square input in pixels."""
    resize: Literal["shortest", "squash"] = "shortest"
    """shortest scales the shorter side and crops the center square; squash ignores the aspect ratio."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
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

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ConfigError(f"image_size is {self.image_size}; it must be at least 1")
        if min(self.std) <= 0:
            raise ConfigError(f"std is {self.std}; every channel must be positive")

    def resize_and_crop(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize, center-crop and convert to RGB, as uint8 [3, H, W].

        The order matters for images that are not RGB: a palette image, for example, is resized by nearest neighbor
        unless it is converted first.
        """
        size, image = self.image_size, convert_to_rgb(image) if self.rgb == "first" else image
        target = (size, size) if self.resize == "squash" else _resized_size(image.size, size)
        image = image.resize(target, Image.Resampling[self.interpolation.upper()])
        image = image.crop(_center_crop_box(image.size, size, self.crop))
        image.info.pop("transparency", None)  # does not change colors; avoids a warning of Pillow
        return to_channels_first(image.convert("RGB"))

    def normalize(self, images: Tensor) -> Tensor:
        """Convert uint8 [B, 3, H, W] to normalized float32, on the same device.

        The result is bit-identical to torchvision. transformers divides by 255 in double precision, which changes a
        value by at most 1e-6.
        """
        # Full-size constants in the memory format of the images: [3, 1, 1] takes twice as long for channels-last.
        like = torch.zeros_like(images[:1], dtype=torch.float32)
        mean, std = (like + torch.tensor(v, device=images.device).view(3, 1, 1) for v in (self.mean, self.std))
        return images.float().div_(255).sub_(mean).div_(std)

    def to_dict(self) -> dict[str, Any]:
        """Return a mapping that `from_dict` reads."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Preprocess":
        """Read a mapping from `to_dict`. Every key is required, because a wrong default would change the vectors.

        Raises:
            ConfigError: If a key is unknown or missing, or a value has the wrong type.
        """
        preprocess = structure(cls, raw, "preprocess")
        missing = [field.name for field in dataclasses.fields(cls) if field.name not in raw]
        if missing:
            raise ConfigError(f"missing settings in preprocess: {', '.join(missing)}")
        return preprocess


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
