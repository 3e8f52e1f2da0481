"""TIFF, AVIF, HEIC and JPEG XL: pixels, orientation, damage, bombs, and decoders that are not installed."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zebra.config.data import DataConfig
from zebra.data.sources import open_source
from zebra.errors import BadSample
from zebra.images import decoders
from zebra.images.decode import decode_image
from zebra.images.decoders import can_decode
from zebra.images.exif_location import remove_location
from zebra.images.formats import PILLOW_FORMATS, media_type
from zebra.images.jxl_header import read_jxl_size

SUFFIXES = {"TIFF": ".tif", "AVIF": ".avif", "HEIF": ".heic", "JXL": ".jxl"}
GPS = 0x8825
MEDIA_TYPES = {name: media_type for media_type, name in PILLOW_FORMATS.items()}


def make_photo() -> Image.Image:
    """Return 96 × 64 pixels: the left half red, a blue corner at the top right."""
    pixels = np.full((64, 96, 3), 230, np.uint8)
    pixels[:, :48] = (200, 20, 20)
    pixels[:32, 72:] = (20, 20, 200)
    return Image.fromarray(pixels)


def make_exif(orientation: int = 1, *, has_location: bool = False) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Zebra"
    if has_location:
        exif.get_ifd(GPS).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    return exif


def encode(name: str, image: Image.Image | None = None, exif: Image.Exif | None = None, **options: object) -> bytes:
    assert can_decode(MEDIA_TYPES[name])
    buffer = io.BytesIO()
    if exif is not None and name == "TIFF":
        gps = exif.get_ifd(GPS)
        options["tiffinfo"] = dict(exif) | ({GPS: dict(gps)} if gps else {})
    elif exif is not None:
        options["exif"] = exif.tobytes()
    (image or make_photo()).save(buffer, name, **options)
    return buffer.getvalue()


def reason(data: bytes, **options: int) -> str:
    with pytest.raises(BadSample) as error_info:
        decode_image(data, "here", **options)
    return error_info.value.reason


@pytest.mark.parametrize("name", SUFFIXES)
def test_an_image_has_its_media_type_and_its_pixels(name: str) -> None:
    data = encode(name)
    assert PILLOW_FORMATS[media_type(data)] == name
    image = decode_image(data, "x")
    assert (image.mode, image.size) == ("RGB", (96, 64))
    assert np.abs(np.asarray(image).astype(int) - np.asarray(make_photo())).mean() < 6


@pytest.mark.parametrize("name", ["TIFF", "AVIF", "HEIF"])
def test_an_orientation_turns_the_image_once(name: str) -> None:
    image = decode_image(encode(name, exif=make_exif(6)), "x")
    expected = make_photo().transpose(Image.Transpose.ROTATE_270)
    assert image.size == (64, 96)
    assert np.abs(np.asarray(image).astype(int) - np.asarray(expected)).mean() < 6


def test_the_exif_of_jpeg_xl_does_not_turn_it_because_its_decoder_does() -> None:
    assert decode_image(encode("JXL", exif=make_exif(6)), "x").size == (96, 64)


@pytest.mark.parametrize("name", SUFFIXES)
def test_a_folder_has_images_of_all_formats(tmp_path: Path, name: str) -> None:
    (tmp_path / f"a{SUFFIXES[name]}").write_bytes(encode(name))
    (tmp_path / "a.txt").write_text("a photo")
    source = open_source(str(tmp_path), DataConfig())
    assert len(source) == 1
    assert decode_image(source.read(0).image, "a").size == (96, 64)


@pytest.mark.parametrize("name", ["AVIF", "HEIF", "JXL"])
def test_a_missing_decoder_is_named_with_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encode(name)
    monkeypatch.setattr("zebra.images.decode.can_decode", lambda media_type: media_type != MEDIA_TYPES[name])
    with pytest.raises(BadSample, match=rf"no decoder for {name} \(pip install .*(pillow|zebra-clip\[formats\])"):
        decode_image(data, "here")


def test_a_package_that_cannot_be_imported_is_a_missing_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    decoders.can_decode.cache_clear()
    try:
        for package, media in (("pillow_heif", "image/heic"), ("pillow_jxl", "image/jxl")):
            monkeypatch.setitem(__import__("sys").modules, package, None)
            assert not can_decode(media)
    finally:
        decoders.can_decode.cache_clear()


@pytest.mark.parametrize("name", SUFFIXES)
@settings(max_examples=20, deadline=None)
@given(cut=st.floats(0.01, 0.98), position=st.floats(0, 1), byte=st.integers(0, 255))
def test_damage_is_a_bad_sample_or_an_image(name: str, cut: float, position: float, byte: int) -> None:
    data = encode(name, make_photo().resize((24, 16)))
    flipped = bytearray(data)
    flipped[int(position * (len(data) - 1))] = byte
    for damaged in (data[: int(cut * len(data))], bytes(flipped)):
        try:
            assert decode_image(damaged, "x").mode == "RGB"
        except BadSample as bad:
            assert bad.location == "x"


@pytest.mark.parametrize("name", SUFFIXES)
def test_too_many_pixels_are_refused(name: str) -> None:
    assert reason(encode(name), max_pixels=1_000) == "too many pixels"


@pytest.mark.parametrize("size", [(96, 64), (8, 8), (256, 256), (300, 225), (480, 270), (5_000, 20), (37, 4_111)])
def test_the_size_of_a_jpeg_xl_is_read_from_its_header(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "red")
    assert read_jxl_size(encode("JXL", image)) == size
    assert read_jxl_size(encode("JXL", image, exif=make_exif())) == size


def test_a_jpeg_xl_whose_header_claims_a_billion_pixels_is_not_opened() -> None:
    bits = 0 | 3 << 1 | (99_999 << 3) | 0 << 33 | 3 << 36 | (99_999 << 38)  # height and width of 30 bits
    header = b"\xff\n" + bits.to_bytes(12, "little")
    assert read_jxl_size(header) == (100_000, 100_000)
    assert reason(header) == "too many pixels"


@pytest.mark.parametrize("data", [b"\xff\n", b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\n" + b"\0" * 3])
def test_a_jpeg_xl_without_a_size_is_damaged(data: bytes) -> None:
    assert reason(data) == "damaged image"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I"])
def test_a_tiff_of_any_mode_becomes_rgb(mode: str) -> None:
    assert decode_image(encode("TIFF", make_photo().convert(mode)), "x").mode == "RGB"


@pytest.mark.parametrize("order", "<>")
def test_a_tiff_of_16_bits_keeps_its_levels(order: str) -> None:
    gray = np.linspace(0, 65_535, 64 * 32).reshape(32, 64).astype(f"{order}u2")
    image = Image.frombuffer("I;16B" if order == ">" else "I;16", (64, 32), gray.tobytes(), "raw")
    levels = np.asarray(decode_image(encode("TIFF", image), "x"))[..., 0]
    assert np.abs(levels - gray.astype(float) / 257).max() <= 1


def test_floats_and_previews_of_raw_images_are_refused() -> None:
    assert reason(encode("TIFF", Image.fromarray(np.ones((16, 16), np.float32)))) == "float pixels"
    tags = {254: 1}
    assert reason(encode("TIFF", tiffinfo=tags)) == "raw image"


def test_the_first_page_of_a_tiff_is_taken() -> None:
    pages = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    data = encode("TIFF", pages[0], save_all=True, append_images=pages[1:])
    assert decode_image(data, "x").getpixel((5, 5)) == (255, 0, 0)


@pytest.mark.parametrize("name", SUFFIXES)
def test_the_place_of_an_image_is_removed_and_its_pixels_stay(name: str) -> None:
    data = encode(name, exif=make_exif(has_location=True))
    cleaned = remove_location(data)
    before, after = (Image.open(io.BytesIO(each)) for each in (data, cleaned))
    assert dict(before.getexif().get_ifd(GPS))
    assert not dict(after.getexif().get_ifd(GPS))
    assert after.getexif()[0x010F] == "Zebra"
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert len(cleaned) == len(data)
    assert remove_location(encode(name, exif=make_exif())) == encode(name, exif=make_exif())


def test_a_brand_decides_between_avif_and_heic() -> None:
    def brands(*names: bytes) -> bytes:
        return struct.pack(">I4s4sI", 16 + 4 * len(names[1:]), b"ftyp", names[0], 0) + b"".join(names[1:])

    assert media_type(brands(b"mif1", b"mif1", b"avif")) == "image/avif"
    assert media_type(brands(b"mif1", b"heic")) == "image/heic"
    assert media_type(brands(b"isom", b"mp41")) == "application/octet-stream"
