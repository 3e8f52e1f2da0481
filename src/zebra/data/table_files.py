"""Read CSV, TSV, JSONL and Parquet files row by row, with line numbers."""

import csv
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zebra.data.columns import IMAGE_COLUMNS, normalize_name
from zebra.data.csv_dialect import DELIMITERS, HEADER_ADVICE, CsvDialect, detect_dialect, skip_lines
from zebra.data.regular_files import require_regular_file
from zebra.data.text_lines import MAX_LINE_CHARS, LineTooLong, detect_encoding, open_text_lines
from zebra.errors import DataError, list_names


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be parsed into columns."""

    reason: str
    detail: str


TableRow = Mapping[str, Any] | BadRow
INFER_SCHEMA_ROWS = 1000
"""Number of JSONL rows whose keys are taken as the columns."""
TOO_LONG = BadRow("row is too long", f"more than {MAX_LINE_CHARS:,} characters")


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table on disk: its column names, and a function that reads some of the columns."""

    columns: tuple[str, ...]
    """Names may repeat; such a column cannot be read."""
    read: Callable[[Sequence[str]], Iterator[tuple[int, TableRow]]]
    """Column names, or () for all → (line or row number from 1, row) in file order."""
    image_columns: tuple[str, ...] = ()
    """Columns of a Parquet file that contain images, by their type: bytes, or Hugging Face's struct."""


def open_table(path: Path) -> TableFile:
    """Open a table by its suffix; a compressed text file has .gz or .zst behind it.

    A CSV or TSV that is not separated as its suffix says, or is not UTF-8, is read as detected, with a warning.

    Raises:
        DataError: The table is damaged, has no columns, or it is doubtful how it is separated.
    """
    table = TABLE_FORMATS[table_suffix(path)](path)
    if not table.columns:
        raise DataError(f"{path} has no columns. {_explain_no_columns(path)}")
    return table


def table_suffix(path: Path) -> str:
    """Return the suffix that says the layout of a file, in lower case.

    >>> table_suffix(Path("links.CSV.gz")), table_suffix(Path("links.parquet"))
    ('.csv', '.parquet')
    """
    return (Path(path.stem) if path.suffix.lower() in (".gz", ".zst") else path).suffix.lower()


def image_column_candidates(table: TableFile) -> Sequence[str]:
    """Return the known names of image columns that contain images, if there are any; else all known names."""
    with_bytes = {normalize_name(name) for name in table.image_columns}
    return [name for name in IMAGE_COLUMNS if name in with_bytes] or IMAGE_COLUMNS


def require_distinct(path: Path, columns: Sequence[str], used: Sequence[str]) -> None:
    """Raise DataError if one of the columns to be read occurs twice; nameless columns may."""
    counts = Counter(columns)
    repeated = [name for name in used if name and counts[name] > 1]
    if repeated:
        raise DataError(
            f"{path} has {counts[repeated[0]]} columns named {repeated[0]!r}. Give each column a name of its own"
        )


def _explain_no_columns(path: Path) -> str:
    if table_suffix(path) != ".jsonl":
        return HEADER_ADVICE
    return "Each line of a JSONL file must be an object"


def _open_csv(path: Path, default_delimiter: str) -> TableFile:
    dialect = detect_dialect(path, default_delimiter)
    _, header = next(_iter_csv(path, dialect), (1, []))
    if isinstance(header, BadRow):
        raise DataError(f"{path}:1: the header cannot be read: {header.detail}")
    columns = tuple(name.strip() for name in header)
    _warn_if_unusual(path, dialect, default_delimiter)

    def read(names: Sequence[str]) -> Iterator[tuple[int, TableRow]]:
        names = names or columns
        require_distinct(path, columns, names)
        positions = {name: columns.index(name) for name in names}
        for line, fields in islice(_iter_csv(path, dialect), 1, None):
            if isinstance(fields, BadRow):
                yield line, fields
            elif len(fields) != len(columns):
                yield line, _explain_field_count(fields, len(columns))
            else:
                yield line, {name: fields[position] for name, position in positions.items()}

    return TableFile(columns, read)


def _warn_if_unusual(path: Path, dialect: CsvDialect, default_delimiter: str) -> None:
    encoding = detect_encoding(path)
    delimiter = DELIMITERS.get(dialect.delimiter, repr(dialect.delimiter))
    parts = [f"is {encoding.upper()}"] if not encoding.startswith("utf-8") else []
    parts += [f"is separated by {delimiter}"] if dialect.delimiter != default_delimiter else []
    if parts:
        warnings.warn(f"{path} {' and '.join(parts)}; it is read as such", stacklevel=1)


def _explain_field_count(fields: Sequence[str], num_columns: int) -> BadRow:
    reason = "too few columns" if len(fields) < num_columns else "too many columns"
    if any(field.lstrip().startswith('"') for field in fields):
        advice = "the quote must begin the field, without a blank before it"
    elif len(fields) < num_columns:
        advice = f"the line begins with {fields[0][:40]!r}"
    else:
        advice = "quote a text that contains a delimiter"
    return BadRow(
        reason, f"{len(fields)} {'field' if len(fields) == 1 else 'fields'} for {num_columns} columns; {advice}"
    )


