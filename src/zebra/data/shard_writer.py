"""Writer of WebDataset tar shards."""

import io
import re
import tarfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from zebra.atomic_io import atomic_write
from zebra.errors import DataError


class ShardWriter:
    """Write samples as `<prefix>00000.tar`, `<prefix>00001.tar`, …; a context manager.

    A shard is written to a temporary path and renamed when it is complete, so an interrupted writer leaves no
    incomplete shard. The bytes depend on the samples alone, not on time, owner or path.
    """

    def __init__(self, out_dir: Path, prefix: str = "", samples_per_shard: int = 10_000, num_digits: int = 5) -> None:
        self.out_dir = out_dir
        self.prefix = prefix
        self.samples_per_shard = samples_per_shard
        self.num_digits = num_digits
        self.shards: list[Path] = []
        """Paths of the shards so far; complete when the context is left without an error."""
        self._num_in_shard = 0
        self._tar: tarfile.TarFile | None = None
        self._stack = ExitStack()
        """Closes and renames the current shard, or removes it after an error."""

    def __enter__(self) -> Self:
        self.out_dir.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tar = None
        self._stack.__exit__(exc_type, exc_value, traceback)

    def write(self, key: str, fields: dict[str, bytes]) -> None:
        """Append one sample: a file `<key>.<suffix>` for every field, in the given order.

        Args:
            key: Must not have a dot in its last component, where readers split the name.
            fields: Suffix without a dot ("jpg", "txt", "json", "cls") → content.

        Raises:
            DataError: Readers would not restore the key.
        """
        if not re.fullmatch(r"(.*/)?[^./]+", key):
            raise DataError(f"invalid sample key: {key!r}. Use a name without dots")
        if self._tar is None or self._num_in_shard == self.samples_per_shard:
            self._stack.close()
            self._tar = self._open_next_shard()
        for suffix, content in fields.items():
            member = tarfile.TarInfo(f"{key}.{suffix}")
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))
        self._num_in_shard += 1

    def _open_next_shard(self) -> tarfile.TarFile:
        path = self.out_dir / f"{self.prefix}{len(self.shards):0{self.num_digits}d}.tar"
        self.shards.append(path)
        self._num_in_shard = 0
        partial = self._stack.enter_context(atomic_write(path))
        return self._stack.enter_context(tarfile.TarFile(partial, "w", format=tarfile.PAX_FORMAT))
