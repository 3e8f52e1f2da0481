"""The place of an image is removed without touching anything else."""

import io
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from zebra.images.exif import read_exif
from zebra.images.exif_location import remove_location

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description exif:GPSLatitude="52,31.2N" exif:FNumber="28/10"'
    b" exif:GPSLongitude='13,24.3E'><exif:GPSAltitude>34</exif:GPSAltitude></rdf:Description></x:xmpmeta>"
)
FORMATS = ("JPEG", "PNG", "WEBP")


def encode(image_format: str, *, has_location: bool = True, xmp: bytes | None = None) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Zebra", "Stripe 1", 6
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:09"
    if has_location:
        latitude, longitude = (Fraction(52), Fraction(31), Fraction(12)), (Fraction(13), Fraction(24), Fraction(18))
        exif.get_ifd(0x8825).update({1: "N", 2: latitude, 3: "E", 4: longitude, 29: "2024:05:06"})
    options = {}
    if xmp is not None and image_format == "PNG":
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif xmp is not None:
        options["xmp"] = xmp
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, image_format, exif=exif, **options)
    return buffer.getvalue()


def read(data: bytes) -> tuple[Image.Image, Image.Exif]:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image, image.getexif()


@pytest.mark.parametrize("image_format", FORMATS)
def test_coordinates_are_removed_and_everything_else_stays(image_format: str) -> None:
    data = encode(image_format, xmp=XMP)
    assert read_exif(read(data)[0]).latitude == pytest.approx(52.52)
    cleaned = remove_location(data)
    assert len(cleaned) == len(data)
    (before, _), (after, exif) = read(data), read(cleaned)
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert dict(exif.get_ifd(0x8825)) == {}
    values = read_exif(after)
    assert (values.latitude, values.longitude) == (None, None)
    assert values.camera == read_exif(before).camera == "Zebra Stripe 1"
    assert values.taken == read_exif(before).taken is not None
    assert exif[0x0112] == 6
    assert b"GPSL" not in cleaned
    assert b"GPSA" not in cleaned
    assert b"exif:FNumber" in cleaned
    assert b"2024:05:06\0" not in cleaned  # the date of the position
    assert remove_location(cleaned) is cleaned


@pytest.mark.parametrize("image_format", [*FORMATS, "GIF", "BMP"])
def test_an_image_without_a_location_is_the_same_object(image_format: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, image_format)
    for data in (buffer.getvalue(), encode("JPEG", has_location=False), b"", b"no image"):
        assert remove_location(data) is data


@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    st.integers(0, 700),
)
def test_damaged_files_keep_their_length_and_end(
    image_format: str, changes: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(encode(image_format, xmp=XMP))
    for position, value in changes:
        data[position] = value
    for damaged in (bytes(data), bytes(data[:length])):
        assert len(remove_location(damaged)) == len(damaged)
