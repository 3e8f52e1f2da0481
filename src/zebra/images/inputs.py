"""The images that callers pass: paths, files, PIL images, arrays and tensors."""

import os
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.errors import BadSample, ConfigError, DataError
from zebra.images.decode import MAX_ASPECT_RATIO, DecodeMode, decode_image, read_pixels, require_usable_size


@runtime_checkable
class TensorLike(Protocol):
    """A tensor of torch, which is not imported for it."""

    def detach(self) -> Any:
        """Return the tensor without its gradient."""

    def cpu(self) -> Any:
        """Return the tensor in the memory of the CPU."""


ImageInput: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8] | TensorLike
)
ACCEPTED_IMAGES = (
    "a path, the bytes of an image file, a file opened in binary mode, a PIL image, a uint8 array [H, W, 3] or a uint8 "
    "tensor [3, H, W]"
)

_MODES = frozenset(
    ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I", "I;16", "I;16L", "I;16B", "I;16N")
)
"""Modes of Pillow whose values have a defined range and that it converts to RGB."""
_SINGLE_TYPES = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
_ARRAY_DIMENSIONS = 3
_MAX_SHOWN_CHARS = 100


def iter_images(
    images: Iterable[ImageInput], mode: DecodeMode, max_aspect_ratio: float = MAX_ASPECT_RATIO
) -> Iterator[Image.Image]:
    """Load images one by one, all in the same way: equal pixels and metadata give equal results, in whatever form.

    A PIL image gets what a file gets: its EXIF orientation is applied, and in mode "careful" it is converted to RGB.

    Args:
        images: Any ordered iterable of images.
        mode: As in `zebra.images.decode.decode_image`.
        max_aspect_ratio: As there.

    Raises:
        ConfigError: `images` is a single image or unordered, or an item is not an image; the message has its index.
        DataError: An image file is missing or cannot be read.
        BadSample: An image cannot be decoded.
    """
    if _is_single_image(images):
        raise ConfigError("images must be a list of images. Put a single image in [ ].")
    if isinstance(images, Mapping | Set) or not isinstance(images, Iterable):
        raise ConfigError(f"images must be a list or another ordered iterable, not {type(images).__name__}.")
    for index, image in enumerate(images):
        yield load_image(image, f"image {index}", mode, max_aspect_ratio)


def load_image(
    image: ImageInput, name: str, mode: DecodeMode, max_aspect_ratio: float = MAX_ASPECT_RATIO
) -> Image.Image:
    """Load one image; errors as in `iter_images`.

    Args:
        name: Identifies the image in errors, unless it has a path.
    """
    if isinstance(image, Image.Image):
        return _convert_pil(image, name, mode, max_aspect_ratio)
    if isinstance(image, np.ndarray):
        return _convert_pil(_array_to_pil(image, name), name, mode, max_aspect_ratio)
    if isinstance(image, TensorLike):
        return _convert_pil(_tensor_to_pil(image, name), name, mode, max_aspect_ratio)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(bytes(image), name, mode=mode, max_aspect_ratio=max_aspect_ratio)
    if isinstance(image, str | os.PathLike):
        path = os.fsdecode(image)
        return decode_image(_read_file(path, name), path, mode=mode, max_aspect_ratio=max_aspect_ratio)
    if hasattr(image, "read"):
        return decode_image(_read_stream(image, name), name, mode=mode, max_aspect_ratio=max_aspect_ratio)
    raise ConfigError(f"{name} is of type {type(image).__name__}. Pass {ACCEPTED_IMAGES}.")


def _is_single_image(images: object) -> bool:
    if isinstance(images, np.ndarray | TensorLike):
        ndim: int = getattr(images, "ndim", 0)
        return ndim in (2, _ARRAY_DIMENSIONS)
    return isinstance(images, _SINGLE_TYPES) or hasattr(images, "read")


def _convert_pil(image: Image.Image, name: str, mode: DecodeMode, max_aspect_ratio: float) -> Image.Image:
    if image.mode not in _MODES:
        raise BadSample("unsupported image mode", name, f"{image.mode}; convert the image to RGB")
    require_usable_size(image.size, name, max_aspect_ratio=max_aspect_ratio)
    return read_pixels(image, name, mode=mode)


def _array_to_pil(array: NDArray[Any], name: str) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != _ARRAY_DIMENSIONS or array.shape[2] != 3:
        raise DataError(f"{name}: an array must be uint8 [H, W, 3], not {array.dtype} {list(array.shape)}")
    return Image.fromarray(array)


def _tensor_to_pil(image: TensorLike, name: str) -> Image.Image:
    tensor = image.detach()
    if str(tensor.dtype) != "torch.uint8" or tensor.ndim != _ARRAY_DIMENSIONS or tensor.shape[0] != 3:
        raise DataError(f"{name}: a tensor must be uint8 [3, H, W], not {tensor.dtype} {list(tensor.shape)}")
    return Image.fromarray(tensor.permute(1, 2, 0).cpu().numpy())


def _read_stream(stream: Any, name: str) -> bytes:
    """Read a file object from its start, as Pillow does; one that cannot seek, from where it is."""
    try:
        if getattr(stream, "seekable", lambda: hasattr(stream, "seek"))():
            stream.seek(0)
        data = stream.read()
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: the file object cannot be read ({error}). Open it again.") from error
    if not isinstance(data, bytes | bytearray):
        raise ConfigError(f'{name}: the file object returns {type(data).__name__}, not bytes. Open it with mode "rb".')
    return bytes(data)


def _read_file(path: str, name: str) -> bytes:
    if path.startswith(("http://", "https://", "data:")):
        raise DataError(f"{name} is a URL, {_shorten(path)}. Pass the bytes of the image; zebra does not download it.")
    try:
        if Path(path).is_file():
            return Path(path).read_bytes()
        is_dir = Path(path).is_dir()
    except OSError as error:  # unreadable, or too long for a path, as base64 is
        raise DataError(
            f"{name}: cannot read the file {_shorten(path)} ({error.strerror}). Pass a path, or the bytes of an image "
            "file; decode base64 first."
        ) from error
    if is_dir:
        raise DataError(f"{name}: {path} is a folder. Pass the paths of its images.")
    raise DataError(f"no image file at {_shorten(path)}. Check the path.")


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}…"
