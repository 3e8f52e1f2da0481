"""Benchmarks in a table with an image column and a label column."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from zebra.config.data import DataConfig
from zebra.data.benchmarks.clip_benchmark import CLASSNAMES_FILENAME, TEMPLATES_FILENAME, read_lines, read_templates
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.data.cached_table import CachedTable, RowValues
from zebra.data.columns import IMAGE_COLUMNS, find_image_column, parse_image_cell
from zebra.data.folders import read_image_bytes
from zebra.data.ignored import Ignored
from zebra.data.image_source import empty_class_notes
from zebra.data.table_files import BadRow, TableFile, open_table
from zebra.errors import BadSample, DataError, MissingSplit
from zebra.text.templates import DEFAULT_TEMPLATES
from zebra.values import Record

LABEL_COLUMNS = ("label", "class", "cls", "target", "category")
SPLIT_COLUMN = "split"
LABEL_TABLE_SCHEMA = pa.schema(
    {"line": pa.int64(), "path": pa.string(), "image": pa.large_binary(), "label": pa.string()}
)


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
        image = read_image_bytes(self.path.parent / row["path"], sample_id) if row["path"] is not None else row["image"]
        return Record(sample_id, image, label=self.labels[index])


def read_label_table(path: Path, split: str = "test", *, allow_numeric_labels: bool = False) -> ClassificationBenchmark:
    """Read the rows of one split. Without a column `split`, all rows are the split "test".

    A label is a class name, or a number if there are class names in `classnames.txt` beside the table or in Hugging
    Face's Parquet metadata. Otherwise, the classes are the distinct labels, sorted. The image column is path, image,
    filepath, file_name or img; the label column is one of LABEL_COLUMNS.

    Args:
        path: A .csv, .tsv, .jsonl or .parquet file.
        split: Value of the column `split`.
        allow_numeric_labels: Accept numeric labels without class names, which the caller knows.

    Raises:
        DataError: A column or class name is missing, the split has no rows, or a row is malformed.
    """
    table = open_table(path)
    image_column = find_image_column(table.columns, path, DataConfig(), (*IMAGE_COLUMNS, "img"))
    label_column = next((name for name in LABEL_COLUMNS if name in table.columns), None)
    if label_column is None:
        raise DataError(
            f"{path} has no label column ({', '.join(LABEL_COLUMNS)}). Its columns are {', '.join(table.columns)}"
        )
    if SPLIT_COLUMN not in table.columns and split != "test":
        raise MissingSplit(
            f"{path} has no column {SPLIT_COLUMN!r}, so it cannot provide {split!r}. Add the column, or use the "
            "split 'test'"
        )
    stat = path.stat()
    key = ("labels", str(path.resolve()), stat.st_size, stat.st_mtime_ns, image_column, label_column, split)
    cached_table = CachedTable.open_or_build(
        key, LABEL_TABLE_SCHEMA, _label_rows(path, table, image_column, label_column, split)
    )
    if not len(cached_table):
        raise MissingSplit(f"{path} has no row of the split {split!r}. Check the column {SPLIT_COLUMN!r}")
    label_texts = cached_table.arrow_table["label"].to_pylist()
    classnames = _read_classnames(path, label_column) or _infer_classnames(
        label_texts, path, allow_numeric_labels=allow_numeric_labels
    )
    labels = _to_class_indices(label_texts, classnames, path, cached_table)
    templates_path = path.with_name(TEMPLATES_FILENAME)
    return ClassificationBenchmark(
        path.stem,
        classnames,
        read_templates(templates_path) if templates_path.is_file() else DEFAULT_TEMPLATES,
        LabeledTableSource(path, cached_table, labels),
        notes=empty_class_notes(labels, classnames),
    )


def _label_rows(path: Path, table: TableFile, image_column: str, label_column: str, split: str) -> Iterator[RowValues]:
    columns = (image_column, label_column, *(name for name in (SPLIT_COLUMN,) if name in table.columns))
    for line, row in table.read(columns):
        location = f"{path}:{line}"
        if isinstance(row, BadRow):
            raise DataError(f"{location}: {row.reason} ({row.detail}). Correct the line")
        if SPLIT_COLUMN in columns and row.get(SPLIT_COLUMN) != split:
            continue
        try:
            image_path, image = parse_image_cell(row.get(image_column))
        except BadSample as bad:
            raise DataError(f"{location}: {bad.reason} ({bad.detail}). Correct the line") from bad
        yield line, image_path, image, _parse_label(row, label_column, location)


def _parse_label(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text:
        raise DataError(f"{where}: {value!r} in {column} is neither a class name nor a number. Correct the line")
    return text


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
    if all(name.isdecimal() for name in names):
        if allow_numeric_labels:
            return tuple(str(number) for number in range(max(map(int, names)) + 1))
        raise DataError(
            f"{path} has numeric labels without class names. Write {CLASSNAMES_FILENAME} beside it, one name per "
            "line in the order of the labels"
        )
    return names


def _to_class_indices(
    label_texts: Sequence[str], classnames: tuple[str, ...], path: Path, table: CachedTable
) -> list[int]:
    indices = {name: index for index, name in enumerate(classnames)}
    # Class names take precedence over numbers: the class "7" may have any index.
    are_names = set(label_texts) <= set(indices)
    if not are_names and all(label.removeprefix("-").isdecimal() for label in label_texts):
        indices = {str(index): index for index in range(len(classnames))}
    for row, label in enumerate(label_texts):
        if label not in indices:
            line = table.arrow_table["line"][row].as_py()
            raise DataError(
                f"{path}:{line}: the label {label!r} is none of the {len(classnames)} class names and no number from "
                f"0 to {len(classnames) - 1}. Correct the line"
            )
    return [indices[label] for label in label_texts]
