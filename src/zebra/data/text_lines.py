"""Decoded lines of a text file, with a limit on their length."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import pyarrow as pa

from zebra.data.regular_files import open_regular_file
from zebra.errors import DataError

MAX_LINE_CHARS = 1 << 26
"""Longest line that is read, so that no file exhausts the memory. An embedded image of 48 MB fits in base64."""

UNICODE_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose byte order mark is a prefix of it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
FOREIGN_SIGNATURES = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook. Save the sheet as CSV UTF-8, or unpack the archive"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook. Save the sheet as CSV UTF-8"),
    (b"\x1f\x8b", "compressed with gzip. Decompress it, or add .gz to its name"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd. Decompress it, or add .zst to its name"),
    (b"BZh", "compressed with bzip2. Decompress it"),
    (b"PAR1", "a Parquet file. Name it .parquet"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself. Run git lfs pull"),
    (b"<!doctype html", "a web page. Download the file itself"),
    (b"<html", "a web page. Download the file itself"),
)
"""First bytes in lower or upper case → what such a file is, and what to do."""
HEAD_BYTES = 4096


class LineTooLong(Exception):
    """A line has more than MAX_LINE_CHARS characters; the next call continues after it."""


class TextLines(Iterator[str]):
    """The lines of a file with their ends, as the csv module needs them."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.number = 0
        """Number of the current line, from 1."""

    def __next__(self) -> str:
        line = self._file.readline(MAX_LINE_CHARS)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) < MAX_LINE_CHARS or line[-1] in "\r\n":
            return line
        while (rest := self._file.readline(MAX_LINE_CHARS)) and rest[-1] not in "\r\n":
            pass
        raise LineTooLong


@contextmanager
def open_text_lines(path: Path) -> Iterator[TextLines]:
    """Open a text file as UTF-8, or as UTF-16 or UTF-32 if it has a byte order mark; .gz and .zst are decompressed.

    Undecodable bytes of UTF-8 become surrogates, so that only the row with them is bad.

    Raises:
        DataError: The file cannot be read, or is no text.
    """
    encoding = detect_encoding(path)
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    lines: TextLines | None = None
    try:
        with _open_binary(path) as binary, io.TextIOWrapper(binary, encoding, errors, newline="") as file:
            lines = TextLines(file)
            yield lines
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise DataError(
            f"{path} is damaged after line {lines.number if lines else 0} ({error}). Copy or write it again"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is damaged near line {lines.number if lines else 1} ({error.reason} in {encoding.upper()}). "
            "Write or copy it again"
        ) from error


def detect_encoding(path: Path) -> str:
    """Return the encoding of a text file by its byte order mark; without one, UTF-8.

    Raises:
        DataError: The file cannot be read, is no text, or has zero bytes in its first line.
    """
    try:
        with _open_binary(path) as file:
            head = file.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    for signature, description in FOREIGN_SIGNATURES:
        if head.lower().startswith(signature.lower()):
            raise DataError(f"{path} is {description}")
    for bom, encoding in UNICODE_BOMS:
        if head.startswith(bom):
            return encoding
    if b"\0" in head.partition(b"\n")[0]:
        raise DataError(
            f"{path} is not UTF-8: its first line has zero bytes, as in UTF-16 without a byte order mark. Save it as "
            "UTF-8"
        )
    return "utf-8"


@contextmanager
def _open_binary(path: Path) -> Iterator[IO[bytes]]:
    with open_regular_file(path) as file:
        match path.suffix.lower():
            case ".gz":
                with gzip.open(file) as decompressed:
                    yield cast("IO[bytes]", decompressed)
            case ".zst":
                with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as decompressed:
                    yield decompressed
            case _:
                yield file
