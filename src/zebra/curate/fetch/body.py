"""Bodies of responses: decompressed, bounded, and on disk if they are large."""

import tempfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import IO, TYPE_CHECKING

from zebra.curate.fetch.outcome import FetchFailure

if TYPE_CHECKING:
    from aiohttp import ClientResponse

MAX_BODY_BYTES_IN_MEMORY = 1 << 19
"""A longer body goes to a temporary file while it arrives, so that many connections need little memory."""


async def iter_body(response: "ClientResponse", max_bytes: int | None) -> AsyncIterator[bytes]:
    """Yield the parts of a body as they arrive, decompressed.

    Raises:
        FetchFailure: The body is larger than `max_bytes` when decompressed, or its encoding is unknown.
    """
    decompress = _decompressor(response.headers.get("Content-Encoding", ""))
    num_bytes = 0
    async for chunk in response.content.iter_any():
        for part in decompress(chunk):
            num_bytes += len(part)
            if max_bytes is not None and num_bytes > max_bytes:
                raise FetchFailure("permanent", "body is too large", f"more than {max_bytes:,} bytes")
            yield part


class Body:
    """The bytes of a response: in memory if they are few, in a temporary file if they are many."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._num_bytes = 0
        self._file: IO[bytes] | None = None

    def append(self, part: bytes) -> None:
        """Add bytes."""
        self._parts.append(part)
        self._num_bytes += len(part)
        if self._num_bytes > MAX_BODY_BYTES_IN_MEMORY:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
            self._file.writelines(self._parts)
            self._parts.clear()

    def read(self) -> bytes:
        """Return all bytes."""
        if self._file is None:
            return b"".join(self._parts)
        self._file.seek(0)
        return self._file.read()

    def close(self) -> None:
        """Delete the file."""
        if self._file is not None:
            self._file.close()


def _decompressor(encoding: str) -> Callable[[bytes], Iterable[bytes]]:
    """Return a function that maps a chunk to parts of at most 1 MiB, so that a bomb is noticed in time."""
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return lambda chunk: (chunk,)
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise FetchFailure("permanent", "unsupported compression", encoding[:40])
    state = zlib.decompressobj(zlib.MAX_WBITS | 32)  # zlib or gzip, by the first bytes

    def decompress(chunk: bytes) -> Iterator[bytes]:
        while chunk and not state.eof:
            try:
                part = state.decompress(chunk, 1 << 20)
            except zlib.error as error:
                raise FetchFailure("permanent", "damaged compression", str(error)) from error
            if part:
                yield part
            chunk = state.unconsumed_tail

    return decompress
