"""The image files of a request: base64, limits by header, and files behind URLs."""

import asyncio
import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zebra.errors import BadSample
from zebra.serve.concurrency import gather_or_cancel
from zebra.serve.errors import HTTPError
from zebra.serve.fetch import fetch_url
from zebra.serve.image_header import read_num_pixels
from zebra.serve.image_limits import require_allowed
from zebra.serve.limits import MAX_BODY_BYTES, MAX_PIXELS
from zebra.serve.requests import RequestImage

DATA_URI_PATTERN = re.compile(r"data:[^,]{0,100};base64,", re.IGNORECASE)
NUM_FETCHES = 4
"""Images of one request that are fetched at once."""
_STANDARD_ALPHABET = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An encoded image that is small enough to decode."""

    data: bytes
    where: str
    """Name of the image in errors."""
    num_pixels: int
    """Width × height, by its header."""


async def load_image_files(images: Sequence[RequestImage], allowed_hosts: Iterable[str]) -> dict[int, ImageFile]:
    """Return the files of images that are uploaded or given as data or as URLs, by their index in the request.

    Raises:
        BadSample: The data is not base64, or not an image of an allowed format and size.
        HTTPError: A URL cannot be fetched, or the fetched files are larger than a body may be (400).
    """
    data = {index: image.file for index, image in enumerate(images) if image.file is not None}
    data |= {
        index: decode_base64(image.data, _name(index)) for index, image in enumerate(images) if image.data is not None
    }
    hosts, semaphore = frozenset(host.lower() for host in allowed_hosts), asyncio.Semaphore(NUM_FETCHES)
    num_fetched_bytes = 0

    async def fetch(index: int, url: str) -> None:
        nonlocal num_fetched_bytes
        async with semaphore:
            data[index] = await fetch_url(url, hosts, max_bytes=MAX_BODY_BYTES)
        num_fetched_bytes += len(data[index])
        if num_fetched_bytes > MAX_BODY_BYTES:
            raise HTTPError(400, f"the images are too large: a request may fetch {MAX_BODY_BYTES:,} bytes")

    await gather_or_cancel([fetch(index, image.url) for index, image in enumerate(images) if image.url is not None])
    return {index: open_image_file(encoded, _name(index)) for index, encoded in sorted(data.items())}


def open_image_file(data: bytes, where: str) -> ImageFile:
    """Check format and size by the header; BadSample if the image is not decoded."""
    require_allowed(data, where)
    num_pixels = read_num_pixels(data)
    if num_pixels is None:
        raise BadSample("damaged image", where, "its header holds no width and height")
    if num_pixels > MAX_PIXELS:
        raise BadSample("too many pixels", where, f"{num_pixels:,}, more than {MAX_PIXELS:,}")
    return ImageFile(data, where, num_pixels)


def decode_base64(text: str, where: str) -> bytes:
    """Decode base64 in lines or in one, of the standard or the URL alphabet, also after the prefix of a data URI.

    Raises:
        BadSample: The text is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    prefix = DATA_URI_PATTERN.match(text)
    plain = "".join(text[prefix.end() if prefix else 0 :].split()).translate(_STANDARD_ALPHABET)
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSample("data is not base64", where, f"{error}; send the bytes of the file in base64") from error


def _name(index: int) -> str:
    return f"image {index}"
