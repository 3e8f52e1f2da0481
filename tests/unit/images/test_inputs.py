"""Images in every form that callers pass."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zebra.errors import BadSample, ConfigError, DataError, ZebraError
from zebra.images.inputs import iter_images

RED, BLUE = (255, 0, 0), (0, 0, 255)


def red_above_blue() -> Image.Image:
    image = Image.new("RGB", (20, 40), RED)
    image.paste(BLUE, (0, 20, 20, 40))
    return image


def turned_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(red_above_blue().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)


def gray_16_bit() -> bytes:
    return encode(Image.fromarray(np.tile(np.linspace(2000, 60000, 40).astype(np.uint16), (20, 1))), "PNG")


def transparent() -> bytes:
    image = red_above_blue().convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return encode(image, "PNG")


def palette() -> bytes:
    return encode(red_above_blue().quantize(8), "GIF", transparency=0)


def encode(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def load(image, mode="careful") -> np.ndarray:
    (loaded,) = iter_images([image], mode)
    assert mode == "reference" or loaded.mode == "RGB"
    return np.asarray(loaded)


@pytest.mark.parametrize("mode", ["careful", "reference"])
@pytest.mark.parametrize("make", [turned_jpeg, gray_16_bit, transparent, palette])
def test_every_form_of_one_file_has_the_same_pixels(make, mode, tmp_path: Path) -> None:
    data = make()
    path = tmp_path / "image"
    path.write_bytes(data)
    buffer = io.BytesIO(data)
    buffer.seek(0, os.SEEK_END)  # as after Image.save
    expected = load(path, mode)
    with path.open("rb") as file, path.open("rb", buffering=0) as unbuffered, Image.open(path) as image:
        forms = [str(path), np.str_(path), data, np.bytes_(data), bytearray(data), memoryview(data), buffer, buffer]
        for form in (*forms, file, unbuffered, image, Image.open(io.BytesIO(data))):
            assert np.array_equal(load(form, mode), expected), type(form)


def test_a_turned_photo_is_upright() -> None:
    pixels = load(turned_jpeg(), "reference")
    assert pixels.shape == (40, 20, 3)
    assert np.abs(pixels[5, 10].astype(int) - RED).max() <= 2


def test_arrays_tensors_and_pil_images_of_equal_pixels_are_equal() -> None:
    array = np.asarray(red_above_blue())
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for form in (array, tensor, tensor.contiguous(), Image.fromarray(array), np.asfortranarray(array), array[::1]):
        assert np.array_equal(load(form), array)


def test_the_callers_image_is_not_changed() -> None:
    image = Image.open(io.BytesIO(turned_jpeg()))
    load(image)
    assert image.size == (40, 20) and image.getexif()[0x0112] == 6


def test_images_come_from_any_ordered_iterable() -> None:
    array = np.asarray(red_above_blue())
    batch_NHW3 = np.stack([array, array])
    for images in ((array, array), iter([array, array]), batch_NHW3, torch.from_numpy(batch_NHW3).permute(0, 3, 1, 2)):
        assert len(list(iter_images(images, "careful"))) == 2


A = np.zeros((20, 20, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "image 1 is of type NoneType. Pass a path, the bytes of an image file"),
        (3, "image 1 is of type int"),
        ({"bytes": b""}, "image 1 is of type dict"),
        (A.astype(np.float32), r"image 1: an array must be uint8 \[H, W, 3\], not float32"),
        (A[..., 0], r"image 1: an array must be uint8"),
        (torch.zeros(3, 20, 20), r"image 1: a tensor must be uint8 \[3, H, W\], not torch.float32 \[3, 20, 20\]"),
        (torch.zeros(20, 20, 3, dtype=torch.uint8), r"image 1: a tensor must be uint8 \[3, H, W\]"),
        (io.StringIO("text"), 'image 1: the file object returns str, not bytes. Open it with mode "rb"'),
        (io.BytesIO(b""), "image 1: empty file"),
        (bytearray(b"photo.jpg"), "image 1: not an image"),
        ("A" * 5000, "image 1: cannot read the file AAA.*…"),
        ("a\0b", "no image file at"),
        ("https://example.com/a.jpg", "image 1 is a URL"),
        ("data:image/png;base64,iVBORw0KGgo=", "image 1 is a URL"),
        ("", "is a folder"),
        (Image.new("F", (20, 20)), "image 1: unsupported image mode"),
        (Image.new("LAB", (20, 20)), "image 1: unsupported image mode"),
        (Image.new("RGB", (4, 4)), "image 1: too thin"),
    ],
)
def test_what_is_no_image_is_an_error_that_names_it(image, message: str) -> None:
    with pytest.raises(ZebraError, match=message):
        list(iter_images([A, image], "careful"))


def test_a_closed_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    file = io.BytesIO(b"data")
    file.close()
    with pytest.raises(DataError, match="image 0: the file object cannot be read"):
        list(iter_images([file], "careful"))
    with pytest.raises(DataError, match=r"is a folder\. Pass the paths of its images"):
        list(iter_images([tmp_path], "careful"))
    with pytest.raises(BadSample, match="image 0: truncated image"):
        list(iter_images([Image.open(io.BytesIO(turned_jpeg()[:-30]))], "careful"))


@pytest.mark.parametrize(
    "images",
    [
        "a.jpg",
        Path("a.jpg"),
        b"data",
        bytearray(b"data"),
        io.BytesIO(),
        A,
        torch.zeros(3, 9, 9),
        Image.new("L", (9, 9)),
    ],
)
def test_a_single_image_is_refused_with_the_remedy(images) -> None:
    with pytest.raises(ConfigError, match=r"Put a single image in \[ \]"):
        list(iter_images(images, "careful"))


@pytest.mark.parametrize("images", [{"a.jpg"}, {"a.jpg": 1}, None, 3])
def test_an_unordered_collection_is_refused(images) -> None:
    with pytest.raises(ConfigError, match="images must be a list or another ordered iterable, not"):
        list(iter_images(images, "careful"))
