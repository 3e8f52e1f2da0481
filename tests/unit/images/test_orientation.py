"""EXIF orientation: the results of Pillow, in bounded time."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from zebra.images.decode import decode_image
from zebra.images.orientation import apply_orientation, read_orientation

ORIENTATION, SHORT, LONG, RATIONAL = 0x0112, 3, 4, 5
PIXELS = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(10, 12, 3)


def tiff(entries: list[tuple[int, int, int, bytes]], order: str = "<", tail: bytes = b"") -> bytes:
    """Return a TIFF file of one directory: tag, type, count, value of four bytes."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    return head + b"".join(struct.pack(f"{order}HHI4s", *entry) for entry in entries) + bytes(4) + tail


def with_info(**info) -> Image.Image:
    image = Image.fromarray(PIXELS)
    image.info.update({key.replace("_", " "): value for key, value in info.items()})
    return image


def upright_by_pillow(image: Image.Image) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(image.copy()))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_gives_the_pixels_of_pillow(orientation: int, order: str) -> None:
    value = struct.pack(f"{order}H2x", orientation)
    image = with_info(exif=b"Exif\0\0" + tiff([(ORIENTATION, SHORT, 1, value)], order))
    assert np.array_equal(np.asarray(apply_orientation(image)), upright_by_pillow(image))
    assert (read_orientation(image) != 1) == (2 <= orientation <= 8)


XMP = '<x:xmpmeta tiff:Orientation="6"/>'


@pytest.mark.filterwarnings("ignore:Metadata Warning:UserWarning")
@pytest.mark.parametrize(
    "info",
    [
        {"xmp": XMP.encode()},
        {"XML:com.adobe.xmp": XMP},
        {"XML:com.adobe.xmp": "<tiff:Orientation>8</tiff:Orientation>", "exif": b"Exif\0\0" + tiff([])},
        {"exif": tiff([(ORIENTATION, LONG, 1, struct.pack("<I", 3))]), "xmp": XMP.encode()},
        {"Raw profile type exif": "\nexif\n  30\n" + tiff([(ORIENTATION, SHORT, 1, b"\x05\0\0\0")]).hex() + "\n"},
        {"exif": tiff([(0x0100, SHORT, 1, b"\x09\0\0\0"), (ORIENTATION, SHORT, 2, b"\x06\0\x08\0")])},
        {"exif": tiff([(ORIENTATION, SHORT, 3, struct.pack("<I", 26))], tail=struct.pack("<3H", 8, 6, 3))},
    ],
)
def test_every_place_of_an_orientation_is_read_as_pillow_reads_it(info) -> None:
    image = Image.fromarray(PIXELS)
    image.info.update(info)
    assert np.array_equal(np.asarray(apply_orientation(image)), upright_by_pillow(image))


def test_an_upright_image_has_no_orientation_left() -> None:
    image = with_info(exif=tiff([(ORIENTATION, SHORT, 1, b"\x06\0\0\0")]), xmp=XMP.encode())
    upright = apply_orientation(image)
    assert upright.size == (10, 12)
    assert apply_orientation(upright) is upright
    assert image.size == (12, 10) and "exif" in image.info  # the image of the caller is unchanged


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda tail: b"II*\0\x08\0\0\0" + tail)))
def test_any_metadata_gives_an_orientation(exif: bytes) -> None:
    assert 1 <= read_orientation(with_info(exif=exif, xmp=exif)) <= 8


def test_an_orientation_of_a_million_rationals_is_ignored() -> None:
    exif = tiff([(ORIENTATION, RATIONAL, 1_000_000, struct.pack("<I", 26))], tail=struct.pack("<II", 6, 1) * 1_000_000)
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    png = buffer.getvalue()
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    image = decode_image(png[:33] + chunk + png[33:], "here")
    assert np.array_equal(np.asarray(image), PIXELS)
