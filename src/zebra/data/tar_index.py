"""One tar shard in; where each field of each sample lies in it, and where it is damaged if it is, out."""

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
"""A tar ends with at least two blocks of zeros."""

_MEMBER_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
"""WebDataset's split: the key ends at the first dot of the last part of the path."""

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
"""One row per whole sample, its places as offset, size, offset, …; behind them, if the shard is damaged, one row that
holds nothing but the damage."""


@dataclass(slots=True)
class TarSample:
    """Files that stand next to each other under one key."""

    key: str
    fields: dict[str, ByteRange] = field(default_factory=dict)
    """By suffix in lower case."""
    duplicate_field: str | None = None
    """A suffix that came twice in a row; which of the two is meant cannot be known."""
    label: int | None = None
    """The number in .cls; None if there is no such field or no number in it."""


class DamagedShard(DataError):
    """A shard that is not whole; the message names it, the place, and how many samples stand before it."""


class TarIndex:
    """One shard, scanned once: its whole samples in any order, by position.

    The index lies in the cache, bound to the identity of the shard and to the checksum beside it. It is mapped when it
    is needed, and `close` frees it and the shard until the next use.
    """

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        checksum = _read_checksum(blob)
        key = ("shard", TAR_INDEX_SCHEMA.names, *blob.identity, checksum)
        self._table = CachedTable.open_or_build(key, TAR_INDEX_SCHEMA, _index_rows(blob, checksum))
        self.damage: str | None = self._table.arrow_table["damage"][-1].as_py() if len(self._table) else None
        """What is wrong with the shard; None if it is whole."""
        self.digest = self._table.digest
        """sha256 hex over names, places and labels of all samples."""

    def __len__(self) -> int:
        return len(self._table) - (self.damage is not None)

    def sample(self, index: int) -> TarSample:
        """Return where the fields of one sample lie."""
        table = self._table.arrow_table
        key, suffixes, places, repeated, label = (
            table[name][index].as_py() for name in TAR_INDEX_SCHEMA.names[:5]
        )
        fields = dict(zip(suffixes, zip(places[::2], places[1::2], strict=True), strict=True))
        return TarSample(key, fields, repeated, label)

    def start_read(self, byte_ranges: Sequence[ByteRange]) -> Callable[[], list[bytes]]:
        """Begin to read fields; DataError, now or from what is returned, if the shard is not the indexed one."""
        return self.blob.start_read(byte_ranges)

    def labels(self) -> pa.ChunkedArray:
        """Return the labels of all samples, int64, null where there is none; one by one would take seconds for many."""
        return self._table.arrow_table["label"].slice(0, len(self))

    def max_label(self) -> int | None:
        """Return the largest label, None without labels."""
        highest: int | None = pc.max(self._table.arrow_table["label"]).as_py()
        return highest

    def close(self) -> None:
        """Free the shard and the mapped index; both come back when they are needed."""
        self.blob.close()
        self._table.close()


def _index_rows(blob: Blob, checksum: str | None) -> Iterator[RowValues]:
    seen: Counter[str] = Counter()
    try:
        if checksum:
            _verify_checksum(blob, checksum)
        for sample in scan_tar(blob):
            key = escape_unencodable(sample.key)
            seen[key] += 1
            if seen[key] > 1:  # the same key further on is a sample of its own, and ids must differ
                key = f"{key}#{seen[key]}"
            suffixes = [escape_unencodable(suffix) for suffix in sample.fields]
            places = [number for place in sample.fields.values() for number in place]
            yield (
                key,
                suffixes,
                places,
                sample.duplicate_field and escape_unencodable(sample.duplicate_field),
                sample.label,
                None,
            )
    except DamagedShard as damage:
        yield *[None] * 5, str(damage)