def _iter_csv(path: Path, dialect: CsvDialect) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Yield (first line, fields) of every row that is not blank. Each line of an unclosed quote is a BadRow."""
    csv.field_size_limit(MAX_LINE_CHARS)  # of the process; never lowered again, since another reader may be at work
    with open_text_lines(path) as lines:
        skip_lines(lines, dialect.num_skipped_lines)
        reader = dialect.reader(lines)
        while True:
            first_line = lines.number + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except (csv.Error, LineTooLong) as error:
                bad = _explain_csv_error(error)
                for line in range(first_line, lines.number + 1):
                    yield line, bad
            else:
                if fields:
                    yield first_line, fields


def _explain_csv_error(error: Exception) -> BadRow:
    if isinstance(error, LineTooLong) or "field larger" in str(error):
        return TOO_LONG
    return BadRow("broken quotes", f"{error}; double the quotes inside a quoted text")


def _open_jsonl(path: Path) -> TableFile:
    if _is_json_array(path):
        raise DataError(f"{path} is one JSON array. Write one object per line")
    columns: dict[str, None] = {}
    for _, row in islice(_iter_jsonl(path), INFER_SCHEMA_ROWS):
        if not isinstance(row, BadRow):
            columns.update(dict.fromkeys(row))
    return TableFile(tuple(columns), lambda _names: _iter_jsonl(path))


def _is_json_array(path: Path) -> bool:
    with open_text_lines(path) as lines:
        try:
            return next((line for line in lines if line.strip()), "").lstrip().startswith("[")
        except LineTooLong:
            return False


def _iter_jsonl(path: Path) -> Iterator[tuple[int, TableRow]]:
    with open_text_lines(path) as lines:
        while True:
            try:
                line = next(lines)
            except StopIteration:
                return
            except LineTooLong:
                yield lines.number, TOO_LONG
            else:
                if line.strip():
                    yield lines.number, _parse_json_object(line)


def _parse_json_object(text: str) -> TableRow:
    try:
        value = json.loads(text, object_pairs_hook=_require_distinct_keys)
    except (ValueError, RecursionError) as error:
        return BadRow("broken JSON line", str(error))
    return value if isinstance(value, dict) else BadRow("broken JSON line", f"not an object: {text[:40]!r}")


def _require_distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        raise ValueError(f"repeated keys: {list_names(repeated)}")
    return value


def _open_parquet(path: Path) -> TableFile:
    try:
        require_regular_file(path)
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is no complete Parquet file ({error}). Copy or write it again") from error

    def read(names: Sequence[str]) -> Iterator[tuple[int, TableRow]]:
        require_distinct(path, schema.names, names or schema.names)
        return _iter_parquet(path, names or schema.names)

    image_columns = [field.name for field in schema if _contains_bytes(field.type)]
    return TableFile(tuple(schema.names), read, tuple(image_columns))


def _contains_bytes(data_type: pa.DataType) -> bool:
    if pa.types.is_struct(data_type):
        return any(field.name == "bytes" and _contains_bytes(field.type) for field in data_type)
    return bool(pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type))


def _iter_parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, TableRow]]:
    num_rows = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64, columns=list(columns), use_threads=False):
                for row in _batch_to_rows(batch):
                    num_rows += 1
                    yield num_rows, row
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is damaged after row {num_rows} ({error}). Copy or write it again") from error


def _batch_to_rows(batch: pa.RecordBatch) -> Iterator[TableRow]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:  # Arrow does not validate strings: find the bad rows
        for index in range(batch.num_rows):
            try:
                yield from batch.slice(index, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield BadRow("caption is not UTF-8", str(error))


TABLE_FORMATS: Mapping[str, Callable[[Path], TableFile]] = {
    ".csv": lambda path: _open_csv(path, ","),
    ".tsv": lambda path: _open_csv(path, "\t"),
    ".jsonl": _open_jsonl,
    ".parquet": _open_parquet,
}
"""Suffix → function that opens such a table."""
OTHER_TABLES: Mapping[str, str] = {
    **dict.fromkeys((".xlsx", ".xlsm", ".xls", ".ods", ".numbers"), "Save the sheet as CSV UTF-8"),
    **dict.fromkeys((".json", ".ndjson"), "Write one JSON object per line, and name the file .jsonl"),
    **dict.fromkeys((".txt", ".tab", ".dat", ".psv"), "If it is a table, name it .csv"),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".zip"), "Decompress it"),
    **dict.fromkeys((".feather", ".arrow", ".orc", ".avro", ".pkl", ".pickle"), "Write it as .parquet"),
}
"""Suffix of a file that is not read, although it may be a table → what to do."""
