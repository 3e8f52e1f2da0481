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
from zebra.images.decode import DecodeMode

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
    """When other modes become RGB: after the crop, as OpenAI and open_clip do it, or before the resize."""
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

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize (bicubic), cut the centre square and convert to RGB, in this order, as uint8 [3, H, W].

        The order shows on images that are not RGB yet: a palette image, for instance, resizes by nearest colour.
        """
        size = self.image_size
        if self.resize == "squash":
            image = image.resize((size, size), Image.Resampling.BICUBIC)
        else:
            image = _centre(image.resize(_shortest(image.size, size), Image.Resampling.BICUBIC), size)
        return channels_first(image.convert("RGB"))

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 [B, 3, H, W] into float32 of roughly zero mean and unit variance, on the same device."""
        mean = torch.tensor(self.mean, device=images.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(3, 1, 1)
        return images.float().div_(255).sub_(mean).div_(std)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Preprocess":
        """Read `to_json`'s mapping; every key must be there, since a guessed one would change the vectors.

        Raises:
            ConfigError: A key is unknown (with the nearest name) or missing, or a value of the wrong type.
        """
        preprocess = structure(cls, raw, "preprocess")
        missing = [field.name for field in dataclasses.fields(cls) if field.name not in raw]
        if missing:
            raise ConfigError(f"preprocess lacks {', '.join(missing)}")
        return preprocess


def channels_first(image: Image.Image) -> NDArray[np.uint8]:
    """Copy an RGB image into a writable uint8 array [3, H, W]."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _shortest(size: tuple[int, int], target: int) -> tuple[int, int]:
    """Scale (width, height) so that the shorter becomes `target`; torchvision truncates the longer one."""
    width, height = size
    if width <= height:
        return target, int(target * height / width)
    return int(target * width / height), target


def _centre(image: Image.Image, size: int) -> Image.Image:
    """Cut the centre square; torchvision rounds halves to even, and so does Python."""
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))
