"""Tables with an address of an image and a caption in each row."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zebra.config.data import DataConfig
from zebra.curate.pairs import PAIR_SCHEMA, UID_BYTES
from zebra.curate.pools.records import BadRecord, ImageLink
from zebra.data.columns import (
    IMAGE_COLUMNS,
    URL_COLUMNS,
    convert_cell,
    find_caption_columns,
    match_column,
    normalize_name,
    parse_captions,
)
from zebra.data.ignored import IgnoredCounter
from zebra.data.table_files import BadRow, TableRow, open_table, table_suffix
from zebra.data.tables import infer_schema
from zebra.errors import BadSample, DataError, show_value

UID_COLUMN = "uid"
_UID = re.compile(rf"[0-9a-fA-F]{{{2 * UID_BYTES}}}")
RESERVED_NAMES = frozenset((*PAIR_SCHEMA.names, "url", "page", "unit"))
"""Columns of pairs. What a table says of an image, such as its width, is carried along as given_width."""
NUM_PROBED_ROWS = 100
"""Rows in which a column of images is found to hold addresses."""
ROWS_PER_BATCH = 2_048

NumberedRow = tuple[int, TableRow]
Batch = tuple[list[ImageLink | BadRecord], pa.Table]
"""The samples of some rows, and the other columns of these rows."""


@dataclass(frozen=True, slots=True)
class LinkColumns:
    """Which columns of a table have what."""

    url: str
    captions: tuple[str, ...]
    uid: str | None
    others: Mapping[str, str]
    """Name in the pool → name in the table, of the columns that rules may use."""
    schema: pa.Schema
    """Types of the other columns, by their names in the pool."""


def find_link_columns(path: Path, config: DataConfig) -> LinkColumns | None:
    """Return the columns of a table of links; None if its rows have images, or no address of one.

    The address is in the column `data_options.image_column`, url or a similar one, or in a column of image paths that
    are addresses.

    Raises:
        DataError: The table cannot be read, or it has addresses and no captions.
    """
    table = open_table(path)
    names = table.columns
    candidates = (config.image_column,) if config.image_column else (*IMAGE_COLUMNS, *URL_COLUMNS)
    columns = [column for name in candidates if (column := match_column(name, names, path))]
    images = [column for column in columns if normalize_name(column) not in URL_COLUMNS]
    if table.image_columns:
        return None
    if images and not any(map(_is_address, _probe(path, images[0]))):
        return None
    if not columns:
        return None
    urls = [column for column in columns if column not in images] or images
    captions = find_caption_columns(names, path, config)
    uid = match_column(UID_COLUMN, names, path)
    others = name_other_columns(names, {urls[0], *captions, uid})
    schema = infer_schema(path, table, list(others.values()))
    return LinkColumns(
        *(urls[0], captions, uid, others),
        schema=pa.schema([(name, plain_type(schema.field(column).type)) for name, column in others.items()]),
    )


def read_link_table(
    path: Path, name: str, columns: LinkColumns, schema: pa.Schema, unused: IgnoredCounter
) -> Iterator[Batch]:
    """Yield the rows of a table.

    Damage ends a text file, and makes all rows of a group of a Parquet file bad.

    Args:
        path: The table.
        name: Its name, for places.
        columns: Of this table.
        schema: Types of the other columns in the whole pool; a column that this table lacks is null.
        unused: Counts cells of the other columns that have another type.
    """
    read = _read_parquet if table_suffix(path) == ".parquet" else _read_text_table
    for rows, others in read(path, columns, schema, unused):
        yield [_parse_row(row, f"{name}:{number}", columns) for number, row in rows], others


def _read_text_table(
    path: Path, columns: LinkColumns, schema: pa.Schema, unused: IgnoredCounter
) -> Iterator[tuple[list[NumberedRow], pa.Table]]:
    numbered = _stop_at_damage(open_table(path).read(()))
    while rows := list(islice(numbered, ROWS_PER_BATCH)):
        arrays = []
        for field in schema:
            column = columns.others.get(field.name, "")
            cells = [None if isinstance(row, BadRow) else row.get(column) for _, row in rows]
            arrays.append(pa.array([_convert(cell, field, path, unused) for cell in cells], field.type))
        yield rows, pa.table(arrays, schema=schema)


def _read_parquet(
    path: Path, columns: LinkColumns, schema: pa.Schema, unused: IgnoredCounter
) -> Iterator[tuple[list[NumberedRow], pa.Table]]:
    used = [columns.url, *columns.captions, *([columns.uid] if columns.uid else [])]
    number = 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            end = number + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(ROWS_PER_BATCH, [group], [*used, *columns.others.values()]):
                    cells = [_to_python(batch[column]) for column in used]
                    rows = [_combine(used, row) for row in zip(*cells, strict=True)]
                    yield list(enumerate(rows, number + 1)), _cast_columns(batch, columns, schema, path, unused)
                    number += len(batch)
            except (OSError, pa.ArrowException) as error:
                damage = BadRow("damaged file", str(error))
                bad: list[NumberedRow] = [(row, damage) for row in range(number + 1, end + 1)]
                yield bad, pa.table([pa.nulls(len(bad), field.type) for field in schema], schema=schema)
            number = end


def _parse_row(row: TableRow, place: str, columns: LinkColumns) -> ImageLink | BadRecord:
    if isinstance(row, BadRow):
        return BadRecord(place, row.reason, row.detail)
    url = row.get(columns.url)
    if url is None or url == "":
        return BadRecord(place, "missing address")
    if not isinstance(url, str):
        return BadRecord(place, "address is not text", show_value(url))
    try:
        texts = parse_captions(row, columns.captions)
    except BadSample as bad:
        return BadRecord(place, bad.reason, bad.detail)
    uid = row.get(columns.uid) if columns.uid else None
    return ImageLink(url.strip(), tuple(dict.fromkeys(texts)), uid=parse_uid(uid))


def _stop_at_damage(rows: Iterator[NumberedRow]) -> Iterator[NumberedRow]:
    number = 0
    try:
        for number, row in rows:
            yield number, row
    except DataError as error:
        yield number + 1, BadRow("damaged file", str(error))


def _convert(cell: object, field: pa.Field, path: Path, unused: IgnoredCounter) -> object:
    try:
        return convert_cell(cell, field)
    except BadSample:
        unused.add(f"cell of another type in the column {field.name}", path.name)
        return None


def _to_python(array: pa.Array) -> list[object]:
    try:
        values: list[object] = array.to_pylist()
    except UnicodeDecodeError:  # Arrow does not validate strings
        values = [_cell_or_bad(cell) for cell in array]
    return values


def _cell_or_bad(cell: pa.Scalar) -> object:
    try:
        return cell.as_py()
    except UnicodeDecodeError as error:
        return BadRow("caption is not UTF-8", str(error))


def _combine(names: Sequence[str], cells: Sequence[object]) -> TableRow:
    """Return a row; a bad cell makes a bad row."""
    bad = next((cell for cell in cells if isinstance(cell, BadRow)), None)
    return dict(zip(names, cells, strict=True)) if bad is None else bad


def _cast_columns(
    batch: pa.RecordBatch, columns: LinkColumns, schema: pa.Schema, path: Path, unused: IgnoredCounter
) -> pa.Table:
    arrays = []
    for field in schema:
        column = columns.others.get(field.name)
        if column is None:
            arrays.append(pa.nulls(len(batch), field.type))
            continue
        try:
            arrays.append(batch[column].cast(field.type))
        except pa.ArrowException:
            cells = [_convert(cell, field, path, unused) for cell in _to_python(batch[column])]
            arrays.append(pa.array(cells, field.type))
    return pa.table(arrays, schema=schema)


def _probe(path: Path, column: str) -> list[object]:
    rows = islice(open_table(path).read((column,)), NUM_PROBED_ROWS)
    return [None if isinstance(row, BadRow) else row.get(column) for _, row in rows]


def _is_address(cell: object) -> bool:
    return isinstance(cell, str) and cell.strip().lower().startswith(("http://", "https://"))


def name_other_columns(names: Sequence[str], used: set[str | None]) -> dict[str, str]:
    """Return the names in the pool of the columns that are carried along: in lower case, without those of pairs."""
    others: dict[str, str] = {}
    for column in names:
        name = normalize_name(column)
        if name and column not in used and names.count(column) == 1:
            others.setdefault(f"given_{name}" if name in RESERVED_NAMES else name, column)
    return others


def plain_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type of the values of a dictionary, and one type for all kinds of text."""
    if pa.types.is_dictionary(data_type):
        return plain_type(data_type.value_type)
    return pa.string() if pa.types.is_large_string(data_type) or pa.types.is_string_view(data_type) else data_type


def unify_schemas(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return all columns; one whose types differ beyond conversion is text."""
    types: dict[str, pa.DataType] = {}
    for field in (field for schema in schemas for field in schema):
        try:
            same_name = [
                pa.schema([(field.name, data_type)]) for data_type in (types.get(field.name), field.type) if data_type
            ]
            types[field.name] = pa.unify_schemas(same_name, promote_options="permissive").field(0).type
        except pa.ArrowException:
            types[field.name] = pa.string()
    return pa.schema(list(types.items()))


def parse_uid(cell: object) -> bytes | None:
    """Return a uid of 32 hex digits as bytes; None for anything else."""
    return bytes.fromhex(cell) if isinstance(cell, str) and _UID.fullmatch(cell) else None
