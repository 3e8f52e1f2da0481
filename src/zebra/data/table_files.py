"""Read CSV, TSV, JSONL and Parquet files row by row, with line numbers."""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from zebra.errors import DataError


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be parsed into columns."""

    reason: str
    detail: str


TableRow = Mapping[str, Any] | BadRow
INFER_SCHEMA_ROWS = 1000
"""Number of JSONL rows whose keys are taken as the columns."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table on disk: its column names, and a function that reads some of the columns."""

    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[tuple[int, TableRow]]]
    """Column names → (line or row number from 1, row) in file order."""


def open_table(path: Path) -> TableFile:
    """Open a table by its suffix; raise DataError if it is damaged or has no columns."""
    table = TABLE_FORMATS[path.suffix.lower()](path)
    if not table.columns:
        raise DataError(f"{path} has no columns. A CSV or TSV needs a header, a JSONL line must be an object")
    return table


def _open_csv(path: Path, delimiter: str) -> TableFile:
    _, header = next(_iter_csv(path, delimiter), (1, []))
    if isinstance(header, BadRow):
        raise DataError(f"{path}:1: the header cannot be read: {header.detail}")
    columns = tuple(name.strip() for name in header)

    def read(_columns: Sequence[str]) -> Iterator[tuple[int, TableRow]]:
        for line, fields in islice(_iter_csv(path, delimiter), 1, None):
            yield line, fields if isinstance(fields, BadRow) else _to_row(columns, fields)

    return TableFile(columns, read)


def _to_row(columns: tuple[str, ...], fields: list[str]) -> TableRow:
    if len(fields) == len(columns):
        return dict(zip(columns, fields, strict=True))
    detail = f"{len(fields)} fields for {len(columns)} columns; quote a text that contains a separator"
    return BadRow("too few columns" if len(fields) < len(columns) else "too many columns", detail)


def _iter_csv(path: Path, delimiter: str) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Yield (first line, fields) of every row that is not blank; undecodable bytes become surrogates.

    Strict mode rejects an unclosed quote, which would silently swallow the following rows. Each line that it covers is
    a BadRow.
    """
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with _open_text(path) as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            while True:
                first_line = reader.line_num + 1
                try:
                    fields = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    for line in range(first_line, reader.line_num + 1):
                        yield line, BadRow("broken quotes", str(error))
                else:
                    if fields:
                        yield first_line, fields
    finally:
        csv.field_size_limit(limit)


def _open_jsonl(path: Path) -> TableFile:
    columns: dict[str, None] = {}
    for _, row in islice(_iter_jsonl(path), INFER_SCHEMA_ROWS):
        if not isinstance(row, BadRow):
            columns.update(dict.fromkeys(row))
    return TableFile(tuple(columns), lambda _columns: _iter_jsonl(path))


def _iter_jsonl(path: Path) -> Iterator[tuple[int, TableRow]]:
    with _open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _parse_json_object(line)


def _parse_json_object(text: str) -> TableRow:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return BadRow("broken JSON line", str(error))
    return value if isinstance(value, dict) else BadRow("broken JSON line", f"not an object: {text[:40]!r}")


@contextmanager
def _open_text(path: Path) -> Iterator[IO[str]]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _open_parquet(path: Path) -> TableFile:
    try:
        columns = tuple(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is no complete Parquet file ({error}). Copy or write it again") from error
    return TableFile(columns, lambda names: _iter_parquet(path, names))


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
