"""Records of a WARC file, past damaged ones.

A record says its length. If neither another record nor the end follows, the length is wrong: the record is bad, and
reading continues with the next line that begins a record.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zebra.curate.pools.damaged_files import Damage, read_chunks
from zebra.curate.pools.records import BadRecord

MAX_RECORD_BYTES = 64 << 20
MAX_HEADER_BYTES = 1 << 16
_VERSION = b"WARC/"
_NEXT_RECORD = b"\r\n\r\n" + _VERSION
_BLANK_LINES = re.compile(rb"[\r\n]+")


@dataclass(frozen=True, slots=True)
class WarcRecord:
    """A record in memory."""

    place: str
    """Name of the file and number of the record, from 1."""
    headers: dict[str, str]
    """Names in lower case."""
    data: bytes
    """All of it, headers included."""
    block: bytes
    """What follows the headers."""


def read_warc_records(path: Path, name: str) -> Iterator[WarcRecord | BadRecord]:
    """Yield all records of a file, compressed or not; at most one of them is in memory.

    Args:
        path: A WARC file, or one of the same format such as WAT.
        name: Name of the file, for places.
    """
    chunks = _Chunks(path)
    number = 0
    while not chunks.at_end:
        segment = _Segment(chunks)
        is_whole = True
        while not segment.skip_blank_lines():
            number += 1
            record = segment.read_record(f"{name}:{number}")
            is_whole = isinstance(record, WarcRecord) or not segment.is_empty
            if is_whole or chunks.damage is None:
                yield record
        if chunks.damage is not None:  # one reason for the gap and what it left of a record
            yield BadRecord(f"{name}:{number + is_whole}", "damaged file", chunks.damage.detail)
            number += is_whole


class _Chunks:
    """Chunks of a file up to the next gap."""

    def __init__(self, path: Path) -> None:
        self._chunks = read_chunks(path)
        self.at_end = False
        self.damage: Damage | None = None
        """The gap at which the current segment ends."""

    def read(self) -> bytes:
        """Return the next chunk of the segment; empty at its end."""
        chunk = next((chunk for chunk in self._chunks if chunk), None)
        if isinstance(chunk, bytes):
            return chunk
        self.damage, self.at_end = chunk, chunk is None
        return b""


class _Segment:
    """Records between two gaps of a file."""

    def __init__(self, chunks: _Chunks) -> None:
        chunks.damage = None
        self._chunks = chunks
        self._buffer = bytearray()
        self._has_more = True

    @property
    def is_empty(self) -> bool:
        """Return whether all of the segment has been read."""
        return not self._buffer and not self._has_more

    def skip_blank_lines(self) -> bool:
        """Skip what separates records; return whether the segment ends."""
        while True:
            if blank := _BLANK_LINES.match(self._buffer):
                del self._buffer[: blank.end()]
            if self._buffer or not self._fill(1):
                return not self._buffer

    def read_record(self, place: str) -> WarcRecord | BadRecord:
        """Return the record at the start of the buffer, and remove it."""
        header_end = self._find_header_end()
        headers = _parse_headers(self._buffer[: max(header_end, 0)])
        length = headers.get("content-length", "")
        if not self._buffer.startswith(_VERSION) or not (length.isascii() and length.isdigit()):
            self._skip_to_next_record()
            return BadRecord(place, "no WARC record", "the headers are missing or broken")
        end = header_end + int(length)
        if int(length) > MAX_RECORD_BYTES:
            self._skip_to_next_record()
            return BadRecord(place, "record is too large", f"{int(length):,} bytes")
        self._fill(end + len(_NEXT_RECORD))
        following = bytes(self._buffer[end : end + len(_NEXT_RECORD)])
        if len(self._buffer) < end or not _begins_record(following):
            is_cut = len(self._buffer) < end
            found_other = self._skip_to_next_record()
            reason = "truncated record" if is_cut and not found_other else "record of another length than it says"
            return BadRecord(place, reason, f"{int(length):,} bytes by its headers")
        record = WarcRecord(place, headers, bytes(self._buffer[:end]), bytes(self._buffer[header_end:end]))
        del self._buffer[:end]
        return record

    def _find_header_end(self) -> int:
        """Return where the headers end; −1 if they do not."""
        while (end := self._buffer.find(b"\r\n\r\n", 0, MAX_HEADER_BYTES)) < 0:
            if len(self._buffer) >= MAX_HEADER_BYTES or not self._fill(len(self._buffer) + 1):
                return -1
        return end + 4

    def _skip_to_next_record(self) -> bool:
        """Remove everything before the next record; return whether there is one."""
        while (start := self._buffer.find(_NEXT_RECORD, 1)) < 0:
            del self._buffer[: max(0, len(self._buffer) - len(_NEXT_RECORD))]
            if not self._fill(len(self._buffer) + 1):
                self._buffer.clear()
                return False
        del self._buffer[:start]
        return True

    def _fill(self, size: int) -> bool:
        """Read until the buffer has that many bytes; return whether it has."""
        while len(self._buffer) < size and self._has_more:
            chunk = self._chunks.read()
            self._buffer += chunk
            self._has_more = bool(chunk)
        return len(self._buffer) >= size


def _begins_record(following: bytes) -> bool:
    """Return whether bytes after a record are those between two records, or the end of the file."""
    rest = following.lstrip(b"\r\n")
    return not rest or (rest != following and rest.startswith(_VERSION[: len(rest)]))


def _parse_headers(data: bytes | bytearray) -> dict[str, str]:
    lines = bytes(data).decode("utf-8", "replace").splitlines()[1:]
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}
