"""A CSV, TSV, JSONL or Parquet file in, its pictures out, with captions and further columns."""

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
    caption_columns,
    captions_of,
    image_column,
    image_of,
    printable,
)
from zebra.data.folders import read_image
from zebra.data.table_files import HEAD_LINES, Broken, TableFile, TableRow, open_table
from zebra.embed.values import Content, Picture, Spot, state_of
from zebra.errors import BadSample, ConfigError, nearest


class TablePictures:
    """The rows of tables of one form, one after the other; each names an image file or holds its bytes.

    A row is located by its line. Its stamp covers what the row says beside the image, and the image file's size and
    time of change, so that a row that moved is read again, but not embedded again.
    """

    def __init__(self, files: Sequence[Path], name: str, config: DataConfig, columns: Sequence[str]) -> None:
        self.name = printable(str(Path(name.removeprefix("file://")).resolve()))
        self._tables = [(path.resolve(), open_table(path)) for path in files]
        path, first = self._tables[0]
        self._image = image_column(first.columns, path, config)
        spoken = config.caption_columns or set(CAPTION_COLUMNS) & set(first.columns)
        self._captions = caption_columns(first.columns, path, config) if spoken else ()
        for column in columns:
            if column not in first.columns:
                raise ConfigError(f"{path} has no column {column!r}.{nearest(column, first.columns)}")
        self.columns = _schema(path, first, columns)
        self._length = sum(_count(path, table, self._image) for path, table in self._tables)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Picture]:
        wanted = list(dict.fromkeys((self._image, *self._captions, *self.columns.names)))
        for path, table in self._tables:
            for line, row in table.read(wanted):
                yield self._picture(path, f"{printable(str(path))}:{line}", row)

    def _picture(self, table: Path, where: str, row: TableRow) -> Picture:
        try:
            name, content = self._said(row)
        except BadSample as bad:
            return Picture(
                Spot(where, "", printable(str(table))), partial(_fail, bad.reason, where, bad.detail)
            )
        said = sha256(repr((content.captions, content.columns)).encode("utf-8", "surrogateescape"))
        if name is None:
            said.update(content.image)
            return Picture(Spot(where, said.hexdigest(), printable(str(table))), partial(_given, content))
        path = table.parent / name
        spot = Spot(where, f"{said.hexdigest()} {state_of(path)}", printable(str(path)))
        return Picture(spot, partial(_from_file, path, where, content))

    def _said(self, row: TableRow) -> tuple[str | None, Content]:
        """Return the path of the image, unless it lies in the table itself, and all else the row says."""
        if isinstance(row, Broken):
            raise BadSample(row.reason, "", row.detail)
        name, image = image_of(row.get(self._image))
        columns = {field.name: _cell(row.get(field.name), field) for field in self.columns}
        return name, Content(image or b"", self._words(row), None, columns)

    def _words(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        try:
            return tuple(captions_of(row, self._captions))
        except BadSample as bad:
            if bad.reason == "empty caption":
                return ()
            raise


def _fail(reason: str, where: str, detail: str) -> Content:
    raise BadSample(reason, where, detail)


def _given(content: Content) -> Content:
    return content


def _from_file(path: Path, where: str, content: Content) -> Content:
    return replace(content, image=read_image(path, where))


def _count(path: Path, table: TableFile, image: str) -> int:
    if path.suffix.lower() == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    return sum(1 for _ in table.read((image,)))


def _schema(path: Path, table: TableFile, columns: Sequence[str]) -> pa.Schema:
    """Say of which type each further column is: Parquet knows, elsewhere the first rows tell."""
    if not columns:
        return pa.schema([])
    if path.suffix.lower() == ".parquet":
        known = pq.read_schema(path)
        return pa.schema([known.field(name) for name in columns])
    head = [row for _, row in islice(table.read(columns), HEAD_LINES) if not isinstance(row, Broken)]
    return pa.schema([pa.field(name, _kind([row.get(name) for row in head])) for name in columns])


def _kind(cells: Sequence[Any]) -> pa.DataType:
    """Return the narrowest of integer, number, text that takes all cells; CSV has only text to show."""
    for kind in (pa.int64(), pa.float64()):
        try:
            found = [_converted(cell, kind) for cell in cells]
        except (ValueError, TypeError):
            continue
        if any(cell is not None for cell in found):
            return kind
    return pa.string()


def _cell(value: Any, field: pa.Field) -> Any:
    """Return a cell in the type of its column; BadSample if it does not fit."""
    try:
        return _converted(value, field.type)
    except (ValueError, TypeError) as error:
        raise BadSample("column of another type", "", f"{field.name}: {error}") from error


def _converted(value: Any, kind: pa.DataType) -> Any:
    if value is None or value == "":
        return None
    if pa.types.is_string(kind):
        text = value if isinstance(value, str) else str(value)
        text.encode()  # which a stray byte of a CSV file fails
        return text
    if isinstance(value, bool) and not pa.types.is_boolean(kind):
        raise TypeError(f"{value!r} is no number")
    if pa.types.is_integer(kind) and isinstance(value, str | float):
        return int(value) if isinstance(value, str) else _whole(value)
    if pa.types.is_floating(kind) and isinstance(value, str):
        return float(value)
    return value


def _whole(value: float) -> int:
    if value != int(value):
        raise ValueError(f"{value} is not whole")
    return int(value)
