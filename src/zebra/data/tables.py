"""Tables of image paths or bytes with captions, read at any position."""

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
"""A usable row has a path or an image, and captions; a bad row has a reason."""


class TableSource:
    """The rows of a CSV, TSV, JSONL or Parquet file, usable or not.

    The table is converted once, batch by batch, into an Arrow file in the cache. Image bytes inside Parquet are copied
    too, because Parquet reads entire row groups, which is too slow for random access. The cache then needs as much disk
    space as the table.
    """

    def __init__(self, path: Path, config: DataConfig) -> None:
        self.path = path
        self.name = str(path)
        table = open_table(path)
        image_column = find_image_column(table.columns, path, config)
        caption_columns = find_caption_columns(table.columns, path, config)
        stat = path.stat()
        key = ("table", str(path.resolve()), stat.st_size, stat.st_mtime_ns, image_column, caption_columns)
        self.table = CachedTable.open_or_build(
            key, TABLE_SCHEMA, _table_rows(table, image_column, caption_columns)
        )
        self.digest = self.table.digest
        """SHA-256 in hex over the rows: paths, captions, embedded images."""

    def __len__(self) -> int:
        return len(self.table)

    def sample_id(self, index: int) -> str:
        """Return the ID of a sample without reading it."""
        return f"{self.path.name}:{self.table.arrow_table['line'][index].as_py()}"

    def read(self, index: int) -> Record:
        """Read one row and its image; a relative path is resolved against the table's folder.

        Raises:
            BadSample: The row is incomplete or malformed, or its image file cannot be read.
        """
        row = self.table.row(index)
        sample_id = f"{self.path.name}:{row['line']}"
        if row["reason"] is not None:
            raise BadSample(row["reason"], sample_id, row["detail"])
        image = row["image"]
        if image is None:
            image = read_image_bytes(self.path.parent / row["path"], sample_id)
        return Record(id=sample_id, image=image, captions=tuple(row["captions"]))


def _table_rows(table: TableFile, image_column: str, caption_columns: Sequence[str]) -> Iterator[RowValues]:
    for line, row in table.read((image_column, *caption_columns)):
        try:
            values = _parse_row(row, image_column, caption_columns)
        except BadSample as bad:
            values = (None, None, None, bad.reason, escape_unencodable(bad.detail))
        yield line, *values


def _parse_row(row: TableRow, image_column: str, caption_columns: Sequence[str]) -> RowValues:
    if isinstance(row, BadRow):
        raise BadSample(row.reason, "", row.detail)
    return *parse_image_cell(row.get(image_column)), parse_captions(row, caption_columns), None, None
