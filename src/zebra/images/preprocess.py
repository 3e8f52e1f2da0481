"""PIL images in, the tensor a tower expects out; bit for bit what CLIP's published preprocessing computes."""

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
    """How a picture becomes the input of a model; written beside the weights as preprocess.json."""

    image_size: int
    """Side of the square input, in pixels."""
    resize: Literal["shortest", "squash"] = "shortest"
    """shortest scales the shorter side and cuts the centre square; squash ignores the aspect ratio."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """The filter of the resize, as Pillow computes it."""
    crop: Literal["half_even", "floor"] = "half_even"
    """How the centre crop rounds an odd margin: half_even is torchvision's rule, floor is that of transformers."""
    rgb: Literal["last", "first"] = "last"
    """When other modes become RGB: after the crop, as OpenAI and open_clip do it, dropping transparency, or before the
    resize, as transformers does it, laying transparency on white."""
    mean: tuple[float, float, float] = OPENAI_MEAN
    """Per channel, of values in [0, 1]."""
    std: tuple[float, float, float] = OPENAI_STD
    decode: DecodeMode = "careful"
    """How `zebra.images.decode` reads files for this model."""

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ConfigError(f"image_size is {self.image_size}; it must be at least 1")
        if min(self.std) <= 0:
            raise ConfigError(f"std is {self.std}; every channel must be positive")

    def resize_and_crop(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize, cut the centre square and convert to RGB, as uint8 [3, H, W].

        When it is converted shows on images that are not RGB yet: a palette image, for instance, is resized by
        nearest colour unless it is converted first.
        """
        size, image = self.image_size, convert_to_rgb(image) if self.rgb == "first" else image
        target = (size, size) if self.resize == "squash" else _resized_size(image.size, size)
        image = image.resize(target, Image.Resampling[self.interpolation.upper()])
        image = image.crop(_center_crop_box(image.size, size, self.crop))
        image.info.pop("transparency", None)  # changes no colour; Pillow would warn that it is dropped
        return to_channels_first(image.convert("RGB"))

    def normalize(self, images: Tensor) -> Tensor:
        """Turn uint8 [B, 3, H, W] into float32 of roughly zero mean and unit variance, on the same device.

        The arithmetic is torchvision's, bit for bit; transformers divides by 255 in double precision, which moves
        a value by at most 1e-6.
        """
        # As large as one picture, and laid out like it: per channel alone, channels-last pictures take twice as long.
        like = torch.zeros_like(images[:1], dtype=torch.float32)
        mean, std = (
            like + torch.tensor(v, device=images.device).view(3, 1, 1) for v in (self.mean, self.std)
        )
        return images.float().div_(255).sub_(mean).div_(std)

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_json` reads back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "Preprocess":
        """Read `to_json`'s mapping; every key must be there, since a guessed one would change the vectors.

        Raises:
            ConfigError: A key is unknown (with the nearest name) or missing, or a value of the wrong type.
        """
        preprocess = structure(cls, raw, "preprocess")
        missing = [field.name for field in dataclasses.fields(cls) if field.name not in raw]
        if missing:
            raise ConfigError(f"preprocess lacks {', '.join(missing)}")
        return preprocess


def to_channels_first(image: Image.Image) -> NDArray[np.uint8]:
    """Copy an RGB image into a writable uint8 array [3, H, W]."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _resized_size(size: tuple[int, int], target: int) -> tuple[int, int]:
    """Scale (width, height) so that the shorter becomes `target`; torchvision and transformers truncate the longer."""
    width, height = size
    if width <= height:
        return target, int(target * height / width)
    return int(target * width / height), target


def _center_crop_box(
    size: tuple[int, int], side: int, rounding: Literal["half_even", "floor"]
) -> tuple[int, int, int, int]:
    """Return the box of the centre square; Python rounds halves to even, as torchvision does."""
    if rounding == "floor":
        left, top = ((length - side) // 2 for length in size)
    else:
        left, top = (round((length - side) / 2) for length in size)
    return left, top, left + side, top + side
