"""Images of a table to embed: CSV, TSV, JSONL or Parquet."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zebra.config.data import DataConfig
from zebra.data.columns import (
    CAPTION_COLUMNS,
    escape_unencodable,
    find_caption_columns,
    find_image_column,
    parse_captions,
    parse_image_cell,
)
from zebra.data.folders import read_image_bytes
from zebra.data.table_files import INFER_SCHEMA_ROWS, BadRow, TableFile, TableRow, open_table
from zebra.embed.values import ImageContent, ImageRef, Location, file_stamp
from zebra.errors import BadSample, ConfigError, suggest_name


class TableEmbedSource:
    """The rows of tables with the same columns; each row has the path or the bytes of an image.

    The location of a row is its line. Its stamp covers the other cells of the row, and the size and modification time of
    the image file. So a row that moved is read again, but not embedded again.
    """

    def __init__(
        self, paths: Sequence[Path], name: str, config: DataConfig, extra_columns: Sequence[str]
    ) -> None:
        self.name = escape_unencodable(str(Path(name.removeprefix("file://")).resolve()))
        self._tables = [(path.resolve(), open_table(path)) for path in paths]
        path, first = self._tables[0]
        self._image_column = find_image_column(first.columns, path, config)
        has_captions = config.caption_columns or set(CAPTION_COLUMNS) & set(first.columns)
        self._caption_columns = find_caption_columns(first.columns, path, config) if has_captions else ()
        for column in extra_columns:
            if column not in first.columns:
                raise ConfigError(f"{path} has no column {column!r}.{suggest_name(column, first.columns)}")
        self.extra_columns = _infer_schema(path, first, extra_columns)
        self._num_rows = sum(_count_rows(path, table, self._image_column) for path, table in self._tables)

    def __len__(self) -> int:
        return self._num_rows

    def __iter__(self) -> Iterator[ImageRef]:
        columns = list(dict.fromkeys((self._image_column, *self._caption_columns, *self.extra_columns.names)))
        for path, table in self._tables:
            for line, row in table.read(columns):
                yield self._make_ref(path, f"{escape_unencodable(str(path))}:{line}", row)

    def _make_ref(self, table_path: Path, location: str, row: TableRow) -> ImageRef:
        try:
            name, content = self._parse_row(row)
        except BadSample as bad:
            return ImageRef(
                Location(location, "", escape_unencodable(str(table_path))),
                partial(_raise_bad_sample, bad.reason, location, bad.detail),
            )
        row_hash = sha256(repr((content.captions, content.extra_columns)).encode("utf-8", "surrogateescape"))
        if name is None:
            row_hash.update(content.image_bytes)
            return ImageRef(
                Location(location, row_hash.hexdigest(), escape_unencodable(str(table_path))),
                partial(_return_content, content),
            )
        path = table_path.parent / name
        image_location = Location(
            location, f"{row_hash.hexdigest()} {file_stamp(path)}", escape_unencodable(str(path))
        )
        return ImageRef(image_location, partial(_read_from_file, path, location, content))

    def _parse_row(self, row: TableRow) -> tuple[str | None, ImageContent]:
        """Return the path of the image, or None if the row contains its bytes, and the contents of the row."""
        if isinstance(row, BadRow):
            raise BadSample(row.reason, "", row.detail)
        name, image = parse_image_cell(row.get(self._image_column))
        columns = {field.name: _cast_cell(row.get(field.name), field) for field in self.extra_columns}
        return name, ImageContent(image or b"", self._row_captions(row), None, columns)

    def _row_captions(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        try:
            return tuple(parse_captions(row, self._caption_columns))
        except BadSample as bad:
            if bad.reason == "empty caption":
                return ()
            raise


def _raise_bad_sample(reason: str, location: str, detail: str) -> ImageContent:
    raise BadSample(reason, location, detail)


def _return_content(content: ImageContent) -> ImageContent:
    return content


def _read_from_file(path: Path, location: str, content: ImageContent) -> ImageContent:
    return replace(content, image_bytes=read_image_bytes(path, location))


def _count_rows(path: Path, table: TableFile, image_column: str) -> int:
    if path.suffix.lower() == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    return sum(1 for _ in table.read((image_column,)))


def _infer_schema(path: Path, table: TableFile, columns: Sequence[str]) -> pa.Schema:
    """Return the types of the additional columns, from the Parquet schema or the first rows."""
    if not columns:
        return pa.schema([])
    if path.suffix.lower() == ".parquet":
        schema = pq.read_schema(path)
        return pa.schema([schema.field(name) for name in columns])
    head = [row for _, row in islice(table.read(columns), INFER_SCHEMA_ROWS) if not isinstance(row, BadRow)]
    return pa.schema([pa.field(name, _infer_type([row.get(name) for row in head])) for name in columns])


def _infer_type(cells: Sequence[Any]) -> pa.DataType:
    """Return the narrowest of integer, float and string that fits all cells; CSV cells are strings."""
    for kind in (pa.int64(), pa.float64()):
        try:
            values = [_convert_value(cell, kind) for cell in cells]
        except (ValueError, TypeError):
            continue
        if any(cell is not None for cell in values):
            return kind
    return pa.string()


def _cast_cell(value: Any, field: pa.Field) -> Any:
    """Return a cell converted to the type of its column; BadSample if that fails."""
    try:
        return _convert_value(value, field.type)
    except (ValueError, TypeError) as error:
        raise BadSample("column of another type", "", f"{field.name}: {error}") from error


def _convert_value(value: Any, data_type: pa.DataType) -> Any:
    if value is None or value == "":
        return None
    if pa.types.is_string(data_type):
        text = value if isinstance(value, str) else str(value)
        text.encode()  # raises for an undecodable byte of a CSV file
        return text
    if isinstance(value, bool) and not pa.types.is_boolean(data_type):
        raise TypeError(f"{value!r} is not a number")
    if pa.types.is_integer(data_type) and isinstance(value, str | float):
        return int(value) if isinstance(value, str) else _to_integer(value)
    if pa.types.is_floating(data_type) and isinstance(value, str):
        return float(value)
    return value


def _to_integer(value: float) -> int:
    if value != int(value):
        raise ValueError(f"{value} is not an integer")
    return int(value)
