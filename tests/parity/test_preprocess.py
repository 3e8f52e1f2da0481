"""Preprocessed images, compared with open_clip and transformers.

References: open_clip 3.3.0 with torchvision 0.28.0 (`image_transform_v2` for evaluation, shortest and squash, bicubic
and bilinear, its result before Normalize) and the Pillow image processors of CLIP and SigLIP in transformers 5.24.0.
Tolerance: none for bytes before normalization. Normalized values: none against torchvision, which does the same float32
arithmetic; 1e-6 against transformers, which divides by 255 in double precision.
Images: 15 kinds of files × 16 sizes, decoded by zebra with `mode="reference"`, and for the peer opened and turned
upright with Pillow. Both read files, so that palettes, transparency, orientation and 16 bits are as in practice. The
peers' transforms take PIL images as they are: transformers' `pipeline` turns them upright before, open_clip leaves this
to the caller.
"""

import io
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from zebra.images.decode import decode_image
from zebra.images.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess

SIZES = [(8, 8), (9, 31), (31, 9), (64, 64), (63, 65), (65, 63), (64, 129), (131, 64), (100, 77), (77, 100), (101, 333),
         (333, 101), (224, 17), (17, 200), (320, 241), (129, 255)]  # fmt: skip
SIDE = 32


def noise(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    """Return smooth colors with noise, so that filters and palettes matter."""
    generator = np.random.default_rng(seed)
    bands = len(Image.new(mode, (1, 1)).getbands())
    x, y = np.meshgrid(np.linspace(0, 200, size[0]), np.linspace(0, 200, size[1]))
    planes = [(x + (band + 1) * y) % 200 + generator.integers(0, 56, x.shape) for band in range(bands)]
    pixels = np.stack(planes, axis=-1).astype(np.uint8)
    return Image.frombytes(mode, size, pixels.tobytes())


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def rotated_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def bilevel(size: tuple[int, int], seed: int) -> bytes:
    return encode(noise("L", size, seed).point(lambda value: 255 * (value > 100), "1"))


def gray16(size: tuple[int, int], seed: int) -> bytes:
    """Encode 16-bit gray with most values above 255, which both peers clip."""
    gray = np.asarray(noise("L", size, seed)).astype(np.uint16) * 3
    return encode(Image.fromarray(gray))


def palette(size: tuple[int, int], seed: int, **options: object) -> bytes:
    return encode(noise("RGB", size, seed).quantize(23), **options)


KINDS: dict[str, Callable[[tuple[int, int], int], bytes]] = {
    "RGB": lambda size, seed: encode(noise("RGB", size, seed)),
    "gray": lambda size, seed: encode(noise("L", size, seed)),
    "gray with transparency": lambda size, seed: encode(noise("LA", size, seed)),
    "RGBA": lambda size, seed: encode(noise("RGBA", size, seed)),
    "RGB with a transparent color": lambda size, seed: encode(noise("RGB", size, seed), transparency=(9, 9, 9)),
    "palette": palette,
    "palette with a transparent entry": lambda size, seed: palette(size, seed, transparency=3),
    "palette with graded transparency": lambda size, seed: palette(size, seed, transparency=bytes(range(0, 230, 10))),
    "GIF": lambda size, seed: encode(noise("RGB", size, seed).quantize(40), "GIF", transparency=1),
    "bilevel": bilevel,
    "16-bit gray": gray16,
    "JPEG": lambda size, seed: encode(noise("RGB", size, seed), "JPEG", quality=80),
    "CMYK JPEG": lambda size, seed: encode(noise("CMYK", size, seed), "JPEG"),
    "rotated JPEG": lambda size, seed: encode(noise("RGB", size, seed), "JPEG", exif=rotated_exif()),
    "WebP": lambda size, seed: encode(noise("RGBA", size, seed), "WEBP"),
}


@cache
def images_of(kind: str) -> list[bytes]:
    usable = [size for size in SIZES if max(size) <= 20 * min(size)]  # zebra refuses thinner ones
    return [KINDS[kind](size, seed) for seed, size in enumerate(usable)]


def zebra_decode(data: bytes) -> Image.Image:
    return decode_image(data, "an image", mode="reference")


def open_upright(data: bytes) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data)))


