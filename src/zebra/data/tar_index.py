"""Index of a tar shard: byte ranges of the fields of each sample, and damage."""

import hashlib
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader

import pyarrow as pa
import pyarrow.compute as pc

from zebra.data.cached_table import CachedTable, RowValues
from zebra.data.columns import escape_unencodable
from zebra.data.remote.blobs import Blob, ByteRange
from zebra.errors import DataError

END_OF_ARCHIVE_BYTES = 1024
"""A tar file ends with at least two blocks of zeros."""

_MEMBER_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
"""As in WebDataset, the key ends at the first dot of the file name."""

TAR_INDEX_SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "suffixes": pa.list_(pa.string()),
        "byte_ranges": pa.list_(pa.int64()),
        "duplicate_field": pa.string(),
        "label": pa.int64(),
        "damage": pa.string(),
    }
)
"""One row per complete sample, its byte ranges as offset, size, offset, size, …. A damaged shard has one more row with
only the column `damage`."""


@dataclass(slots=True)
class TarSample:
    """Adjacent files with the same key."""

    key: str
    fields: dict[str, ByteRange] = field(default_factory=dict)
    """Lower-case suffix → byte range."""
    duplicate_field: str | None = None
    """A suffix that occurs twice, so that the sample is ambiguous."""
    label: int | None = None
    """The number in .cls; None without such a field or without a number in it."""


class DamagedShard(DataError):
    """A damaged shard; the message has its name, the byte offset and the number of complete samples before it."""


class TarIndex:
    """The complete samples of one shard, by position.

    The shard is scanned once. The index is cached under the identity of the shard and the checksum file beside it. It
    is memory-mapped on demand; `close` frees it and the shard until the next use.
    """

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        checksum = _read_checksum(blob)
        key = ("shard", TAR_INDEX_SCHEMA.names, *blob.identity, checksum)
        self._table = CachedTable.open_or_build(key, TAR_INDEX_SCHEMA, _index_rows(blob, checksum))
        self.damage: str | None = self._table.arrow_table["damage"][-1].as_py() if len(self._table) else None
        """Error message for a damaged shard, else None."""
        self.digest = self._table.digest
        """SHA-256 in hex over keys, byte ranges and labels of all samples."""

    def __len__(self) -> int:
        return len(self._table) - (self.damage is not None)

    def sample(self, index: int) -> TarSample:
        """Return the byte ranges and the label of one sample."""
        table = self._table.arrow_table
        key, suffixes, numbers, duplicate_field, label = (
            table[name][index].as_py() for name in TAR_INDEX_SCHEMA.names[:5]
        )
        fields = dict(zip(suffixes, zip(numbers[::2], numbers[1::2], strict=True), strict=True))
        return TarSample(key, fields, duplicate_field, label)

    def start_read(self, byte_ranges: Sequence[ByteRange]) -> Callable[[], list[bytes]]:
        """Start to read fields; the result waits for them. Both raise DataError if the shard has changed."""
        return self.blob.start_read(byte_ranges)

    def labels(self) -> pa.ChunkedArray:
        """Return the labels of all samples, int64 with nulls, much faster than one `sample` at a time."""
        return self._table.arrow_table["label"].slice(0, len(self))

    def max_label(self) -> int | None:
        """Return the largest label, or None without labels."""
        label: int | None = pc.max(self._table.arrow_table["label"]).as_py()
        return label

    def close(self) -> None:
        """Free the shard and the mapped index until the next use."""
        self.blob.close()
        self._table.close()


def _index_rows(blob: Blob, checksum: str | None) -> Iterator[RowValues]:
    key_counts: Counter[str] = Counter()
    try:
        if checksum:
            _verify_checksum(blob, checksum)
        for sample in scan_tar(blob):
            key = escape_unencodable(sample.key)
            key_counts[key] += 1
            if key_counts[key] > 1:  # a key that occurs again later is another sample, and IDs must be unique
                key = f"{key}#{key_counts[key]}"
            suffixes = [escape_unencodable(suffix) for suffix in sample.fields]
            numbers = [number for byte_range in sample.fields.values() for number in byte_range]
            yield (
                key,
                suffixes,
                numbers,
                sample.duplicate_field and escape_unencodable(sample.duplicate_field),
                sample.label,
                None,
            )
    except DamagedShard as damage:
        yield *[None] * 5, str(damage)


