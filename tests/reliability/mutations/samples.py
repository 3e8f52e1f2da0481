"""Small encoded images, damaged and unusual ones too, and unusual captions."""

import io
import random

from PIL import Image

COLORS = ("red", "blue", "green", "yellow", "black", "white", "purple", "orange")


def encode_image(number: int, format: str = "JPEG", size: tuple[int, int] = (24, 20), mode: str = "RGB") -> bytes:
    """Return an image whose color depends on the number."""
    buffer = io.BytesIO()
    color = (number * 37 % 256, number * 101 % 256, number * 151 % 256)
    Image.new("RGB", size, color).convert(mode).save(buffer, format)
    return buffer.getvalue()


def caption(number: int) -> str:
    """Return a caption that is different for each number."""
    return f"a {COLORS[number % len(COLORS)]} square, number {number}"


def odd_image(rng: random.Random, number: int) -> bytes:
    """Return the bytes of an image that is damaged, of another format or otherwise unusual."""
    jpeg, png = encode_image(number), encode_image(number, "PNG")
    kinds = (
        lambda: b"",
        lambda: jpeg[: rng.randrange(1, len(jpeg))],
        lambda: png[: rng.randrange(1, len(png))],
        lambda: b"no image",
        lambda: b"<!DOCTYPE html><html>404</html>",
        lambda: bytes(200),
        lambda: encode_image(number, rng.choice(("PNG", "WEBP", "GIF", "BMP", "TIFF", "ICO"))),
        lambda: encode_image(number, "PNG", mode=rng.choice(("L", "1", "P", "LA", "RGBA", "I;16"))),
        lambda: encode_image(number, "JPEG", mode="CMYK"),
        lambda: encode_image(number, size=rng.choice(((1, 1), (7, 7), (400, 9), (8, 8)))),
        lambda: jpeg + b"trailing bytes",
        lambda: b"\n" + jpeg,
        lambda: _flip_bytes(rng, rng.choice((jpeg, png))),
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    )
    return rng.choice(kinds)()


def _flip_bytes(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def odd_caption(rng: random.Random, number: int) -> bytes:
    """Return the bytes of a caption file that is empty, in another encoding or otherwise unusual."""
    text = f"{caption(number)} in a café"
    kinds = (
        lambda: b"",
        lambda: b" \r\n\t",
        lambda: b"\xef\xbb\xbf",
        lambda: text.encode("utf-8-sig"),
        lambda: text.encode("cp1252"),
        lambda: text.encode("utf-16"),
        lambda: text.encode("utf-16-le"),
        f"{text}\0".encode,
        f"{text}\r\nsecond line\r\n".encode,
        lambda: text.encode() * 500,
        "\u200b\u2028\ufeff 🦓".encode,
        lambda: b"\xed\xa0\x80",
    )
    return rng.choice(kinds)()
