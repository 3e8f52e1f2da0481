"""The append-only record of downloads, and the bytes of their images.

    attempts.jsonl   a line per outcome; the last line of a URL counts
    images.bin       the bytes of the images that are kept, one after another

Bytes are written before the line that names them. What an interrupted process wrote without a line is cut off.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from zebra.curate.fetch.outcome import FetchedImage
from zebra.errors import DataError

ATTEMPTS_FILE = "attempts.jsonl"
IMAGES_FILE = "images.bin"
_COLUMNS = tuple(field.name for field in fields(FetchedImage) if field.name != "url")
_DIGESTS = ("sha256", "source_sha256")


def url_key(url: str) -> str:
    """Return the identity of a URL: the first 32 hex digits of its SHA-256."""
    return sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def read_fetched(folder: Path, image: FetchedImage) -> bytes:
    """Return the bytes of a kept image.

    Raises:
        DataError: The bytes are missing or have changed.
    """
    with (folder / IMAGES_FILE).open("rb") as file:
        file.seek(image.offset)
        data = file.read(image.num_bytes)
    if sha256(data).digest() != image.sha256:
        raise DataError(
            f"{folder / IMAGES_FILE} is damaged at byte {image.offset}. Delete {folder} and download again."
        )
    return data


class AttemptLog:
    """The outcomes in a folder, and the file of image bytes; one process at a time writes."""

    def __init__(self, folder: Path) -> None:
        """Open or create the folder.

        Raises:
            DataError: Another run is writing to it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lines = (folder / ATTEMPTS_FILE).open("ab+")
        try:
            fcntl.flock(self._lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lines.close()
            raise DataError(
                f"{folder} is in use: another run downloads to it. Wait until it ends, or stop it."
            ) from error
        self._images = (folder / IMAGES_FILE).open("ab")
        self._outcomes: dict[str, dict[str, Any]] = {}
        self._end = 0
        self._recover()

    def get(self, url: str) -> FetchedImage | None:
        """Return the last outcome of a URL."""
        row = self._outcomes.get(url_key(url))
        if row is None:
            return None
        digests = {name: row[name] and bytes.fromhex(row[name]) for name in _DIGESTS}
        return FetchedImage(**(row | digests), url=url)

    def add(self, image: FetchedImage, data: bytes = b"") -> FetchedImage:
        """Append an outcome and, if the image is kept, its bytes; return it with their position.

        Raises:
            OSError: The disk is full, for example.
        """
        key = url_key(image.url)
        row = {name: getattr(image, name) for name in _COLUMNS}
        row |= {name: row[name] and row[name].hex() for name in _DIGESTS}
        if image.status == "kept":
            self._images.write(data)
            self._images.flush()
            row["offset"] = self._end
            self._end += len(data)
        self._lines.write(json.dumps({"key": key} | row).encode() + b"\n")
        self._lines.flush()
        self._outcomes[key] = row
        return replace(image, offset=row["offset"])

    def close(self) -> None:
        """Flush both files to disk and release the folder."""
        for file in (self._images, self._lines):
            os.fsync(file.fileno())
            file.close()

    def _recover(self) -> None:
        """Read the outcomes whose bytes exist, and cut off an incomplete line and bytes without one."""
        num_bytes = (self.folder / IMAGES_FILE).stat().st_size
        complete = 0
        for line in self._iter_lines():
            complete += len(line)
            row = json.loads(line)
            key, end = row.pop("key"), row["offset"] + row["num_bytes"]
            if end > num_bytes:  # a power failure may lose bytes that were written before the line
                self._outcomes.pop(key, None)
                continue
            self._outcomes[key] = row
            self._end = max(self._end, end)
        self._lines.truncate(complete)
        self._images.truncate(self._end)

    def _iter_lines(self) -> Iterator[bytes]:
        self._lines.seek(0)
        for line in self._lines:
            if not line.endswith(b"\n"):
                return
            yield line