def _read_checksum(blob: Blob) -> str | None:
    """Return the digest in `NAME.sha256` beside the shard, which `sha256sum NAME > NAME.sha256` writes."""
    name = f"{blob.name.rpartition('/')[2]}.sha256"
    line = blob.read_sibling(name)
    if line is None:
        return None
    digest = re.match(rb"\\?([0-9a-fA-F]{64})(?:\s|$)", line)
    if not digest:
        raise DataError(f"{name} beside {blob.name} holds no sha256; write it with sha256sum, or delete it")
    return digest[1].decode().lower()


def _verify_checksum(blob: Blob, checksum: str) -> None:
    with _open_blob(blob) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != checksum:
        raise _damaged_shard_error(
            blob, 0, 0, f"its sha256 is {found[:16]}…, but the file beside it says {checksum[:16]}…"
        )


class _DamageFound(Exception):
    def __init__(self, offset: int, detail: str) -> None:
        self.offset = offset
        self.detail = detail


def scan_tar(blob: Blob) -> Iterator[TarSample]:
    """Yield the samples of a shard in order; nothing is extracted, and only regular files count.

    Raises:
        DamagedShard: Names the byte, and how many samples stand before it; the one that the damage may have cut
            is not among them.
    """
    samples = 0
    current: TarSample | None = None
    try:
        with _open_blob(blob) as file:
            for name, place in _iter_members(file, blob.size):
                match = _MEMBER_NAME.fullmatch(name)
                if not match:
                    continue
                key, suffix = match[1], match[2].lower()
                if current is None or current.key != key:
                    if current:
                        yield current
                        samples += 1
                    current = TarSample(key)
                if suffix in current.fields:
                    current.duplicate_field = suffix
                current.fields[suffix] = place
                if suffix == "cls":
                    current.label = _read_label(file, place)
    except _DamageFound as damage:
        raise _damaged_shard_error(blob, damage.offset, samples, damage.detail) from damage
    if current:
        yield current


def _damaged_shard_error(blob: Blob, offset: int, num_samples: int, detail: str) -> DamagedShard:
    return DamagedShard(
        f"{blob.name} is damaged at byte {offset:,}, behind {num_samples:,} whole samples: {detail}. "
        "Download or write this shard again"
    )


@contextmanager
def _open_blob(blob: Blob) -> Iterator[BufferedReader]:
    try:
        with blob.open() as file:
            yield file
    except OSError as error:
        raise DataError(f"cannot read {blob.name}: {error.strerror}") from error


def _iter_members(file: BufferedReader, num_bytes: int) -> Iterator[tuple[str, ByteRange]]:
    """Yield name and place of every regular file, then prove that nothing follows.

    Python's tarfile takes a damaged header for the end of the archive and stops without a word. So whatever lies
    behind the last member must be the end mark, and every member must lie inside the file.
    """
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            while member := tar.next():
                plain = member.isreg() and not member.issparse()
                if plain and member.offset_data + member.size > num_bytes:
                    raise _DamageFound(end, "the file ends before its last member does")
                end = tar.offset
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every header in memory
                if plain:
                    yield member.name, (member.offset_data, member.size)
    except DataError:  # a ValueError too, but no fault of the archive
        raise
    except (tarfile.TarError, EOFError, OverflowError, ValueError) as error:
        what = f"{error}; compressed archives are not shards" if end == 0 else str(error)
        raise _DamageFound(end, what) from error
    if num_bytes - end < END_OF_ARCHIVE_BYTES:
        raise _DamageFound(end, "the file is cut off, its end mark is missing")
    file.seek(end)
    while block := file.read(1 << 20):
        if block.count(0) != len(block):
            raise _DamageFound(end, "what follows is neither a member nor the end mark")


def _read_label(file: BufferedReader, byte_range: ByteRange) -> int | None:
    """Return the number in .cls; tarfile seeks to the next header by itself."""
    offset, size = byte_range
    file.seek(offset)
    text = file.read(min(size, 20)).strip()
    return int(text) if re.fullmatch(rb"\d{1,18}", text) else None
