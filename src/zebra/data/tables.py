"""Tables of image paths or bytes with captions, by position or in file order."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zebra.config.data import DataConfig
from zebra.data.cached_table import CachedTable, RowValues
from zebra.data.columns import (
    SPLIT_COLUMN,
    caption_probabilities,
    choose_columns,
    convert_cell,
    count_captions,
    find_caption_columns,
    find_group_column,
    find_image_column,
    find_negatives_column,
    find_optional_caption_columns,
    infer_column_type,
    match_column,
    parse_captions,
    parse_group,
    parse_negatives,
)
from zebra.data.ignored import Ignored
from zebra.data.image_cells import parse_image_cell, read_table_image, resolve_image_path
from zebra.data.locations import ImageRef, Location, file_stamp
from zebra.data.split_names import parse_split
from zebra.data.table_files import (
    INFER_SCHEMA_ROWS,
    BadRow,
    TableFile,
    TableRow,
    image_column_candidates,
    open_table,
    require_distinct,
)
from zebra.errors import BadSample, MissingSplit, escape_unencodable
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
GROUP_FIELD = pa.field("group", pa.string())
"""Further column if the config names one."""
NEGATIVES_FIELD = pa.field("negatives", pa.list_(pa.string()))
"""Further column if the config names one."""
COUNTS_FIELD = pa.field("caption_counts", pa.list_(pa.int32()))
"""Further column if the config has weights: the number of captions from each caption column."""
SPLITS_SCHEMA = pa.schema({SPLIT_COLUMN: pa.string()})


class TableSource:
    """The rows of a CSV, TSV, JSONL or Parquet file, usable or not.

    For reading at any position, the table is converted once, batch by batch, into an Arrow file in the cache. Image
    bytes inside Parquet are copied too, because Parquet reads entire row groups, which is too slow for random access.
    The cache then needs as much disk space as the table. `scan` streams the table itself, and captions are optional.
    """

    columns = pa.schema([])
    """Names and types of the extra columns of `scan`."""

    def __init__(self, path: Path, config: DataConfig, split: str | None = None) -> None:
        """Open a table.

        Args:
            path: The file.
            config: Columns.
            split: Value of the column `split` of the rows to use; by default all.

        Raises:
            DataError: The table is damaged, has no image column, has a column twice, or has no such split.
        """
        self.path = path
        self.name = str(path) if split is None else f"{path}/{split}"
        self.split = split
        self.ignored: tuple[Ignored, ...] = ()
        """Always empty: every row is a sample."""
        self._config = config
        table = open_table(path)
        self._column_names = table.columns
        self._image_column = find_image_column(table.columns, path, config, image_column_candidates(table))
        self._group_column = find_group_column(table.columns, path, config)
        self._negatives_column = find_negatives_column(table.columns, path, config)
        self._split_column = match_column(SPLIT_COLUMN, table.columns, path)
        if split is not None and self._split_column is None:
            raise MissingSplit(f"{path} has no column {SPLIT_COLUMN!r}, so it cannot provide {split!r}. Give {path}")

    @cached_property
    def available_columns(self) -> pa.Schema:
        """Names and types of the columns that `select_columns` accepts: all but those of the images and splits."""
        used = (self._image_column, self._split_column, "")
        names = [name for name in self._column_names if name not in used and self._column_names.count(name) == 1]
        return infer_schema(self.path, open_table(self.path), names)

    def select_columns(self, columns: Sequence[str] | pa.Schema) -> None:
        """Choose the extra columns of `scan`, by name; or with their types, which are inferred otherwise.

        Raises:
            ConfigError: A column is missing.
            DataError: The table has a column twice.
        """
        require_distinct(self.path, self._column_names, columns.names if isinstance(columns, pa.Schema) else columns)
        self.columns = (
            choose_columns(columns, self.available_columns, str(self.path)) if len(columns) else pa.schema([])
        )

    @cached_property
    def table(self) -> CachedTable:
        """The converted table. `open_source` converts it before workers are forked."""
        stat = self.path.stat()
        caption_columns = find_caption_columns(self._column_names, self.path, self._config)
        path = str(self.path.resolve())
        columns, schema, group_column = (self._image_column, *caption_columns), TABLE_SCHEMA, self._group_column
        key: tuple[object, ...] = (
            "table",
            path,
            stat.st_size,
            stat.st_mtime_ns,
            *columns[:1],
            caption_columns,
            self.split,
        )
        if group_column is not None:
            columns, schema, key = (*columns, group_column), schema.append(GROUP_FIELD), (*key, group_column)
        if (negatives_column := self._negatives_column) is not None:
            columns, schema = (*columns, negatives_column), schema.append(NEGATIVES_FIELD)
            key = (*key, NEGATIVES_FIELD.name, negatives_column)
        has_counts = bool(self._config.caption_weights)
        if has_counts:
            schema, key = schema.append(COUNTS_FIELD), (*key, COUNTS_FIELD.name)
        convert = partial(
            _convert_row,
            image_column=self._image_column,
            caption_columns=caption_columns,
            group_column=group_column,
            negatives_column=negatives_column,
            has_counts=has_counts,
        )
        rows = _table_rows(self._read_rows(columns), convert, len(schema) - len(TABLE_SCHEMA))
        return CachedTable.open_or_build(key, schema, rows)

    @property
    def digest(self) -> str:
        """SHA-256 in hex over the rows: paths, captions, embedded images."""
        return self.table.digest

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
            image = read_table_image(self.path.parent, row["path"], sample_id)
        return Record(
            id=sample_id,
            image=image,
            captions=tuple(row["captions"]),
            caption_probabilities=caption_probabilities(row.get("caption_counts", ()), self._config.caption_weights),
            group=row.get("group"),
            negatives=tuple(row.get("negatives", ())),
        )

    def num_images(self) -> int:
        """Return the number of rows; for other tables than Parquet, this reads the file once."""
        return self._num_rows

    @cached_property
    def _num_rows(self) -> int:
        if self.path.suffix.lower() == ".parquet" and self.split is None:
            return int(pq.read_metadata(self.path).num_rows)
        return sum(1 for _ in self._read_rows((self._image_column,) if self.split is None else ()))

    def list_splits(self) -> list[str]:
        """Return the distinct values of the column `split`, "" for a row without one; [] without that column."""
        if self._split_column is None:
            return []
        stat = self.path.stat()
        key = ("splits", str(self.path.resolve()), stat.st_size, stat.st_mtime_ns)
        table = CachedTable.open_or_build(key, SPLITS_SCHEMA, _split_rows(open_table(self.path), self._split_column))
        return sorted(table.arrow_table[SPLIT_COLUMN].to_pylist())

    def _read_rows(self, columns: Sequence[str]) -> Iterator[tuple[int, TableRow]]:
        """Yield line and row of the split; a row that cannot be parsed belongs to every split."""
        if self.split is None or self._split_column is None:
            yield from open_table(self.path).read(columns)
            return
        for line, row in open_table(self.path).read(list(dict.fromkeys((*columns, self._split_column)))):
            if isinstance(row, BadRow) or parse_split(row.get(self._split_column)) == self.split:
                yield line, row

    def scan(self) -> Iterator[ImageRef]:
        """Yield all rows in file order; a row's key is the path of the table and its line.

        The stamp has the hash of the row without its image, and size and modification time of the image file. So a row
        that has moved to another line is read again, but need not be embedded again. If the table contains the image,
        the hash includes it.
        """
        path = self.path.parent.resolve() / self.path.name  # images are beside a link, not beside its target
        caption_columns = find_optional_caption_columns(self._column_names, path, self._config)
        names = list(dict.fromkeys((self._image_column, *caption_columns, *self.columns.names)))
        for line, row in self._read_rows(names):
            yield self._make_image_ref(path, line, row, caption_columns)

    def _make_image_ref(self, table_path: Path, line: int, row: TableRow, caption_columns: Sequence[str]) -> ImageRef:
        shown_path = escape_unencodable(str(table_path))
        key = f"{shown_path}:{line}"
        try:
            name, image, captions, columns = self._parse_row(row, caption_columns)
        except BadSample as bad:
            return ImageRef(Location(key, "", shown_path), partial(_raise, bad.reason, key, bad.detail))
        row_hash = sha256(repr((captions, columns)).encode("utf-8", "surrogateescape"))
        record = Record(key, image or b"", captions, None, columns)
        if name is None:
            row_hash.update(record.image)
            return ImageRef(Location(key, row_hash.hexdigest(), shown_path), partial(_return, record))
        path, stamp = table_path.parent / name, file_stamp(table_path.parent / name)
        if stamp == "-":
            path = resolve_image_path(table_path.parent, name)
            stamp = file_stamp(path)
        stamp = f"{row_hash.hexdigest()} {stamp}"
        load = partial(_read_image_file, table_path.parent, name, record)
        return ImageRef(Location(key, stamp, escape_unencodable(str(path))), load)

    def _parse_row(
        self, row: TableRow, caption_columns: Sequence[str]
    ) -> tuple[str | None, bytes | None, tuple[str, ...], dict[str, Any]]:
        """Return path or bytes of the image, captions, which are optional, and extra columns."""
        if isinstance(row, BadRow):
            raise BadSample(row.reason, "", row.detail)
        name, image = parse_image_cell(row.get(self._image_column))
        columns = {field.name: convert_cell(row.get(field.name), field) for field in self.columns}
        return name, image, _parse_optional_captions(row, caption_columns), columns


def _table_rows(
    rows: Iterable[tuple[int, TableRow]], convert: Callable[[TableRow], RowValues], num_further: int
) -> Iterator[RowValues]:
    """Yield the line and the converted cells of each row; a bad row also has nulls for the further columns."""
    for line, row in rows:
        try:
            values = convert(row)
        except BadSample as bad:
            values = (None, None, None, bad.reason, bad.detail, *[None] * num_further)
        yield line, *values


def _convert_row(
    row: TableRow,
    image_column: str,
    caption_columns: Sequence[str],
    group_column: str | None,
    negatives_column: str | None,
    has_counts: bool,
) -> RowValues:
    if isinstance(row, BadRow):
        raise BadSample(row.reason, "", row.detail)
    further: list[Any] = [] if group_column is None else [parse_group(row, group_column)]
    if negatives_column is not None:
        further.append(parse_negatives(row, negatives_column))
    captions = parse_captions(row, caption_columns)
    if has_counts:
        further.append(count_captions(row, caption_columns))
    return *parse_image_cell(row.get(image_column)), captions, None, None, *further


def _split_rows(table: TableFile, split_column: str) -> Iterator[RowValues]:
    rows = (row for _, row in table.read((split_column,)) if not isinstance(row, BadRow))
    splits = dict.fromkeys(escape_unencodable(parse_split(row.get(split_column))) for row in rows)
    for split in splits:
        yield (split,)


def _parse_optional_captions(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    try:
        return tuple(parse_captions(row, columns))
    except BadSample as bad:
        if bad.reason == "empty caption":
            return ()
        raise


def infer_schema(path: Path, table: TableFile, columns: Sequence[str]) -> pa.Schema:
    """Return the types of columns: from the schema of Parquet, otherwise inferred from the first rows."""
    if not columns:
        return pa.schema([])
    if path.suffix.lower() == ".parquet":
        schema = pq.read_schema(path)
        return pa.schema([schema.field(name) for name in columns])
    rows = [row for _, row in islice(table.read(columns), INFER_SCHEMA_ROWS) if not isinstance(row, BadRow)]
    return pa.schema([(name, infer_column_type([row.get(name) for row in rows])) for name in columns])


def _raise(reason: str, key: str, detail: str) -> Record:
    raise BadSample(reason, key, detail)


def _return(record: Record) -> Record:
    return record


def _read_image_file(folder: Path, name: str, record: Record) -> Record:
    return replace(record, image=read_table_image(folder, name, record.id))
