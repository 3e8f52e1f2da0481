"""Headers of a tar file in file order, in bounded memory and linear time.

Python's tarfile reads a name or pax header of any size into memory, parses pax headers with regular expressions that
can backtrack, follows a negative size backwards, and stops silently at a damaged header. This reader supports ustar,
GNU and pax archives. Each header moves forward, and only the end marker may follow the last member.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from typing import Literal

from zebra.data.remote.blobs import ByteRange

BLOCK_BYTES = 512
END_OF_ARCHIVE_BYTES = 2 * BLOCK_BYTES
"""A tar file ends with at least two blocks of zeros."""
MAX_HEADER_BYTES = 1 << 20
"""Maximum size of a long name or of a pax header; paths are limited to 4 KiB on most systems."""

MemberType = Literal["file", "sparse file", "hard link", "symbolic link", "special file", "folder"]

_MEMBER_TYPES: Mapping[bytes, MemberType] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "special file",
    b"4": "special file",
    b"5": "folder",
    b"6": "special file",
    b"S": "sparse file",
}
_LONG_NAME, _LONG_LINK, _PAX, _PAX_SOLARIS, _PAX_GLOBAL = b"L", b"K", b"x", b"X", b"g"
_PAX_SPARSE_KEYS = (b"GNU.sparse.major", b"GNU.sparse.map", b"GNU.sparse.size")
"""Each version of the sparse format has one of them."""
_PAX_KEYS = (b"path", b"linkpath", b"size", *_PAX_SPARSE_KEYS)
_PAX_LENGTH = re.compile(rb"([1-9][0-9]{0,7}) ")
_OCTAL = re.compile(rb"[0-7]+")


class DamageFound(Exception):
    """The archive is damaged at a byte offset."""

    def __init__(self, offset: int, detail: str) -> None:
        super().__init__(detail)
        self.offset = offset
        self.detail = detail


@dataclass(frozen=True, slots=True)
class TarMember:
    """One member of a tar file."""

    name: str
    """Bytes that are not UTF-8 become surrogates."""
    type: MemberType
    byte_range: ByteRange
    """Empty for links, folders and special files."""
    link_target: str = ""
    """Name of the member that a link names; relative links are resolved."""


class _InvalidHeader(Exception):
    """The block is no tar header."""


def iter_members(file: BufferedReader, num_bytes: int) -> Iterator[TarMember]:
    """Yield all members, then verify that nothing but the end marker follows.

    The caller may move the position of the file.

    Raises:
        DamageFound: The archive is not a tar file, is truncated, or has a damaged header.
    """
    end = 0
    global_pax: dict[str, str] = {}
    while True:
        try:
            header = _read_header(file, end)
            if header is None:
                break
            member, end = _read_member(file, end, header, num_bytes, global_pax)
        except _InvalidHeader as error:
            if end == 0:
                raise DamageFound(0, f"{error}; shards must not be compressed") from error
            break
        yield member
    _verify_end(file, end, num_bytes)


def _verify_end(file: BufferedReader, end: int, num_bytes: int) -> None:
    if num_bytes - end < END_OF_ARCHIVE_BYTES:
        raise DamageFound(end, "the file is truncated: its end marker is missing")
    file.seek(end)
    while block := file.read(1 << 20):
        if block.count(0) != len(block):
            raise DamageFound(end, "neither a member nor the end marker follows")


def _read_header(file: BufferedReader, offset: int) -> bytes | None:
    """Return the header block at an offset, or None for the end marker; raise _InvalidHeader for anything else."""
    file.seek(offset)
    block = file.read(BLOCK_BYTES)
    if not block:
        raise _InvalidHeader("empty file" if offset == 0 else "unexpected end")
    if len(block) < BLOCK_BYTES:
        raise _InvalidHeader("truncated header")
    if block.count(0) == BLOCK_BYTES:
        return None
    expected = _parse_number(block[148:156])
    checksum = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    # Some old programs add signed bytes.
    if expected != checksum and expected != checksum - 256 * sum(byte >= 128 for byte in block[:148] + block[156:]):
        raise _InvalidHeader("bad checksum")
    return block


def _read_member(
    file: BufferedReader, start: int, header: bytes, num_bytes: int, global_pax: dict[str, str]
) -> tuple[TarMember, int]:
    """Return the member whose first header is at `start`, and the end of the member."""
    offset = start + BLOCK_BYTES
    pax, names = dict(global_pax), {}
    while (kind := header[156:157]) in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_SOLARIS, _PAX_GLOBAL):
        data = _read_extension(file, offset, _header_size(header, start), start)
        if kind in (_LONG_NAME, _LONG_LINK):
            names[kind] = data.partition(b"\0")[0]
        else:
            records = _parse_pax(data, start)
            pax |= records
            if kind == _PAX_GLOBAL:
                global_pax |= records
        offset += _padded(len(data))
        try:
            next_header = _read_header(file, offset)
        except _InvalidHeader as error:
            raise DamageFound(start, f"{error} after an extended header") from error
        if next_header is None:
            raise DamageFound(start, "the end marker follows an extended header")
        header, offset = next_header, offset + BLOCK_BYTES
    return _build_member(file, header, offset, start, num_bytes, pax, names)


def _build_member(
    file: BufferedReader,
    header: bytes,
    offset: int,
    start: int,
    num_bytes: int,
    pax: Mapping[str, str],
    long_names: Mapping[bytes, bytes],
) -> tuple[TarMember, int]:
    member_type = _MEMBER_TYPES.get(header[156:157], "special file")
    name = pax.get("path") or _decode(long_names.get(_LONG_NAME) or _header_name(header))
    if member_type == "file" and header[156:157] == b"\0" and name.endswith("/"):  # a folder of the oldest format
        member_type = "folder"
    if header[156:157] == b"S":
        offset = _skip_sparse_map(file, header, offset, start)
    elif any(_decode(key) in pax for key in _PAX_SPARSE_KEYS):
        member_type = "sparse file"
    link_name = pax.get("linkpath") or _decode(long_names.get(_LONG_LINK) or header[157:257].partition(b"\0")[0])
    # Other types than these have data, as in Python's tarfile, even if they are unknown.
    has_data = member_type in ("file", "sparse file") or header[156:157] not in _MEMBER_TYPES
    size = _member_size(header, pax, start) if has_data else 0
    if offset + size > num_bytes:
        raise DamageFound(start, "the file ends inside its last member")
    member = TarMember(name, member_type, (offset, size), _resolve_link(name, member_type, link_name))
    return member, offset + _padded(size)


def _member_size(header: bytes, pax: Mapping[str, str], start: int) -> int:
    if "size" not in pax:
        return _header_size(header, start)
    if not (pax["size"].isascii() and pax["size"].isdecimal()) or len(pax["size"]) > 20:
        raise DamageFound(start, f"the pax size {pax['size'][:40]!r} is not a number")
    return int(pax["size"])


def _header_size(header: bytes, start: int) -> int:
    try:
        size = _parse_number(header[124:136])
    except _InvalidHeader as error:
        raise DamageFound(start, "the size in a header is not a number") from error
    if size < 0:
        raise DamageFound(start, f"a header has the negative size {size}")
    return size


def _parse_number(field: bytes) -> int:
    """Parse octal digits, or a binary number after a byte 0x80 (positive) or 0xff (negative)."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    digits = field.partition(b"\0")[0].strip()
    if digits and not _OCTAL.fullmatch(digits):
        raise _InvalidHeader("invalid number in a header")
    return int(digits or b"0", 8)


