"""Benchmarks in a table with an image column and a label column."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zebra.config.data import DataConfig
from zebra.data.benchmarks.clip_benchmark import CLASSNAMES_FILENAME, TEMPLATES_FILENAME, read_lines, read_templates
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.data.cached_table import CachedTable, RowValues
from zebra.data.columns import LABEL_COLUMNS, SPLIT_COLUMN, find_image_column, match_column, validate_text
from zebra.data.ignored import Ignored
from zebra.data.image_cells import parse_image_cell, read_table_image
from zebra.data.image_source import empty_class_notes
from zebra.data.split_names import parse_split
from zebra.data.table_files import BadRow, TableFile, image_column_candidates, open_table
from zebra.errors import BadSample, DataError, MissingSplit, list_names
from zebra.values import Record

MAX_SPLITS_SHOWN = 20
LABEL_TABLE_SCHEMA = pa.schema(
    {"line": pa.int64(), "path": pa.string(), "image": pa.large_binary(), "label": pa.string()}
)
_NUMBER = re.compile(r"([+-]?[0-9]+)(?:\.([0-9]*))?")


class LabeledTableSource:
    """The rows of a table with image paths or image bytes."""

    def __init__(self, path: Path, table: CachedTable, labels: Sequence[int]) -> None:
        self.path, self.name = path, str(path)
        self.table, self.labels = table, labels
        self.digest = table.digest
        self.ignored: tuple[Ignored, ...] = ()
        """Always empty: a table has no files of its own."""

    def __len__(self) -> int:
        return len(self.table)

    def sample_id(self, index: int) -> str:
        """Return the ID of a row without reading it."""
        return f"{self.path.name}:{self.table.arrow_table['line'][index].as_py()}"

    def read(self, index: int) -> Record:
        """Read one row and its image, from a path relative to the table's folder; raise BadSample without an image."""
        row = self.table.row(index)
        sample_id = f"{self.path.name}:{row['line']}"
        image = row["image"]
        if image is None:
            image = read_table_image(self.path.parent, row["path"], sample_id)
        return Record(sample_id, image, label=self.labels[index])


def read_label_table(
    path: Path,
    split: str = "test",
    *,
    label_columns: Sequence[str] = (),
    image_column: str | None = None,
    allow_numeric_labels: bool = False,
) -> ClassificationBenchmark:
    """Read the rows of one split. Without a column `split`, all rows are the split "test".

    A label is a class name, or a number if there are class names in `classnames.txt` beside the table or in Hugging
    Face's Parquet metadata. Otherwise, the classes are the distinct labels, sorted. The columns are one of
    IMAGE_COLUMNS, one of LABEL_COLUMNS and SPLIT_COLUMN, in any letter case.

    Args:
        path: A .csv, .tsv, .jsonl or .parquet file.
        split: Value of the column `split`.
        label_columns: Columns whose values together are the label; by default the first of LABEL_COLUMNS.
        image_column: The column of image paths; by default one of IMAGE_COLUMNS.
        allow_numeric_labels: Accept numeric labels without class names, which the caller knows.

    Raises:
        DataError: A column or class name is missing, the split has no rows, or a row is malformed.
    """
    table = open_table(path)
    image_column = find_image_column(
        table.columns,
        path,
        DataConfig(image_column=image_column),
        image_column_candidates(table),
        advice="Rename the column of the images to path",
    )
    candidates = label_columns or LABEL_COLUMNS
    found = [column for name in candidates if (column := match_column(name, table.columns, path))]
    if not found or len(found) < len(label_columns):
        raise DataError(
            f"{path} has no label column ({', '.join(candidates)}). "
            f"Its columns are: {list_names(table.columns)}. Rename the column of the labels to label, or that of "
            "captions to caption"
        )
    used = found if label_columns else found[:1]
    split_column = match_column(SPLIT_COLUMN, table.columns, path)
    if split_column is None and split != "test":
        raise MissingSplit(
            f"{path} has no column {SPLIT_COLUMN!r}, so it cannot provide {split!r}. Add the column, or use the "
            "split 'test'"
        )
    stat = path.stat()
    key = ("labels", str(path.resolve()), stat.st_size, stat.st_mtime_ns, image_column, *used, split)
    rows = _label_rows(path, table, image_column, used, split_column, split)
    cached_table = CachedTable.open_or_build(key, LABEL_TABLE_SCHEMA, rows)
    if not len(cached_table):
        raise MissingSplit(f"{path} has no row of the split {split!r}. {_list_splits(table, split_column)}")
    label_texts = cached_table.arrow_table["label"].to_pylist()
    classnames = _read_classnames(path, used[0]) or _infer_classnames(
        label_texts, path, allow_numeric_labels=allow_numeric_labels
    )
    labels = _to_class_indices(label_texts, classnames, path, cached_table)
    templates_path = path.with_name(TEMPLATES_FILENAME)
    return ClassificationBenchmark(
        path.stem,
        classnames,
        read_templates(templates_path) if templates_path.is_file() else (),
        LabeledTableSource(path, cached_table, labels),
        notes=(*_label_column_notes([] if label_columns else found), *empty_class_notes(labels, classnames)),
    )


