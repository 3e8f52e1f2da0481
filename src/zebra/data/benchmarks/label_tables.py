"""A CSV, TSV, JSONL or Parquet file with a column of pictures and one of labels in; a labelled set out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zebra.config.data import DataConfig
from zebra.data.benchmarks.clip_benchmark import (
    CLASSNAMES_FILENAME,
    TEMPLATES_FILENAME,
    read_lines,
    read_templates,
)
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.data.cached_table import CachedTable, RowValues
from zebra.data.columns import IMAGE_COLUMNS, find_image_column, parse_image_cell
from zebra.data.folders import read_image_bytes
from zebra.data.image_source import empty_class_notes
from zebra.data.table_files import BadRow, TableFile, open_table
from zebra.errors import BadSample, DataError
from zebra.text.templates import DEFAULT_TEMPLATES
from zebra.values import Record

LABEL_COLUMNS = ("label", "class", "cls", "target", "category")
SPLIT_COLUMN = "split"
LABEL_TABLE_SCHEMA = pa.schema(
    {"line": pa.int64(), "path": pa.string(), "image": pa.large_binary(), "label": pa.string()}
)


class LabeledTableSource:
    """The rows of a table whose pictures are files beside it, or bytes in it."""

    def __init__(self, path: Path, table: CachedTable, labels: Sequence[int]) -> None:
        self.path, self.name = path, str(path)
        self.table, self.labels = table, labels
        self.digest = table.digest

    def __len__(self) -> int:
        return len(self.table)

    def sample_id(self, index: int) -> str:
        """Return the id of a row without reading it."""
        return f"{self.path.name}:{self.table.arrow_table['line'][index].as_py()}"

    def read(self, index: int) -> Record:
        """Read one row and its picture; a relative path starts at the table's folder. BadSample without a picture."""
        row = self.table.row(index)
        where = f"{self.path.name}:{row['line']}"
        image = (
            read_image_bytes(self.path.parent / row["path"], where)
            if row["path"] is not None
            else row["image"]
        )
        return Record(where, image, label=self.labels[index])


def read_label_table(
    path: Path, split: str = "test", *, allow_numeric_labels: bool = False
) -> ClassificationBenchmark:
    """Read the rows of one split: those whose `split` column says so, or all, as "test", where there is no such column.

    A label is a class name, or a number if names are known otherwise: from `classnames.txt` beside the table, or from
    the header that Hugging Face writes into Parquet. Without either, the classes are the names that occur, sorted.
    The picture is in one of the columns path, image, filepath, file_name; the label in label, class, cls, target or
    category.

    Args:
        path: A .csv, .tsv, .jsonl or .parquet file.
        split: What the `split` column holds.
        allow_numeric_labels: Take numbers as labels though nothing names them; the caller knows the names.

    Raises:
        DataError: A column or a name is missing, no row is of this split, or a row is broken: with its line.
    """
    table = open_table(path)
    image = find_image_column(table.columns, path, DataConfig(), (*IMAGE_COLUMNS, "img"))
    label = next((name for name in LABEL_COLUMNS if name in table.columns), None)
    if label is None:
        raise DataError(
            f"{path} has no label column ({', '.join(LABEL_COLUMNS)}); it has {', '.join(table.columns)}"
        )
    if SPLIT_COLUMN not in table.columns and split != "test":
        raise DataError(
            f"{path} has no column {SPLIT_COLUMN!r}, so it has no {split!r} that differs from the rest"
        )
    state = path.stat()
    key = ("labels", str(path.resolve()), state.st_size, state.st_mtime_ns, image, label, split)
    index = CachedTable.open_or_build(key, LABEL_TABLE_SCHEMA, _label_rows(path, table, image, label, split))
    if not len(index):
        raise DataError(f"{path} has no row of the split {split!r}")
    told = index.arrow_table["label"].to_pylist()
    classnames = _read_classnames(path, label) or _infer_classnames(
        told, path, allow_numeric_labels=allow_numeric_labels
    )
    labels = _to_class_indices(told, classnames, path, index)
    templates = path.with_name(TEMPLATES_FILENAME)
    return ClassificationBenchmark(
        path.stem,
        classnames,
        read_templates(templates) if templates.is_file() else DEFAULT_TEMPLATES,
        LabeledTableSource(path, index, labels),
        notes=empty_class_notes(labels, classnames),
    )


def _label_rows(
    path: Path, table: TableFile, image_column: str, label_column: str, split: str
) -> Iterator[RowValues]:
    wanted = (image_column, label_column, *(name for name in (SPLIT_COLUMN,) if name in table.columns))
    for line, row in table.read(wanted):
        where = f"{path}:{line}"
        if isinstance(row, BadRow):
            raise DataError(f"{where}: {row.reason} ({row.detail}); mend the line")
        if SPLIT_COLUMN in wanted and row.get(SPLIT_COLUMN) != split:
            continue
        try:
            place, data = parse_image_cell(row.get(image_column))
        except BadSample as bad:
            raise DataError(f"{where}: {bad.reason} ({bad.detail}); mend the line") from bad
        yield line, place, data, _parse_label(row, label_column, where)


def _parse_label(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text:
        raise DataError(f"{where}: {value!r} in {column} is neither a class name nor a number; mend the line")
    return text


def _read_classnames(path: Path, label_column: str) -> tuple[str, ...]:
    if (beside := path.with_name(CLASSNAMES_FILENAME)).is_file():
        return read_lines(beside)
    if path.suffix.lower() != ".parquet":
        return ()
    try:
        header = (pq.read_schema(path).metadata or {}).get(b"huggingface", b"{}")
        return tuple(json.loads(header)["info"]["features"][label_column]["names"])
    except (ValueError, LookupError, TypeError):  # written by another program
        return ()


def _infer_classnames(
    label_texts: Sequence[str], path: Path, *, allow_numeric_labels: bool
) -> tuple[str, ...]:
    names = tuple(sorted(set(label_texts)))
    if all(name.isdecimal() for name in names):
        if allow_numeric_labels:
            return tuple(str(number) for number in range(max(map(int, names)) + 1))
        raise DataError(
            f"{path} labels its pictures with numbers; write {CLASSNAMES_FILENAME} beside it, a name per line, number 0 first"
        )
    return names


def _to_class_indices(
    label_texts: Sequence[str], classnames: tuple[str, ...], path: Path, table: CachedTable
) -> list[int]:
    numbers = {name: number for number, name in enumerate(classnames)}
    named = set(label_texts) <= set(
        numbers
    )  # a name counts first: the class "7" may stand anywhere in the list
    if not named and all(label.removeprefix("-").isdecimal() for label in label_texts):
        numbers = {str(number): number for number in range(len(classnames))}
    for row, label in enumerate(label_texts):
        if label not in numbers:
            line = table.arrow_table["line"][row].as_py()
            raise DataError(
                f"{path}:{line}: the label {label!r} is none of the {len(classnames)} class names, and no number from "
                f"0 to {len(classnames) - 1}"
            )
    return [numbers[label] for label in label_texts]