def _header_name(header: bytes) -> bytes:
    name, prefix = header[:100].partition(b"\0")[0], header[345:500].partition(b"\0")[0]
    is_gnu = header[156:157] == b"S"  # uses the space of the prefix otherwise
    return prefix + b"/" + name if prefix and not is_gnu else name


def _read_extension(file: BufferedReader, offset: int, size: int, start: int) -> bytes:
    if size > MAX_HEADER_BYTES:
        raise DamageFound(start, f"a name or pax header has {size:,} bytes, more than {MAX_HEADER_BYTES:,}")
    file.seek(offset)
    data = file.read(size)
    if len(data) < size:
        raise DamageFound(start, "the file ends inside a header")
    return data


def _parse_pax(data: bytes, start: int) -> dict[str, str]:
    """Parse records `LENGTH KEY=VALUE` that end in a line feed; the length is that of the whole record."""
    records = {}
    position = 0
    while position < len(data) and data[position]:
        match = _PAX_LENGTH.match(data, position)
        record_end = position + int(match[1]) if match else 0
        if match is None or record_end > len(data) or record_end <= match.end() or data[record_end - 1] != ord("\n"):
            raise DamageFound(start, "a pax header is damaged")
        key, separator, value = data[match.end() : record_end - 1].partition(b"=")
        if not separator:
            raise DamageFound(start, "a pax header is damaged")
        if key in _PAX_KEYS:
            records[_decode(key)] = _decode(value)
        position = record_end
    return records


def _skip_sparse_map(file: BufferedReader, header: bytes, offset: int, start: int) -> int:
    """Return the offset of the data of an old GNU sparse file, after the blocks that continue its map."""
    continues = header[482]
    while continues:
        block = _read_extension(file, offset, BLOCK_BYTES, start)
        continues = block[504]
        offset += BLOCK_BYTES
    return offset


def _resolve_link(name: str, member_type: MemberType, link_name: str) -> str:
    if member_type == "hard link":
        return link_name
    if member_type == "symbolic link":
        return posixpath.normpath(posixpath.join(posixpath.dirname(name), link_name))
    return ""


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
