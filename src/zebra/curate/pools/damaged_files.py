"""Decompressed chunks of a file that may be damaged."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import pyarrow as pa

from zebra.data.regular_files import open_regular_file
from zebra.errors import DataError

CHUNK_BYTES = 1 << 17
"""Bytes read at a time; gzip copies the rest of them for every member."""
GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
MAX_UNVERIFIED_CHUNKS = 8
"""Contents of a gzip member that are held back until its checksum is verified; those of larger ones are not."""
MAX_RESCANNED_BYTES = 8 << 20
"""Bytes of a damaged gzip member in which the next member is looked for."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A gap in a file; reading continues behind it."""

    detail: str


def read_chunks(path: Path) -> Iterator[bytes | Damage]:
    """Yield the contents, decompressed if the suffix or the first bytes say gzip or zstd.

    Behind a damaged gzip member, reading continues with the next one; a damaged zstd file ends at the damage.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with open_regular_file(path) as file:
            head, suffix = file.peek(4), path.suffix.lower()
            if head.startswith(GZIP_MAGIC) or suffix == ".gz":
                yield from _read_gzip(file)
            elif head.startswith(ZSTD_MAGIC) or suffix == ".zst":
                yield from _read_zstd(file)
            else:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}. Check the file, or leave it out") from error


def _read_gzip(file: BufferedReader) -> Iterator[bytes | Damage]:
    compressed = file.read(CHUNK_BYTES)
    while compressed:  # a member, or padding
        if not compressed.strip(b"\0"):
            compressed = file.read(CHUNK_BYTES)
            continue
        member, decompressor = bytearray(compressed), zlib.decompressobj(zlib.MAX_WBITS | 16)
        unverified: list[bytes] = []
        try:
            while not decompressor.eof:
                unverified.append(decompressor.decompress(compressed, CHUNK_BYTES))
                compressed = decompressor.unconsumed_tail
                if decompressor.eof or len(unverified) > MAX_UNVERIFIED_CHUNKS:
                    yield b"".join(unverified)
                    unverified = []
                elif not compressed and len(unverified[-1]) < CHUNK_BYTES:  # else more may come without more input
                    if not (compressed := file.read(CHUNK_BYTES)):
                        yield b"".join(unverified)
                        yield Damage("the file ends within a gzip member")
                        return
                    if len(member) < MAX_RESCANNED_BYTES:
                        member += compressed
            compressed = decompressor.unused_data or file.read(CHUNK_BYTES)
        except zlib.error as error:
            yield Damage(f"damaged gzip member: {error}")
            compressed = _find_member(bytes(member[1:]), file)


def _find_member(compressed: bytes, file: BufferedReader) -> bytes:
    """Return what is read of the file from the start of the next member; empty if there is none."""
    while (start := compressed.find(GZIP_MAGIC)) < 0:
        chunk = file.read(CHUNK_BYTES)
        if not chunk:
            return b""
        compressed = compressed[-len(GZIP_MAGIC) + 1 :] + chunk
    return compressed[start:]


def _read_zstd(file: BufferedReader) -> Iterator[bytes | Damage]:
    try:
        with pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except (OSError, pa.ArrowException) as error:
        yield Damage(f"damaged zstd file: {error}")
