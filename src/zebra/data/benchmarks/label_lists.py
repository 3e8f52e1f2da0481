"""Parquet files of images with several right labels, as in ImageNet-Hard."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zebra.data.benchmarks.archive_splits import ArchiveSplit, SplitFiles, find_split_files
from zebra.data.benchmarks.label_tables import LABEL_TABLE_SCHEMA, LabeledTableSource
from zebra.data.cached_table import CachedTable, RowValues
from zebra.data.image_cells import parse_image_cell
from zebra.data.table_files import BadRow, open_table
from zebra.errors import BadSample, DataError, list_names


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelListArchive:
    """Files with a column of images and one of lists of class numbers. The files of a split are glob patterns."""

    folder: str
    splits: tuple[SplitFiles, ...]
    image_column: str = "image"
    label_column: str = "label"
    kind: Literal["label_lists"] = "label_lists"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if there is no file, or a row has no image or no labels."""
        folder = root / self.folder
        patterns = find_split_files(self.splits, split, root)
        paths = sorted(path for pattern in patterns for path in folder.glob(pattern))
        if not paths:
            raise DataError(f"{folder} has no {', '.join(patterns)}. Download the dataset again")
        stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        key = ("label lists", self.image_column, self.label_column, *stats)
        table = CachedTable.open_or_build(key, LABEL_TABLE_SCHEMA, self._rows(paths))
        label_lists = [tuple(json.loads(text)) for text in table.arrow_table["label"].to_pylist()]
        labels = [labels[0] for labels in label_lists]
        source = LabeledTableSource(paths[0], table, labels)
        right_labels = {source.sample_id(index): labels for index, labels in enumerate(label_lists)}
        return ArchiveSplit(source, np.array(labels, np.int64), right_labels=right_labels)

    def _rows(self, paths: Sequence[Path]) -> Iterator[RowValues]:
        number = 0
        for path in paths:
            table = open_table(path)
            if missing := {self.image_column, self.label_column} - set(table.columns):
                raise DataError(f"{path} has no column {min(missing)}. Its columns are: {list_names(table.columns)}")
            for line, row in table.read((self.image_column, self.label_column)):
                number += 1
                if isinstance(row, BadRow):
                    raise DataError(f"{path}:{line}: {row.reason} ({row.detail}). Download the file again")
                labels: Any = row[self.label_column]
                if not (isinstance(labels, list) and labels and all(isinstance(label, int) for label in labels)):
                    raise DataError(f"{path}:{line} has no list of class numbers in {self.label_column}: {labels!r}")
                try:
                    name, image = parse_image_cell(row[self.image_column])
                except BadSample as bad:
                    raise DataError(f"{path}:{line}: {bad.reason} {bad.detail}. Download the file again") from bad
                yield number, name, image, json.dumps(labels)
