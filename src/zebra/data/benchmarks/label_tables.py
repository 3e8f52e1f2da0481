"""A CSV, TSV, JSONL or Parquet file with a column of pictures and one of labels in; a labelled set out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zebra.config.data import DataConfig
from zebra.data.benchmarks.clip_benchmark import (
    CLASSNAMES,
    TEMPLATES,
    Benchmark,
    read_lines,
    read_templates,
)
from zebra.data.cached_table import Index, Row
from zebra.data.columns import IMAGE_COLUMNS, image_column, image_of
from zebra.data.folders import read_image
from zebra.data.image_source import empty_classes
from zebra.data.table_files import Broken, TableFile, open_table
from zebra.errors import BadSample, DataError
from zebra.text.templates import DEFAULT_TEMPLATES
from zebra.values import Record

LABEL_COLUMNS = ("label", "class", "cls", "target", "category")
SPLIT_COLUMN = "split"
SCHEMA = pa.schema(
    {"line": pa.int64(), "path": pa.string(), "image": pa.large_binary(), "label": pa.string()}
)


class LabelledRows:
    """The rows of a table whose pictures are files beside it, or bytes in it."""

    def __init__(self, path: Path, index: Index, labels: Sequence[int]) -> None:
        self.path, self.name = path, str(path)
        self.index, self.labels = index, labels
        self.digest = index.digest

    def __len__(self) -> int:
        return len(self.index)

    def locate(self, index: int) -> str:
        """Return the id of a row without reading it."""
        return f"{self.path.name}:{self.index.table['line'][index].as_py()}"

    def read(self, index: int) -> Record:
        """Read one row and its picture; a relative path starts at the table's folder. BadSample without a picture."""
        row = self.index.row(index)
        where = f"{self.path.name}:{row['line']}"
        image = read_image(self.path.parent / row["path"], where) if row["path"] is not None else row["image"]
        return Record(where, image, label=self.labels[index])


def read_label_table(path: Path, split: str = "test", *, numbered: bool = False) -> Benchmark:
    """Read the rows of one split: those whose `split` column says so, or all, as "test", where there is no such column.

    A label is a class name, or a number if names are known otherwise: from `classnames.txt` beside the table, or from
    the header that Hugging Face writes into Parquet. Without either, the classes are the names that occur, sorted.
    The picture is in one of the columns path, image, filepath, file_name; the label in label, class, cls, target or
    category.

    Args:
        path: A .csv, .tsv, .jsonl or .parquet file.
        split: What the `split` column holds.
        numbered: Take numbers as labels though nothing names them; the caller knows the names.

    Raises:
        DataError: A column or a name is missing, no row is of this split, or a row is broken: with its line.
    """
    table = open_table(path)
    image = image_column(table.columns, path, DataConfig(), (*IMAGE_COLUMNS, "img"))
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
    index = Index.open(key, SCHEMA, _rows(path, table, image, label, split))
    if not len(index):
        raise DataError(f"{path} has no row of the split {split!r}")
    told = index.table["label"].to_pylist()
    classnames = _names_beside(path, label) or _names_found(told, path, numbered=numbered)
    labels = _labels(told, classnames, path, index)
    templates = path.with_name(TEMPLATES)
    return Benchmark(
        path.stem,
        classnames,
        read_templates(templates) if templates.is_file() else DEFAULT_TEMPLATES,
        LabelledRows(path, index, labels),
        notes=empty_classes(labels, classnames),
    )


def _rows(path: Path, table: TableFile, image: str, label: str, split: str) -> Iterator[Row]:
    wanted = (image, label, *(name for name in (SPLIT_COLUMN,) if name in table.columns))
    for line, row in table.read(wanted):
        where = f"{path}:{line}"
        if isinstance(row, Broken):
            raise DataError(f"{where}: {row.reason} ({row.detail}); mend the line")
        if SPLIT_COLUMN in wanted and row.get(SPLIT_COLUMN) != split:
            continue
        try:
            place, data = image_of(row.get(image))
        except BadSample as bad:
            raise DataError(f"{where}: {bad.reason} ({bad.detail}); mend the line") from bad
        yield line, place, data, _label(row, label, where)


def _label(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text:
        raise DataError(f"{where}: {value!r} in {column} is neither a class name nor a number; mend the line")
    return text


def _names_beside(path: Path, label: str) -> tuple[str, ...]:
    if (beside := path.with_name(CLASSNAMES)).is_file():
        return read_lines(beside)
    if path.suffix.lower() != ".parquet":
        return ()
    try:
        header = (pq.read_schema(path).metadata or {}).get(b"huggingface", b"{}")
        return tuple(json.loads(header)["info"]["features"][label]["names"])
    except (ValueError, LookupError, TypeError):  # written by another program
        return ()


def _names_found(told: Sequence[str], path: Path, *, numbered: bool) -> tuple[str, ...]:
    names = tuple(sorted(set(told)))
    if all(name.isdecimal() for name in names):
        if numbered:
            return tuple(str(number) for number in range(max(map(int, names)) + 1))
        raise DataError(
            f"{path} labels its pictures with numbers; write {CLASSNAMES} beside it, a name per line, number 0 first"
        )
    return names


def _labels(told: Sequence[str], classnames: tuple[str, ...], path: Path, index: Index) -> list[int]:
    numbers = {name: number for number, name in enumerate(classnames)}
    named = set(told) <= set(numbers)  # a name counts first: the class "7" may stand anywhere in the list
    if not named and all(label.removeprefix("-").isdecimal() for label in told):
        numbers = {str(number): number for number in range(len(classnames))}
    for row, label in enumerate(told):
        if label not in numbers:
            line = index.table["line"][row].as_py()
            raise DataError(
                f"{path}:{line}: the label {label!r} is none of the {len(classnames)} class names, and no number from "
                f"0 to {len(classnames) - 1}"
            )
    return [numbers[label] for label in told]