def _read_checksum(blob: Blob) -> str | None:
    """Return the digest in `NAME.sha256` beside the shard, as written by `sha256sum NAME > NAME.sha256`."""
    name = f"{blob.name.rpartition('/')[2]}.sha256"
    line = blob.read_sibling(name)
    if line is None:
        return None
    match = re.match(rb"\\?([0-9a-fA-F]{64})(?:\s|$)", line)
    if not match:
        raise DataError(f"no sha256 in {name} beside {blob.name}. Write it with sha256sum, or delete it")
    return match[1].decode().lower()


def _verify_checksum(blob: Blob, checksum: str) -> None:
    with _open_blob(blob) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != checksum:
        raise _damaged_shard_error(
            blob, 0, 0, f"its sha256 is {digest[:16]}…, but the checksum file has {checksum[:16]}…"
        )


class _DamageFound(Exception):
    def __init__(self, offset: int, detail: str) -> None:
        self.offset = offset
        self.detail = detail


def scan_tar(blob: Blob) -> Iterator[TarSample]:
    """Yield the samples of a shard in order, from its regular files; nothing is extracted.

    Raises:
        DamagedShard: With the byte offset and the number of complete samples. The last sample before the damage is left
            out, because it may be incomplete.
    """
    num_samples = 0
    current: TarSample | None = None
    try:
        with _open_blob(blob) as file:
            for name, byte_range in _iter_members(file, blob.size):
                match = _MEMBER_NAME.fullmatch(name)
                if not match:
                    continue
                key, suffix = match[1], match[2].lower()
                if current is None or current.key != key:
                    if current:
                        yield current
                        num_samples += 1
                    current = TarSample(key)
                if suffix in current.fields:
                    current.duplicate_field = suffix
                current.fields[suffix] = byte_range
                if suffix == "cls":
                    current.label = _read_label(file, byte_range)
    except _DamageFound as damage:
        raise _damaged_shard_error(blob, damage.offset, num_samples, damage.detail) from damage
    if current:
        yield current


def _damaged_shard_error(blob: Blob, offset: int, num_samples: int, detail: str) -> DamagedShard:
    return DamagedShard(
        f"{blob.name} is damaged at byte {offset:,}, after {num_samples:,} complete samples: {detail}. "
        "Download or write the shard again"
    )


@contextmanager
def _open_blob(blob: Blob) -> Iterator[BufferedReader]:
    try:
        with blob.open() as file:
            yield file
    except OSError as error:
        raise DataError(f"cannot read {blob.name}: {error.strerror}") from error


def _iter_members(file: BufferedReader, num_bytes: int) -> Iterator[tuple[str, ByteRange]]:
    """Yield name and byte range of every regular file, then verify that nothing but the end marker follows.

    Python's tarfile stops silently at a damaged header, as if the archive ended there. Therefore every member must end
    inside the file, and only the end marker may follow the last one.
    """
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            while member := tar.next():
                is_regular = member.isreg() and not member.issparse()
                if is_regular and member.offset_data + member.size > num_bytes:
                    raise _DamageFound(end, "the file ends inside its last member")
                end = tar.offset
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every header in memory
                if is_regular:
                    yield member.name, (member.offset_data, member.size)
    except DataError:  # is a ValueError too, but the archive is not damaged
        raise
    except (tarfile.TarError, EOFError, OverflowError, ValueError) as error:
        detail = f"{error}; shards must not be compressed" if end == 0 else str(error)
        raise _DamageFound(end, detail) from error
    if num_bytes - end < END_OF_ARCHIVE_BYTES:
        raise _DamageFound(end, "the file is truncated: its end marker is missing")
    file.seek(end)
    while block := file.read(1 << 20):
        if block.count(0) != len(block):
            raise _DamageFound(end, "neither a member nor the end marker follows")


def _read_label(file: BufferedReader, byte_range: ByteRange) -> int | None:
    """Return the number in .cls. tarfile seeks to the next header itself, so the position need not be restored."""
    offset, size = byte_range
    file.seek(offset)
    text = file.read(min(size, 20)).strip()
    return int(text) if re.fullmatch(rb"\d{1,18}", text) else None
