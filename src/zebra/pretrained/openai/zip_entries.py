"""The entries of a zip as places in its file: nothing is ever inflated, so no bomb can go off."""

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
                found = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error) as error:
            raise WeightsError(
                f"{path} is not a whole zip archive ({error}): it was cut or changed, so copy it again; or a torch "
                "older than 1.6 wrote it, so load it there and save it as safetensors"
            ) from error
        self._infos = {info.filename: info for info in found}
        roots = [name.removesuffix("data.pkl") for name in self._infos if name.endswith("/data.pkl")]
        if len(self._infos) != len(found) or len(roots) != 1:
            raise WeightsError(
                f"{path} is a zip with {len(roots)} data.pkl in {len(found)} entries; torch writes exactly one, and "
                "no name twice"
            )
        self._root = roots[0]
        self.file_bytes = path.stat().st_size
        # A private map: pages are copied when written to. A plain read-only one would make torch warn.
        self._map = torch.UntypedStorage.from_file(str(path), False, self.file_bytes)
        order = self.read("byteorder", 16).decode("ascii", "replace") if "byteorder" in self else "little"
        if order != sys.byteorder:
            raise WeightsError(
                f"{path} was written in {order!r} byte order, this machine reads {sys.byteorder!r}; convert it to "
                "safetensors where it was written"
            )

    def __contains__(self, name: str) -> bool:
        return self._root + name in self._infos

    def map_storage(self, name: str) -> torch.UntypedStorage:
        """Map an entry."""
        start, size = self._locate(name)
        storage: torch.UntypedStorage = self._map[start : start + size]
        # torch aligns what it writes to 64 bytes; another zip program need not, and a float must lie at its own size.
        return storage if start % 8 == 0 else storage.clone()  # type: ignore[no-untyped-call]

    def read(self, name: str, max_bytes: int) -> bytes:
        """Read an entry that must be small."""
        start, size = self._locate(name)
        if size > max_bytes:
            raise WeightsError(
                f"{self._path}: {name} has {size} bytes, more than the {max_bytes} a model needs"
            )
        self._file.seek(start)
        return self._file.read(size)

    def _locate(self, name: str) -> tuple[int, int]:
        """Return where an entry starts in the file and how many bytes it has."""
        if name not in self:
            raise WeightsError(f"{self._path} lacks its entry {name[:80]}; copy the file again")
        info = self._infos[self._root + name]
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise WeightsError(
                f"{self._path}: the entry {name} is compressed, which torch never does; it is not opened, as it could "
                "grow to any size. Unpack the file and zip it again with `zip -0`, if you trust it"
            )
        start = info.header_offset + LOCAL_HEADER.size
        if info.header_offset < 0 or start > self.file_bytes:
            raise WeightsError(f"{self._path}: the entry {name} lies outside the file; copy it again")
        self._file.seek(info.header_offset)
        magic, name_bytes, extra_bytes = LOCAL_HEADER.unpack(self._file.read(LOCAL_HEADER.size))
        start += name_bytes + extra_bytes
        if magic != b"PK\x03\x04" or start + info.file_size > self.file_bytes:
            raise WeightsError(f"{self._path}: the entry {name} is cut or misplaced; copy the file again")
        return start, info.file_size
