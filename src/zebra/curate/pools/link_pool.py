"""A pool of links: web pages and tables in files."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from zebra.config.data import DataConfig
from zebra.curate.pools.link_tables import (
    ROWS_PER_BATCH,
    LinkColumns,
    find_link_columns,
    read_link_table,
    unify_schemas,
)
from zebra.curate.pools.pages import PAGE_READERS
from zebra.curate.pools.records import BadRecord, ImageLink, Unused
from zebra.data.folder_walk import walk_folder
from zebra.data.hugging_face import is_saved_dataset
from zebra.data.ignored import Ignored, IgnoredCounter
from zebra.data.locations import file_stamp
from zebra.data.shard_patterns import expand_braces
from zebra.data.shards import list_shards
from zebra.data.table_files import TABLE_FORMATS, table_suffix
from zebra.errors import DataError
from zebra.images.formats import IMAGE_SUFFIXES


@dataclass(frozen=True, slots=True)
class LinkFile:
    """A file with links."""

    path: Path
    name: str
    """Its path below the pool."""
    columns: LinkColumns | None
    """Of a table; None for pages."""

    @property
    def stamp(self) -> str:
        """Return what changes with the contents: name, size and time of modification."""
        return f"{self.name} {file_stamp(self.path)}"


@dataclass(frozen=True, slots=True)
class LinkPool:
    """Files with links, in the order of their names."""

    name: str
    """As given."""
    files: tuple[LinkFile, ...]
    schema: pa.Schema
    """Columns of the tables that are carried along."""
    ignored: tuple[Ignored, ...]
    """Other files."""

    def read(self, file: LinkFile, unused: IgnoredCounter) -> Iterator[tuple[list[ImageLink | BadRecord], pa.Table]]:
        """Yield samples of a file, a few thousand at a time, with the columns that are carried along.

        Args:
            file: One of the files.
            unused: Counts images that are no pairs.
        """
        if file.columns is not None:
            yield from read_link_table(file.path, file.name, file.columns, self.schema, unused)
            return
        samples: list[ImageLink | BadRecord] = []
        for record in PAGE_READERS[table_suffix(file.path)](file.path, file.name):
            if isinstance(record, Unused):
                unused.add(record.reason, record.example)
                continue
            samples.append(record)
            if len(samples) == ROWS_PER_BATCH:
                yield samples, self._nulls(len(samples))
                samples = []
        if samples:
            yield samples, self._nulls(len(samples))

    def _nulls(self, num_rows: int) -> pa.Table:
        return pa.table([pa.nulls(num_rows, field.type) for field in self.schema], schema=self.schema)


def find_link_pool(path: str, config: DataConfig) -> LinkPool | None:
    """Return a pool of links; None for other layouts, which `open_source` opens.

    Args:
        path: A file, a folder or a pattern such as `crawl/*.wat.gz` or `links/{00..12}.parquet`. Files of web pages end
            in .warc, .wat or .html, tables in .parquet, .csv, .tsv or .jsonl; .gz and .zst may follow.
        config: May name the columns with address and captions.

    Raises:
        DataError: A table cannot be read, or has addresses and no captions.
    """
    ignored = IgnoredCounter()
    root = Path(path.removeprefix("file://")).expanduser()
    if root.is_dir():
        if list_shards(root) or is_saved_dataset(root):
            return None
        names = [str(folder / name) for folder, files in walk_folder(root, ignored) for name in files]
        if _has_captioned_images(names):
            return None
    elif root.is_file():
        root, names = root.parent, [root.name]
    else:
        root, names = _split_root([match for part in expand_braces(str(root)) for match in _expand_wildcards(part)])
    files = []
    for name in sorted(names):
        file, suffix = root / name, table_suffix(root / name)
        if suffix in (*PAGE_READERS, *TABLE_FORMATS) and not file.is_file():
            raise DataError(f"{path}: there is no file {file}. Download it, or name only those that exist")
        columns = find_link_columns(file, config) if suffix in TABLE_FORMATS else None
        if suffix in PAGE_READERS or columns is not None:
            files.append(LinkFile(file, name, columns))
        else:
            ignored.add_by_suffix(name)
    if not files:
        return None
    return LinkPool(
        path, tuple(files), unify_schemas([file.columns.schema for file in files if file.columns]), ignored.entries()
    )


def _has_captioned_images(names: Sequence[str]) -> bool:
    stems = {Path(name).with_suffix("") for name in names if Path(name).suffix.lower() == ".txt"}
    return any(Path(name).with_suffix("") in stems for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES)


def _expand_wildcards(pattern: str) -> list[str]:
    return glob.glob(pattern, recursive=True) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207  any root


def _split_root(names: Sequence[str]) -> tuple[Path, list[str]]:
    """Return the common folder of some files, and their paths below it; nothing if none exists."""
    paths = [Path(name) for name in names if not Path(name).is_dir()]
    if not any(map(Path.is_file, paths)):
        return Path(), []
    root = next(parent for parent in paths[0].parents if all(path.is_relative_to(parent) for path in paths))
    return root, [str(path.relative_to(root)) for path in paths]


def require_unchanged(file: LinkFile, stamp: str) -> None:
    """Raise DataError if a file is no longer what it was."""
    if file.stamp != stamp:
        raise DataError(f"{file.path} changed while it was read. Wait until it is complete, and run the command again")
