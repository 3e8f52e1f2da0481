"""Preprocessing of one image: equal to the bundle's, or faster on request, and robust."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from zebra.embed.preprocessing import ImagePreprocessor
from zebra.embed.stages import make_row_id
from zebra.errors import BadSample
from zebra.images.decode import decode_image
from zebra.images.preprocess import Preprocess

from .conftest import encoded


def smooth(size: tuple[int, int], number: int = 0) -> Image.Image:
    grid = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue()


def rotated_jpeg(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(image, exif=exif)


@pytest.mark.parametrize("mode", ["careful", "reference"])
@pytest.mark.parametrize("size", [(640, 480), (333, 801), (32, 32)])
def test_pixels_equal_those_of_the_model_bit_for_bit(mode, size):
    preprocess = Preprocess(32, decode=mode)
    data = jpeg(smooth(size))
    image = ImagePreprocessor(preprocess)(data, "x")
    np.testing.assert_array_equal(image.pixels_3HW, preprocess.resize_and_crop(decode_image(data, "x", mode=mode)))
    assert (image.width, image.height) == size


def test_fast_decoding_is_close_and_keeps_the_size_of_the_original():
    preprocess = Preprocess(32)
    data = jpeg(smooth((640, 480)))
    exact, fast = (ImagePreprocessor(preprocess)(data, "x"), ImagePreprocessor(preprocess, fast_decode=True)(data, "x"))
    difference = np.abs(exact.pixels_3HW.astype(int) - fast.pixels_3HW)
    assert 0 < difference.max() < 12
    assert difference.mean() < 1.5
    assert (fast.width, fast.height) == (640, 480)


@pytest.mark.parametrize("mode", ["careful", "reference"])
def test_fast_decoding_rotates_an_image_as_the_model_does(mode):
    preprocess = Preprocess(32, decode=mode)
    data = rotated_jpeg(smooth((640, 480)), 6)
    exact, fast = (ImagePreprocessor(preprocess, fast_decode=fast)(data, "x") for fast in (False, True))
    np.testing.assert_array_equal(exact.pixels_3HW, fast.pixels_3HW)
    assert (fast.width, fast.height) == (480, 640)
    assert Image.open(io.BytesIO(fast.thumbnail)).size == (72, 96)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "BMP"])
def test_fast_decoding_does_not_change_other_formats(format):
    data = encoded(1, (90, 70), format)
    exact, fast = (ImagePreprocessor(Preprocess(32), fast_decode=fast)(data, "x") for fast in (False, True))
    np.testing.assert_array_equal(exact.pixels_3HW, fast.pixels_3HW)


@pytest.mark.parametrize(("size", "small"), [((640, 480), (96, 72)), ((30, 40), (30, 40)), ((200, 11), (96, 5))])
def test_a_thumbnail_shows_the_full_image_and_never_enlarges_it(size, small):
    image = ImagePreprocessor(Preprocess(32), thumbnail_size=96)(jpeg(smooth(size)), "x")
    thumbnail = Image.open(io.BytesIO(image.thumbnail))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", small)


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA", "1", "I;16"])
def test_a_thumbnail_of_any_image_mode(mode):
    buffer = io.BytesIO()
    smooth((120, 90)).convert("L" if mode == "I;16" else mode if mode != "LA" else "L").convert(mode).save(
        buffer, "PNG"
    )
    for decode in ("careful", "reference"):
        thumbnail = ImagePreprocessor(Preprocess(32, decode=decode))(buffer.getvalue(), "x").thumbnail
        assert Image.open(io.BytesIO(thumbnail)).size == (96, 72)


def test_no_thumbnail_with_size_zero():
    assert ImagePreprocessor(Preprocess(32), thumbnail_size=0)(encoded(1), "x").thumbnail is None


@pytest.mark.parametrize("fast", [False, True])
def test_an_image_with_too_many_pixels_is_rejected(fast):
    with pytest.raises(BadSample, match=r"here: too many pixels"):
        ImagePreprocessor(Preprocess(32), fast, max_pixels=1000)(encoded(1), "here")


def test_the_id_depends_on_bytes_and_location():
    assert len({make_row_id(digest, location) for digest in "ab" for location in "ab"}) == 4


def test_the_preprocessor_can_be_pickled():
    preprocess = pickle.loads(pickle.dumps(ImagePreprocessor(Preprocess(32), fast_decode=True)))
    assert preprocess(encoded(1), "x").pixels_3HW.shape == (3, 32, 32)
