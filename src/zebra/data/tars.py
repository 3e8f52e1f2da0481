"""One tar shard in; where each field of each sample lies in it, or the byte at which it is damaged, out."""

import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from zebra.data.index import Index, Row
from zebra.errors import DataError

END_BYTES = 1024
"""A tar ends with at least two blocks of zeros."""

_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
"""WebDataset's split: the key ends at the first dot of the last part of the path."""

Place = tuple[int, int]
"""Offset and size of a field, in bytes."""

SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "suffixes": pa.list_(pa.string()),
        "offsets": pa.list_(pa.int64()),
        "sizes": pa.list_(pa.int64()),
        "repeated": pa.string(),
        "label": pa.int64(),
    }
)


@dataclass(slots=True)
class Sample:
    """Files that stand next to each other under one key."""

    key: str
    fields: dict[str, Place] = field(default_factory=dict)
    """By suffix in lower case."""
    repeated: str | None = None
    """A suffix that came twice in a row; which of the two is meant cannot be known."""
    label: int | None = None
    """The number in .cls; None if there is no such field or no number in it."""


class TarIndex:
    """One shard, scanned once: its samples in any order, by position.

    The index lies in the cache, bound to the shard's path, size and time of change. File and index are opened
    when they are needed, so that the object travels to workers, and `close` frees them until the next use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = _state(path.stat())
        self._index = Index.open(("shard", str(path.resolve()), *self._state), SCHEMA, _rows(path))
        self._descriptor: int | None = None
        self.digest = self._index.digest
        """sha256 hex over names, places and labels of all samples."""

    def __len__(self) -> int:
        return len(self._index)

    def sample(self, number: int) -> Sample:
        """Return where the fields of one sample lie."""
        row = self._index.row(number)
        places = zip(row["offsets"], row["sizes"], strict=True)
        fields = dict(zip(row["suffixes"], places, strict=True))
        return Sample(row["key"], fields, row["repeated"], row["label"])

    def read(self, place: Place) -> bytes:
        """Read one field; DataError if the shard is not the one that was indexed."""
        if self._descriptor is None:
            self._descriptor = self._open()
        offset, size = place
        data = os.pread(self._descriptor, size, offset)  # by position: forked workers share the open file
        if len(data) != size:
            raise self._changed()
        return data

    def highest_label(self) -> int | None:
        """Return the largest label, None without labels."""
        highest: int | None = pc.max(self._index.table["label"]).as_py()
        return highest

    def close(self) -> None:
        """Free the open file and the mapped index; both come back when they are needed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._index.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_descriptor": None}

    def __del__(self) -> None:
        if self.__dict__.get("_descriptor") is not None:
            self.close()

    def _open(self) -> int:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise DataError(f"cannot open {self.path} any more: {error.strerror}") from error
        if _state(os.fstat(descriptor)) != self._state:
            os.close(descriptor)
            raise self._changed()
        return descriptor

    def _changed(self) -> DataError:
        return DataError(f"{self.path} changed while it was in use; start again to index it anew")


def _state(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_size, stat.st_mtime_ns


def _rows(path: Path) -> Iterator[Row]:
    seen: Counter[str] = Counter()
    for sample in scan(path):
        key = _printable(sample.key)
        seen[key] += 1
        if seen[key] > 1:  # the same key further on is a sample of its own, and ids must differ
            key = f"{key}#{seen[key]}"
        suffixes = [_printable(suffix) for suffix in sample.fields]
        offsets, sizes = zip(*sample.fields.values(), strict=True)
        yield key, suffixes, offsets, sizes, sample.repeated and _printable(sample.repeated), sample.label


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


class _Damage(Exception):
    def __init__(self, byte: int, what: str) -> None:
        self.byte = byte
        self.what = what


def scan(path: Path) -> Iterator[Sample]:
    """Yield the samples of a shard in order; nothing is extracted, and only regular files count.

    Raises:
        DataError: The shard is damaged; names the byte, and how many samples stand before it.
    """
    samples = 0
    current: Sample | None = None
    try:
        with path.open("rb") as file:
            for name, place in _files(file):
                match = _NAME.fullmatch(name)
                if not match:
                    continue
                key, suffix = match[1], match[2].lower()
                if current is None or current.key != key:
                    if current:
                        yield current
                        samples += 1
                    current = Sample(key)
                if suffix in current.fields:
                    current.repeated = suffix
                current.fields[suffix] = place
                if suffix == "cls":
                    current.label = _label(file, place)
    except _Damage as damage:
        raise DataError(
            f"{path} is damaged at byte {damage.byte:,}, behind {samples:,} whole samples: {damage.what}. "
            "Download or write this shard again"
        ) from damage
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    if current:
        yield current


def _files(file: BinaryIO) -> Iterator[tuple[str, Place]]:
    """Yield name and place of every regular file, then prove that nothing follows.

    Python's tarfile takes a damaged header for the end of the archive and stops without a word. So whatever lies
    behind the last member must be the end mark, and every member must lie inside the file.
    """
    length = os.fstat(file.fileno()).st_size
    end = 0
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            while member := tar.next():
                plain = member.isreg() and not member.issparse()
                if plain and member.offset_data + member.size > length:
                    raise _Damage(end, "the file ends before its last member does")
                end = tar.offset
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep every header in memory
                if plain:
                    yield member.name, (member.offset_data, member.size)
    except (tarfile.TarError, EOFError, OverflowError, ValueError) as error:
        what = f"{error}; compressed archives are not shards" if end == 0 else str(error)
        raise _Damage(end, what) from error
    if length - end < END_BYTES:
        raise _Damage(end, "the file is cut off, its end mark is missing")
    file.seek(end)
    while block := file.read(1 << 20):
        if block.count(0) != len(block):
            raise _Damage(end, "what follows is neither a member nor the end mark")


def _label(file: BinaryIO, place: Place) -> int | None:
    offset, size = place
    text = os.pread(file.fileno(), min(size, 20), offset).strip()
    return int(text) if re.fullmatch(rb"\d{1,18}", text) else None
