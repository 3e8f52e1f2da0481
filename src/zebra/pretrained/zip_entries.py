"""Uncompressed entries of a zip file by their offsets.

Nothing is decompressed, so that zip bombs are harmless.
"""

import struct
import sys
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch

from zebra.errors import WeightsError

LOCAL_HEADER = struct.Struct("<4s22xHH")


class ZipEntries:
    """The uncompressed entries of one torch archive."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        try:
            with zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error) as error:
            raise WeightsError(
                f"{path} is not a complete zip archive ({error}). Copy it again. If a torch older than 1.6 "
                "wrote it, load it there and save it as safetensors."
            ) from error
        self._infos = {info.filename: info for info in infos}
        roots = [name.removesuffix("data.pkl") for name in self._infos if name.endswith("/data.pkl")]
        if len(self._infos) != len(infos) or len(roots) != 1:
            raise WeightsError(
                f"{path} is a zip with {len(roots)} data.pkl in {len(infos)} entries, but torch writes "
                "exactly one and no duplicate names. Copy the file again."
            )
        self._root = roots[0]
        self.file_bytes = path.stat().st_size
        self._mapped_bytes = 0
        # A private (copy-on-write) map: torch warns about read-only ones.
        self._map = torch.UntypedStorage.from_file(str(path), False, self.file_bytes)
        order = self.read("byteorder", 16).decode("ascii", "replace") if "byteorder" in self else "little"
        if order != sys.byteorder:
            raise WeightsError(
                f"{path} has the byte order {order!r}, but this machine has {sys.byteorder!r}. Convert it "
                "to safetensors on the machine that wrote it."
            )

    def __contains__(self, name: str) -> bool:
        return self._root + name in self._infos

    def map_storage(self, name: str) -> torch.UntypedStorage:
        """Return an entry as memory-mapped storage; WeightsError if entries overlap."""
        start, size = self._locate(name)
        self._mapped_bytes += size
        if self._mapped_bytes > self.file_bytes:
            raise WeightsError(
                f"{self._path}: its entries share their bytes, which torch never writes. Do not trust this file."
            )
        storage: torch.UntypedStorage = self._map[start : start + size]
        # torch aligns entries to 64 bytes, other zip programs do not. Elements must be aligned to their size.
        return storage if start % 8 == 0 else storage.clone()  # type: ignore[no-untyped-call]

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return the bytes of an entry; WeightsError if it has more than `max_bytes`."""
        start, size = self._locate(name)
        if size > max_bytes:
            raise WeightsError(
                f"{self._path}: {name} has {size} bytes, more than the limit of {max_bytes}. Do not trust this file."
            )
        self._file.seek(start)
        return self._file.read(size)

    def _locate(self, name: str) -> tuple[int, int]:
        """Return the offset of an entry's data in the file, and its number of bytes."""
        if name not in self:
            raise WeightsError(f"{self._path} lacks its entry {name[:80]}. Copy the file again.")
        info = self._infos[self._root + name]
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise WeightsError(
                f"{self._path}: the entry {name} is compressed, which torch never does. It is not read, since it could "
                "decompress to any size. If you trust the file, unpack it and zip it again with `zip -0`."
            )
        start = info.header_offset + LOCAL_HEADER.size
        if info.header_offset < 0 or start > self.file_bytes:
            raise WeightsError(f"{self._path}: the entry {name} is outside the file. Copy the file again.")
        self._file.seek(info.header_offset)
        magic, name_bytes, extra_bytes = LOCAL_HEADER.unpack(self._file.read(LOCAL_HEADER.size))
        start += name_bytes + extra_bytes
        if magic != b"PK\x03\x04" or start + info.file_size > self.file_bytes:
            raise WeightsError(f"{self._path}: the entry {name} is truncated or misplaced. Copy the file again.")
        return start, info.file_size
