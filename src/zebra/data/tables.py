"""A table of image paths (or bytes) and captions in, records at any position out."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from zebra.config.data import DataConfig
from zebra.data.cached_table import CachedTable, RowValues
from zebra.data.columns import (
    escape_unencodable,
    find_caption_columns,
    find_image_column,
    parse_captions,
    parse_image_cell,
)
from zebra.data.folders import read_image_bytes
from zebra.data.table_files import BadRow, TableFile, TableRow, open_table
from zebra.errors import BadSample
from zebra.values import Record

TABLE_SCHEMA = pa.schema(
    {
        "line": pa.int64(),
        "path": pa.string(),
        "image": pa.large_binary(),
        "captions": pa.list_(pa.string()),
        "reason": pa.string(),
        "detail": pa.string(),
    }
)
"""A good row has a path or an image, and captions; a bad one has a reason."""


class TableSource:
    """The rows of a CSV, TSV, JSONL or Parquet file, good and bad.

    The table is converted once, a batch at a time, into an Arrow file in the cache; image bytes inside Parquet are
    copied along (Parquet only reads whole row groups, which random order would do for every single picture), so
    that cache then needs as much room as the table.
    """

    def __init__(self, path: Path, config: DataConfig) -> None:
        self.path = path
        self.name = str(path)
        table = open_table(path)
        image = find_image_column(table.columns, path, config)
        captions = find_caption_columns(table.columns, path, config)
        state = path.stat()
        key = ("table", str(path.resolve()), state.st_size, state.st_mtime_ns, image, captions)
        self.table = CachedTable.open_or_build(key, TABLE_SCHEMA, _table_rows(table, image, captions))
        self.digest = self.table.digest
        """sha256 hex over the rows: paths, captions, embedded images."""

    def __len__(self) -> int:
        return len(self.table)

    def sample_id(self, index: int) -> str:
        """Return the id of a sample without reading it."""
        return f"{self.path.name}:{self.table.arrow_table['line'][index].as_py()}"

    def read(self, index: int) -> Record:
        """Read one row and its image; a relative path starts at the table's folder.

        Raises:
            BadSample: The row lacks something, is broken, or its image file cannot be read.
        """
        row = self.table.row(index)
        where = f"{self.path.name}:{row['line']}"
        if row["reason"] is not None:
            raise BadSample(row["reason"], where, row["detail"])
        image = row["image"]
        if image is None:
            image = read_image_bytes(self.path.parent / row["path"], where)
        return Record(id=where, image=image, captions=tuple(row["captions"]))


def _table_rows(table: TableFile, image_column: str, caption_columns: Sequence[str]) -> Iterator[RowValues]:
    for line, record in table.read((image_column, *caption_columns)):
        try:
            row = _parse_row(record, image_column, caption_columns)
        except BadSample as bad:
            row = (None, None, None, bad.reason, escape_unencodable(bad.detail))
        yield line, *row


def _parse_row(row: TableRow, image_column: str, caption_columns: Sequence[str]) -> RowValues:
    if isinstance(row, BadRow):
        raise BadSample(row.reason, "", row.detail)
    return *parse_image_cell(row.get(image_column)), parse_captions(row, caption_columns), None, None
