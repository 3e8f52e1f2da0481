"""Folders that `Dataset.save_to_disk` of Hugging Face's `datasets` wrote.

They hold Arrow streams, a list of them in state.json, and the column types in dataset_info.json. The streams are
memory-mapped without conversion, so reading a row reads only its bytes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from zebra.config.data import DataConfig
from zebra.data.arrow_streams import concat_streams, damage_as_data_error, open_stream
from zebra.data.columns import (
    IMAGE_COLUMNS,
    IMAGE_FLAG,
    SPLIT_COLUMN,
    caption_probabilities,
    choose_columns,
    convert_cell,
    count_captions,
    find_caption_columns,
    find_group_column,
    find_image_column,
    find_optional_caption_columns,
    is_scalar,
    match_column,
    normalize_name,
    parse_captions,
    parse_group,
)
from zebra.data.folders import CLASS_COLUMNS
from zebra.data.ignored import Ignored
from zebra.data.image_cells import parse_image_cell, read_table_image
from zebra.data.locations import ImageRef, Location, columns_stamp
from zebra.data.split_names import several_splits_error
from zebra.errors import BadSample, DataError, MissingSplit, list_names
from zebra.values import Record

STATE_FILENAME, INFO_FILENAME, SPLITS_FILENAME = "state.json", "dataset_info.json", "dataset_dict.json"


@dataclass(frozen=True, slots=True)
class _MappedTable:
    """The memory-mapped files of a dataset; only accessed parts are read."""

    columns: dict[str, pa.ChunkedArray]
    indices: pa.ChunkedArray | None
    """Row numbers in order, if a selection or shuffle was saved with the data."""
    num_rows: int
    splits: pa.ChunkedArray | None = None
    """The split of each row, in order, "" without a value; None without a column `split`."""


class SavedDataset:
    """The rows of one split written by `Dataset.save_to_disk`, in the order of `datasets`."""

    columns = pa.schema([])
    """Extra columns of `scan`."""
    _has_class_names = False
    """Whether the extra column `class` has the names of the labels."""

    def __init__(self, folder: Path, config: DataConfig, split: str | None = None) -> None:
        """Memory-map the split in `folder`.

        Args:
            folder: The folder of one split.
            config: Columns.
            split: Value of the column `split` of the rows to use; by default all.

        Raises:
            DataError: A file is missing or damaged, a column is missing, or no row has this split.
        """
        self.folder = folder
        self.name = str(folder) if split is None else str(folder / split)
        self._split = split
        self.ignored: tuple[Ignored, ...] = ()
        """Always empty: state.json lists the files of the dataset."""
        state, features = (
            _read_json_object(folder / STATE_FILENAME),
            _read_json_object(folder / INFO_FILENAME).get("features") or {},
        )
        self._data_files = _list_files(folder, state, "_data_files")
        self._indices_files = _list_files(folder, state, "_indices_data_files")
        self._file_stats = {path: _size_and_mtime(path) for path in (*self._data_files, *self._indices_files)}
        if not self._data_files:
            raise DataError(f"{folder} has no rows. Save a dataset that has some")
        with damage_as_data_error(self._data_files[0]):
            self._schema = open_stream(self._data_files[0]).schema
        columns = self._schema.names

        image_columns = [name for name in columns if _feature_type(features, name) == "Image"]
        label_columns = [name for name in columns if _feature_type(features, name) == "ClassLabel"]
        self._image_column = find_image_column(
            columns, folder, config, _image_candidates(image_columns, folder, config)
        )
        self._label_column = (
            label_columns[0] if len(label_columns) == 1 else "label" if "label" in label_columns else None
        )
        find_captions = find_caption_columns if self._label_column is None else find_optional_caption_columns
        self._caption_columns = find_captions(columns, folder, config)
        self._caption_weights = config.caption_weights
        self._group_column = find_group_column(columns, folder, config)
        self.classnames = () if self._label_column is None else tuple(features[self._label_column].get("names") or ())
        """Class names by label; empty without labels."""

        self._split_column = match_column(SPLIT_COLUMN, columns, folder)
        self._table: _MappedTable | None = self._map_files()
        if split is not None and not self._table.num_rows:
            raise MissingSplit(f"{folder} has no row of the split {split!r}. Check the column {SPLIT_COLUMN!r}")
        self._num_rows = self._table.num_rows
        sizes = [(path.name, size) for path, (size, _) in self._file_stats.items()]
        identity = json.dumps(
            [
                *(state.get("_fingerprint"), sizes, self._image_column, self._caption_columns, self._label_column),
                *([] if split is None else [split]),
                *([] if self._group_column is None else [{"group": self._group_column}]),
            ]
        )
        self.digest = hashlib.sha256(identity.encode()).hexdigest()
        """SHA-256 in hex over the names and sizes of the files, the columns, and the fingerprint of `datasets`. Not
        over modification times, which a copy does not keep."""

    def __len__(self) -> int:
        return self._num_rows

    def sample_id(self, index: int) -> str:
        """Return the ID of a sample without reading it."""
        return f"{self.folder.name}:{index}"

    def read(self, index: int) -> Record:
        """Read the row that `datasets` calls `index`; the path of an image is relative to the folder.

        Raises:
            BadSample: missing image, unreadable file, missing caption (and no label either), caption is not text,
                caption is not UTF-8, empty caption, or NUL character.
            DataError: The files have changed since they were opened.
        """
        table = self._table = self._table or self._map_files()
        sample_id = self.sample_id(index)
        row = index if table.indices is None else table.indices[index].as_py()
        try:
            cells = {name: column[row].as_py() for name, column in table.columns.items()}
            path, image = parse_image_cell(cells[self._image_column])
            captions = parse_captions(cells, self._caption_columns) if self._caption_columns else ()
            group = None if self._group_column is None else parse_group(cells, self._group_column)
        except UnicodeDecodeError as error:  # Arrow does not validate strings
            raise BadSample("caption is not UTF-8", sample_id, str(error)) from error
        except BadSample as bad:
            raise BadSample(bad.reason, sample_id, bad.detail) from None
        label = None if self._label_column is None else cells[self._label_column]
        label = None if label == -1 else label  # `datasets` writes -1 for a label that is not published
        if not captions and label is None:
            raise BadSample("missing caption", sample_id, f"and no label in {self._label_column}")
        if path is not None:
            image = read_table_image(self.folder, path, sample_id)
        assert image is not None
        return Record(
            sample_id,
            image,
            tuple(captions),
            label,
            self._convert_columns(cells, label, sample_id),
            group,
            caption_probabilities(count_captions(cells, self._caption_columns), self._caption_weights),
        )

    def _convert_columns(self, cells: Mapping[str, Any], label: int | None, sample_id: str) -> dict[str, Any]:
        """Return the extra columns of a row."""
        if self._has_class_names:
            cells = {**cells, "class": None if label is None else self.classnames[label]}
        try:
            return {field.name: convert_cell(cells.get(field.name), field) for field in self.columns}
        except BadSample as bad:
            raise BadSample(bad.reason, sample_id, bad.detail) from None

    @property
    def available_columns(self) -> pa.Schema:
        """The column `class`, if the labels have names, and the other columns of numbers, texts, dates and booleans."""
        used = (self._image_column, self._split_column, self._label_column if self.classnames else None)
        scalars = [field for field in self._schema if is_scalar(field.type) and field.name not in used]
        has_class = self.classnames and "class" not in (field.name for field in scalars)
        return pa.schema([*(CLASS_COLUMNS if has_class else ()), *scalars])

    def select_columns(self, columns: Sequence[str] | pa.Schema) -> None:
        """Choose the extra columns of `scan`; ConfigError if one is missing."""
        self.columns = choose_columns(columns, self.available_columns, self.name)
        self._has_class_names = (
            "class" in self.columns.names
            and self.classnames != ()
            and (self._label_column == "class" or "class" not in self._schema.names)
        )
        self._table = None

    def list_splits(self) -> list[str]:
        """Return the values of the column `split`; [] without that column."""
        table = self._table = self._table or self._map_files()
        return [] if table.splits is None else sorted(pc.unique(table.splits).to_pylist())

    def num_images(self) -> int:
        """Return the number of rows."""
        return len(self)

    def scan(self) -> Iterator[ImageRef]:
        """Yield all rows; the stamp is the digest of the dataset. A row needs a caption or a label here, too."""
        path, stamp = str(Path(self.name).resolve()), self.digest + columns_stamp(self.columns)
        for index in range(len(self)):
            yield ImageRef(Location(f"{path}:{index}", stamp, path), partial(self.read, index))

    def _map_files(self) -> _MappedTable:
        for path, stat in self._file_stats.items():
            if _size_and_mtime(path) != stat:
                raise DataError(f"{path} has changed while it was in use. Start again")
        column_names = (self._image_column, *self._caption_columns, self._label_column, self._group_column)
        extra = [name for name in self.columns.names if name in self._schema.names]
        columns = [name for name in dict.fromkeys((*column_names, *extra)) if name is not None]
        split_columns = [self._split_column] if self._split_column else []
        table = concat_streams(self._data_files, list(dict.fromkeys((*columns, *split_columns))))
        # Extract each column once: this takes time per batch, reading a row does not.
        chunked_columns = {name: table[name] for name in columns}
        splits = pc.fill_null(table[self._split_column].cast(pa.string()), "") if split_columns else None
        if not self._indices_files:
            return self._select_split(_MappedTable(chunked_columns, None, table.num_rows, splits))
        indices = concat_streams(self._indices_files, ["indices"])["indices"]
        if len(indices) and not 0 <= pc.min(indices).as_py() <= pc.max(indices).as_py() < table.num_rows:
            raise DataError(
                f"{self._indices_files[0]} has indices outside the {table.num_rows:,} rows of the data. Save the "
                "dataset again"
            )
        splits = None if splits is None else splits.take(indices)
        return self._select_split(_MappedTable(chunked_columns, indices, len(indices), splits))

    def _select_split(self, table: _MappedTable) -> _MappedTable:
        if self._split is None:
            return table
        if table.splits is None:
            raise MissingSplit(f"{self.folder} has no column {SPLIT_COLUMN!r}, so it cannot provide {self._split!r}")
        rows = pa.chunked_array([pa.array(range(table.num_rows))]) if table.indices is None else table.indices
        indices = rows.filter(pc.equal(table.splits, self._split))
        return _MappedTable(table.columns, indices, len(indices), None)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": None}


def is_saved_dataset(folder: Path) -> bool:
    """Return whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote a folder."""
    return (folder / SPLITS_FILENAME).is_file() or (
        (folder / STATE_FILENAME).is_file() and (folder / INFO_FILENAME).is_file()
    )


def find_saved_split(folder: Path) -> Path:
    """Return the folder of the only split in a saved folder; raise DataError if there are several splits."""
    if not (folder / SPLITS_FILENAME).is_file():
        return folder
    splits = _read_json_object(folder / SPLITS_FILENAME).get("splits") or []
    if not splits:
        raise DataError(f"{folder} has no split. Save the dataset again")
    if len(splits) > 1:
        raise several_splits_error(str(folder), splits)
    return folder / str(splits[0])


def _list_files(folder: Path, state: dict[str, Any], key: str) -> list[Path]:
    try:
        paths = [folder / entry["filename"] for entry in state.get(key) or ()]
    except (TypeError, LookupError) as error:
        raise DataError(
            f"{folder / STATE_FILENAME}: {key} is no list of files ({error!r}). Save the dataset again"
        ) from error
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks {len(missing)} of the {len(paths)} files in {STATE_FILENAME}, first {missing[0]}. "
            "Copy the dataset again"
        )
    return paths


def _image_candidates(image_columns: Sequence[str], folder: Path, config: DataConfig) -> Sequence[str]:
    """Return the column of the type Image, else the known names; raise DataError if several have the type."""
    if len(image_columns) == 1:
        return image_columns
    known = [name for name in IMAGE_COLUMNS if not image_columns or name in map(normalize_name, image_columns)]
    if not known and config.image_column is None:
        raise DataError(
            f"{folder} has {len(image_columns)} columns of images: {list_names(image_columns)}. Name the right one "
            f"with {IMAGE_FLAG}"
        )
    return known


def _feature_type(features: dict[str, Any], name: str) -> str | None:
    feature = features.get(name)
    return feature.get("_type") if isinstance(feature, dict) else None


def _read_json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}). Save the dataset again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} is no JSON object. Save the dataset again")
    return value


def _size_and_mtime(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
