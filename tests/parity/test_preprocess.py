"""Before normalisation, every byte of every picture equals the peers'; after it, values agree to rounding.

References: open_clip 3.3.0 with torchvision 0.28.0 (`image_transform_v2` for evaluation, shortest and squash, bicubic
and bilinear, its result before Normalize) and the Pillow image processors of CLIP and SigLIP in transformers 5.24.0.
Tolerance: none for bytes. Normalised values: none against torchvision, which does the same float32 arithmetic; 1e-6
against transformers, which divides by 255 in double precision.
Pictures: 15 kinds of files × 16 sizes, decoded by zebra with `mode="reference"` and by the peer with `Image.open`. Both
get files, so that palettes, transparency, orientation and 16 bits arrive as they do in practice. The peers leave a
picture as its EXIF tag found it, and so does `decode="reference"`; what turns pictures upright in transformers is
`pipeline`, before the processor sees them.
"""

import io
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from zebra.images.decode import decode_image
from zebra.images.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess

SIZES = [(8, 8), (9, 31), (31, 9), (64, 64), (63, 65), (65, 63), (64, 129), (131, 64), (100, 77), (77, 100), (101, 333),
         (333, 101), (224, 17), (17, 200), (320, 241), (129, 255)]  # fmt: skip
SIDE = 32


def noise(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    """Smooth colours with noise on top, so that filters and palettes have something to do."""
    generator = np.random.default_rng(seed)
    bands = len(Image.new(mode, (1, 1)).getbands())
    x, y = np.meshgrid(np.linspace(0, 200, size[0]), np.linspace(0, 200, size[1]))
    planes = [(x + (band + 1) * y) % 200 + generator.integers(0, 56, x.shape) for band in range(bands)]
    pixels = np.stack(planes, axis=-1).astype(np.uint8)
    return Image.frombytes(mode, size, pixels.tobytes())


def file(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def bilevel(size: tuple[int, int], seed: int) -> bytes:
    return file(noise("L", size, seed).point(lambda value: 255 * (value > 100), "1"))


def deep(size: tuple[int, int], seed: int) -> bytes:
    """16-bit gray with most values above 255, which both peers clip."""
    gray = np.asarray(noise("L", size, seed)).astype(np.uint16) * 3
    return file(Image.fromarray(gray))


def palette(size: tuple[int, int], seed: int, **options: object) -> bytes:
    return file(noise("RGB", size, seed).quantize(23), **options)


KINDS: dict[str, Callable[[tuple[int, int], int], bytes]] = {
    "RGB": lambda size, seed: file(noise("RGB", size, seed)),
    "gray": lambda size, seed: file(noise("L", size, seed)),
    "gray with transparency": lambda size, seed: file(noise("LA", size, seed)),
    "RGBA": lambda size, seed: file(noise("RGBA", size, seed)),
    "RGB with a transparent colour": lambda size, seed: file(
        noise("RGB", size, seed), transparency=(9, 9, 9)
    ),
    "palette": palette,
    "palette with a transparent entry": lambda size, seed: palette(size, seed, transparency=3),
    "palette with graded transparency": lambda size, seed: palette(
        size, seed, transparency=bytes(range(0, 230, 10))
    ),
    "GIF": lambda size, seed: file(noise("RGB", size, seed).quantize(40), "GIF", transparency=1),
    "bilevel": bilevel,
    "16-bit gray": deep,
    "JPEG": lambda size, seed: file(noise("RGB", size, seed), "JPEG", quality=80),
    "CMYK JPEG": lambda size, seed: file(noise("CMYK", size, seed), "JPEG"),
    "rotated JPEG": lambda size, seed: file(noise("RGB", size, seed), "JPEG", exif=rotated()),
    "WebP": lambda size, seed: file(noise("RGBA", size, seed), "WEBP"),
}


@cache
def pictures(kind: str) -> list[bytes]:
    usable = [size for size in SIZES if max(size) <= 20 * min(size)]  # thinner ones zebra refuses
    return [KINDS[kind](size, seed) for seed, size in enumerate(usable)]


def zebra_reads(data: bytes) -> Image.Image:
    return decode_image(data, "a picture", mode="reference")


def differing(ours: NDArray[np.uint8], theirs: NDArray[np.generic]) -> int:
    assert ours.dtype == np.uint8
    assert ours.shape == theirs.shape
    return int((ours != theirs).sum())


def test_there_are_at_least_two_hundred_pictures() -> None:
    assert sum(len(pictures(kind)) for kind in KINDS) >= 200


# open_clip and torchvision


def open_clip_pixels(
    open_clip: ModuleType, resize: str, interpolation: str, side: int
) -> Callable[[Image.Image], NDArray[np.generic]]:
    config = open_clip.transform.PreprocessCfg(size=side, resize_mode=resize, interpolation=interpolation)
    steps = open_clip.transform.image_transform_v2(config, is_train=False).transforms[
        :-1
    ]  # all but Normalize

    def pixels(image: Image.Image) -> NDArray[np.generic]:
        for step in steps:
            image = step(image)
        scaled: NDArray[np.generic] = (image * 255).numpy()
        return scaled.round()

    return pixels


# Pillow warns the peer, which converts a palette with its transparency still attached.
@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("resize", "interpolation"), [("shortest", "bicubic"), ("squash", "bicubic"), ("shortest", "bilinear")]
)
def test_every_byte_equals_open_clips(
    open_clip: ModuleType, kind: str, resize: str, interpolation: str
) -> None:
    for side in (SIDE, SIDE + 1):
        peer = open_clip_pixels(open_clip, resize, interpolation, side)
        ours = Preprocess(image_size=side, resize=resize, interpolation=interpolation)
        for data in pictures(kind):
            theirs = peer(Image.open(io.BytesIO(data)))
            assert differing(ours.resize_and_crop(zebra_reads(data)), theirs) == 0


def test_normalised_values_equal_open_clips_bit_for_bit(open_clip: ModuleType) -> None:
    config = open_clip.transform.PreprocessCfg(size=SIDE, mean=OPENAI_MEAN, std=OPENAI_STD)
    peer = open_clip.transform.image_transform_v2(config, is_train=False)
    ours = Preprocess(image_size=SIDE)
    for data in pictures("JPEG"):
        pixels = torch.from_numpy(ours.resize_and_crop(zebra_reads(data)))[None]
        assert torch.equal(ours.normalize(pixels)[0], peer(Image.open(io.BytesIO(data))))


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
def test_every_byte_equals_that_of_transformers(
    processors: dict[str, Callable[[int], Callable[..., dict[str, list[NDArray[np.generic]]]]]],
    kind: str,
    resize: str,
) -> None:
    for side in (SIDE, SIDE + 1):
        peer = processors[resize](side)
        ours = Preprocess(image_size=side, resize=resize, crop="floor", rgb="first")
        for data in pictures(kind):
            image = Image.open(io.BytesIO(data))
            (theirs,) = peer(image, do_rescale=False, do_normalize=False)["pixel_values"]
            assert differing(ours.resize_and_crop(zebra_reads(data)), theirs) == 0


@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_normalised_values_equal_those_of_transformers_to_a_rounding(
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
    for data in pictures("RGB"):
        pixels = torch.from_numpy(ours.resize_and_crop(zebra_reads(data)))[None]
        (theirs,) = peer(Image.open(io.BytesIO(data)))["pixel_values"]
        difference = np.abs(ours.normalize(pixels)[0].numpy() - theirs).max()
        assert difference <= 1e-6