def _label_column_notes(columns: Sequence[str]) -> tuple[str, ...]:
    if len(columns) < 2:
        return ()
    return (f"the labels are from the column {columns[0]!r}, not from {', '.join(map(repr, columns[1:]))}",)


def _label_rows(
    path: Path, table: TableFile, image_column: str, label_columns: Sequence[str], split_column: str | None, split: str
) -> Iterator[RowValues]:
    for line, row in table.read([name for name in (image_column, *label_columns, split_column) if name is not None]):
        location = f"{path}:{line}"
        if isinstance(row, BadRow):
            raise DataError(f"{location}: {row.reason} ({row.detail}). Correct the line")
        if split_column is not None and parse_split(row.get(split_column)) != split:
            continue
        try:
            image_path, image = parse_image_cell(row.get(image_column))
            label = " ".join(_parse_label(row.get(column), column) for column in label_columns)
        except BadSample as bad:
            raise DataError(f"{location}: {bad.reason} ({bad.detail}). Correct the line") from bad
        yield line, image_path, image, label


def _list_splits(table: TableFile, split_column: str | None) -> str:
    if split_column is None:
        return "It has no rows at all"
    rows = (row for _, row in table.read([split_column]) if not isinstance(row, BadRow))
    names = sorted({parse_split(row.get(split_column)) for row in rows})
    return f"Its splits are: {list_names(names[:MAX_SPLITS_SHOWN]) or 'none'}"


def _parse_label(value: Any, column: str) -> str:
    is_nan = isinstance(value, float) and math.isnan(value)
    is_label = isinstance(value, str | int | float) and not isinstance(value, bool) and not is_nan
    text = str(value).strip() if is_label else ""
    if not text:
        raise BadSample("missing label", "", f"{value!r} in {column} is neither a class name nor a number")
    return validate_text(text, "label")


def _parse_class_number(label: str) -> int | None:
    """Return the whole number that a label is written as; None for a class name.

    pandas writes the numbers of a column as 1.0 if one of them was missing.
    """
    match = _NUMBER.fullmatch(label)
    return int(match[1]) if match and not (match[2] or "").strip("0") else None


def _read_classnames(path: Path, label_column: str) -> tuple[str, ...]:
    if (classnames_path := path.with_name(CLASSNAMES_FILENAME)).is_file():
        return read_lines(classnames_path)
    if path.suffix.lower() != ".parquet":
        return ()
    try:
        metadata = (pq.read_schema(path).metadata or {}).get(b"huggingface", b"{}")
        return tuple(json.loads(metadata)["info"]["features"][label_column]["names"])
    except (ValueError, LookupError, TypeError):  # no metadata of Hugging Face
        return ()


def _infer_classnames(label_texts: Sequence[str], path: Path, *, allow_numeric_labels: bool) -> tuple[str, ...]:
    names = tuple(sorted(set(label_texts)))
    if not all(map(_NUMBER.fullmatch, names)):
        return names
    numbers = [number for number in map(_parse_class_number, names) if number is not None and number >= 0]
    if allow_numeric_labels and len(numbers) == len(names):
        return tuple(str(number) for number in range(max(numbers) + 1))
    raise DataError(
        f"{path} has numeric labels without class names, such as {names[0]}. Write {CLASSNAMES_FILENAME} beside it, "
        "one name per line in the order of the labels"
    )


def _to_class_indices(
    label_texts: Sequence[str], classnames: tuple[str, ...], path: Path, table: CachedTable
) -> list[int]:
    indices = {name: index for index, name in enumerate(classnames)}
    # Class names take precedence over numbers: the class "7" may have any index.
    if set(label_texts) <= set(indices):
        return [indices[label] for label in label_texts]
    numbers = [_parse_class_number(label) for label in label_texts]
    labels = [indices.get(label) for label in label_texts] if None in numbers else numbers
    for row, label in enumerate(labels):
        if label is None or not 0 <= label < len(classnames):
            line = table.arrow_table["line"][row].as_py()
            raise DataError(
                f"{path}:{line}: the label {label_texts[row]!r} is none of the {len(classnames)} class names and no "
                f"number from 0 to {len(classnames) - 1}. Correct the line"
            )
    return [label for label in labels if label is not None]