def num_different_bytes(ours: NDArray[np.uint8], theirs: NDArray[np.generic]) -> int:
    assert ours.dtype == np.uint8
    assert ours.shape == theirs.shape
    return int((ours != theirs).sum())


def test_there_are_at_least_two_hundred_images() -> None:
    assert sum(len(images_of(kind)) for kind in KINDS) >= 200


# open_clip and torchvision


def open_clip_pixels(
    open_clip: ModuleType, resize: str, interpolation: str, side: int
) -> Callable[[Image.Image], NDArray[np.generic]]:
    config = open_clip.transform.PreprocessCfg(size=side, resize_mode=resize, interpolation=interpolation)
    steps = open_clip.transform.image_transform_v2(config, is_train=False).transforms[:-1]  # all but Normalize

    def pixels(image: Image.Image) -> NDArray[np.generic]:
        for step in steps:
            image = step(image)
        scaled: NDArray[np.generic] = (image * 255).numpy()
        return scaled.round()

    return pixels


# The peer converts a palette with transparency, about which Pillow warns.
@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("resize", "interpolation"), [("shortest", "bicubic"), ("squash", "bicubic"), ("shortest", "bilinear")]
)
def test_every_byte_equals_open_clip(open_clip: ModuleType, kind: str, resize: str, interpolation: str) -> None:
    for side in (SIDE, SIDE + 1):
        peer = open_clip_pixels(open_clip, resize, interpolation, side)
        ours = Preprocess(image_size=side, resize=resize, interpolation=interpolation)
        for data in images_of(kind):
            theirs = peer(open_upright(data))
            assert num_different_bytes(ours.resize_and_crop(zebra_decode(data)), theirs) == 0


def test_normalized_values_are_bit_identical_to_open_clip(open_clip: ModuleType) -> None:
    config = open_clip.transform.PreprocessCfg(size=SIDE, mean=OPENAI_MEAN, std=OPENAI_STD)
    peer = open_clip.transform.image_transform_v2(config, is_train=False)
    ours = Preprocess(image_size=SIDE)
    for data in images_of("JPEG"):
        pixels = torch.from_numpy(ours.resize_and_crop(zebra_decode(data)))[None]
        assert torch.equal(ours.normalize(pixels)[0], peer(open_upright(data)))


# transformers


@pytest.fixture(scope="module")
def processors(transformers: ModuleType) -> Iterator[dict[str, Callable[[int], object]]]:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    def clip(side: int) -> object:
        crop = {"height": side, "width": side}
        return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=crop)

    def siglip(side: int) -> object:
        return SiglipImageProcessorPil(size={"height": side, "width": side})

    yield {"shortest": clip, "squash": siglip}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_every_byte_equals_transformers(
    processors: dict[str, Callable[[int], Callable[..., dict[str, list[NDArray[np.generic]]]]]], kind: str, resize: str
) -> None:
    for side in (SIDE, SIDE + 1):
        peer = processors[resize](side)
        ours = Preprocess(image_size=side, resize=resize, crop="floor", rgb="first")
        for data in images_of(kind):
            image = open_upright(data)
            (theirs,) = peer(image, do_rescale=False, do_normalize=False)["pixel_values"]
            assert num_different_bytes(ours.resize_and_crop(zebra_decode(data)), theirs) == 0


@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_normalized_values_equal_transformers_up_to_rounding(
    processors: dict[str, Callable[[int], Callable[..., dict[str, list[NDArray[np.generic]]]]]], resize: str
) -> None:
    peer = processors[resize](SIDE)
    ours = Preprocess(
        image_size=SIDE,
        resize=resize,
        crop="floor",
        rgb="first",
        mean=tuple(peer.image_mean),
        std=tuple(peer.image_std),
    )
    for data in images_of("RGB"):
        pixels = torch.from_numpy(ours.resize_and_crop(zebra_decode(data)))[None]
        (theirs,) = peer(open_upright(data))["pixel_values"]
        difference = np.abs(ours.normalize(pixels)[0].numpy() - theirs).max()
        assert difference <= 1e-6
