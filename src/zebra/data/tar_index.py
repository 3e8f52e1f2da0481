"""Index of a tar shard: byte ranges of the fields of each sample, and damage."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from zebra.data.cached_table import CachedTable, RowValues
from zebra.data.ignored import HIDDEN, Ignored, IgnoredCounter
from zebra.data.remote.blobs import Blob, ByteRange
from zebra.data.tar_members import DamageFound, TarMember, iter_members
from zebra.errors import DataError, escape_unencodable

MAX_LINKS = 8
"""Maximum number of links from a link to the file that it names."""

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
"""One row per complete sample, its byte ranges as offset, size, offset, size, ….

A shard that is damaged or has ignored members has one more row, whose key is null. It has the damage, the reason and
example of each kind of ignored members in `suffixes`, and the counts in `byte_ranges`.
"""


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
        key = ("shard 2", TAR_INDEX_SCHEMA.names, *blob.identity, checksum)
        self._table = CachedTable.open_or_build(key, TAR_INDEX_SCHEMA, _index_rows(blob, checksum))
        last_row = self._table.row(len(self._table) - 1) if len(self._table) else {"key": ""}
        self._has_summary = last_row["key"] is None
        self.damage: str | None = last_row["damage"] if self._has_summary else None
        """Error message for a damaged shard, else None."""
        self.ignored: tuple[Ignored, ...] = _parse_ignored(last_row) if self._has_summary else ()
        """Members that belong to no sample: links out of the shard, special files, names without a suffix."""
        self.digest = self._table.digest
        """SHA-256 in hex over keys, byte ranges and labels of all samples."""

    def __len__(self) -> int:
        return len(self._table) - self._has_summary

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
    ignored, damage = IgnoredCounter(), None
    try:
        if checksum:
            _verify_checksum(blob, checksum)
        for sample in scan_tar(blob, ignored):
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
    except DamagedShard as error:
        damage = str(error)
    if damage or ignored.entries():
        texts = [escape_unencodable(text) for entry in ignored.entries() for text in (entry.reason, entry.example)]
        yield None, texts or None, [entry.count for entry in ignored.entries()] or None, None, None, damage


def _parse_ignored(row: Mapping[str, Any]) -> tuple[Ignored, ...]:
    texts, counts = row["suffixes"] or (), row["byte_ranges"] or ()
    return tuple(
        Ignored(reason, count, example) for reason, count, example in zip(texts[::2], counts, texts[1::2], strict=True)
    )


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


def scan_tar(blob: Blob, ignored: IgnoredCounter) -> Iterator[TarSample]:
    """Yield the samples of a shard in order; a link stands for the file of the shard that it names.

    Args:
        blob: The shard.
        ignored: Counts members that belong to no sample, except folders.

    Raises:
        DamagedShard: With the byte offset and the number of complete samples. The last sample before the damage is left
            out, because it may be incomplete.
    """
    num_samples = 0
    current: TarSample | None = None
    members_by_name: dict[str, TarMember] | None = None
    try:
        with _open_blob(blob) as file:
            for member in iter_members(file, blob.size):
                if member.link_target and members_by_name is None:
                    members_by_name = _map_members(blob)
                target = _follow_links(member, members_by_name or {})
                match = _MEMBER_NAME.fullmatch(member.name)
                if target.type != "file" or not match:
                    _count_ignored(member, ignored)
                    continue
                key, suffix = match[1], match[2].lower()
                if current is None or current.key != key:
                    if current:
                        yield current
                        num_samples += 1
                    current = TarSample(key)
                if suffix in current.fields:
                    current.duplicate_field = suffix
                current.fields[suffix] = target.byte_range
                if suffix == "cls":
                    current.label = _read_label(file, target.byte_range)
    except DamageFound as damage:
        raise _damaged_shard_error(blob, damage.offset, num_samples, damage.detail) from damage
    if current:
        yield current


def _map_members(blob: Blob) -> dict[str, TarMember]:
    """Return the members of a shard by name, up to its damage; only shards with links need them all in memory."""
    members = {}
    try:
        with _open_blob(blob) as file:
            for member in iter_members(file, blob.size):
                members[member.name] = member
    except DamageFound:  # raised again by the caller's own scan
        pass
    return members


def _follow_links(member: TarMember, members_by_name: Mapping[str, TarMember]) -> TarMember:
    """Return the file that a link names, or the last link that leads nowhere."""
    for _ in range(MAX_LINKS):
        if not member.link_target or member.link_target not in members_by_name:
            break
        member = members_by_name[member.link_target]
    return member


def _count_ignored(member: TarMember, ignored: IgnoredCounter) -> None:
    if member.type == "folder":
        return
    if member.type != "file":
        is_link = bool(member.link_target)
        ignored.add(f"{member.type} to no file of the shard" if is_link else member.type, member.name)
    elif PurePosixPath(member.name).name.startswith("."):
        ignored.add(HIDDEN, member.name)
    else:
        ignored.add_by_suffix(member.name)


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


def _read_label(file: BufferedReader, byte_range: ByteRange) -> int | None:
    """Return the number in .cls, or None if it has no number."""
    offset, size = byte_range
    file.seek(offset)
    text = file.read(min(size, 20)).strip()
    return int(text) if re.fullmatch(rb"\d{1,18}", text) else None
