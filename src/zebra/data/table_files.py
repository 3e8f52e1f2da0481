"""A CSV, TSV, JSONL or Parquet file in, one mapping per record out, with the line it stands on."""

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
    """A record that cannot be taken apart into columns."""

    reason: str
    detail: str


TableRow = Mapping[str, Any] | BadRow
INFER_SCHEMA_ROWS = 1000
"""Lines of a JSONL file that its columns are gathered from."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table on disk: the names of its columns, and a reader of chosen ones."""

    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[tuple[int, TableRow]]]
    """Columns wanted → (1-based line or row, record) in the order of the file."""


def open_table(path: Path) -> TableFile:
    """Open a table by its suffix; DataError if it is damaged or has no columns."""
    table = TABLE_FORMATS[path.suffix.lower()](path)
    if not table.columns:
        raise DataError(
            f"{path} has no columns: a CSV or TSV begins with their names, a JSONL line is an object"
        )
    return table


def _open_csv(path: Path, delimiter: str) -> TableFile:
    _, header = next(_iter_csv(path, delimiter), (1, []))
    if isinstance(header, BadRow):
        raise DataError(f"{path}:1: the header cannot be read: {header.detail}")
    columns = tuple(name.strip() for name in header)

    def read(_wanted: Sequence[str]) -> Iterator[tuple[int, TableRow]]:
        for line, fields in islice(_iter_csv(path, delimiter), 1, None):
            yield line, fields if isinstance(fields, BadRow) else _to_row(columns, fields)

    return TableFile(columns, read)


def _to_row(columns: tuple[str, ...], fields: list[str]) -> TableRow:
    if len(fields) == len(columns):
        return dict(zip(columns, fields, strict=True))
    detail = f"{len(fields)} fields under {len(columns)} columns; put a text that holds a separator in quotes"
    return BadRow("too few columns" if len(fields) < len(columns) else "too many columns", detail)


def _iter_csv(path: Path, delimiter: str) -> Iterator[tuple[int, list[str] | BadRow]]:
    """Yield (first line, fields) of every record that is not blank; undecodable bytes become surrogates.

    A quote that never closes would swallow the records behind it in silence: strict reading refuses it, and each
    line it covered counts as broken.
    """
    limit = csv.field_size_limit(sys.maxsize)
    try:
        with _open_text(path) as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            while True:
                first = reader.line_num + 1
                try:
                    fields = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    for line in range(first, reader.line_num + 1):
                        yield line, BadRow("broken quotes", str(error))
                else:
                    if fields:
                        yield first, fields
    finally:
        csv.field_size_limit(limit)


def _open_jsonl(path: Path) -> TableFile:
    columns: dict[str, None] = {}
    for _, row in islice(_iter_jsonl(path), INFER_SCHEMA_ROWS):
        if not isinstance(row, BadRow):
            columns.update(dict.fromkeys(row))
    return TableFile(tuple(columns), lambda _wanted: _iter_jsonl(path))


def _iter_jsonl(path: Path) -> Iterator[tuple[int, TableRow]]:
    with _open_text(path) as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                yield line, _parse_json_object(text)


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
        raise DataError(f"{path} is not a whole Parquet file ({error}); copy or write it again") from error
    return TableFile(columns, lambda wanted: _iter_parquet(path, wanted))


def _iter_parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, TableRow]]:
    row = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64, columns=list(columns), use_threads=False):
                for record in _batch_to_rows(batch):
                    row += 1
                    yield row, record
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is damaged behind row {row} ({error}); copy or write it again") from error


def _batch_to_rows(batch: pa.RecordBatch) -> Iterator[TableRow]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:  # Arrow does not check its strings; find the rows to blame
        for number in range(batch.num_rows):
            try:
                yield from batch.slice(number, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield BadRow("caption is not UTF-8", str(error))


TABLE_FORMATS: Mapping[str, Callable[[Path], TableFile]] = {
    ".csv": lambda path: _open_csv(path, ","),
    ".tsv": lambda path: _open_csv(path, "\t"),
    ".jsonl": _open_jsonl,
    ".parquet": _open_parquet,
}
"""How each kind of table is opened, by suffix."""
