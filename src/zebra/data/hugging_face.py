"""A data set as Hugging Face's `datasets` saves it, or as the hub holds it, in; records at any position out.

`Dataset.save_to_disk` writes Arrow streams, which state.json lists, and dataset_info.json, which says what the columns
mean. They are mapped as they lie: nothing is converted, and a row costs its own bytes. The hub holds Parquet files.
"""

import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from zebra.config.data import DataConfig
from zebra.data.columns import (
    CAPTION_COLUMNS,
    IMAGE_COLUMNS,
    find_caption_columns,
    find_image_column,
    parse_captions,
    parse_image_cell,
)
from zebra.data.folders import read_image_bytes
from zebra.data.tables import TableSource
from zebra.errors import BadSample, DataError
from zebra.values import Record

STATE_FILENAME, INFO_FILENAME, SPLITS_FILENAME = "state.json", "dataset_info.json", "dataset_dict.json"
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
"""How an Arrow stream ends. Arrow itself takes a file that was cut between two batches for a whole one."""

_PARQUET_NAME = re.compile(r"(.+)-\d{5}-of-(\d{5})\.parquet")
"""The hub's name for one file of a split: its split, and how many there are."""


@dataclass(frozen=True, slots=True)
class _MappedTable:
    """The files of a data set, mapped: only what is looked at is read."""

    columns: dict[str, pa.ChunkedArray]
    indices: pa.ChunkedArray | None
    """Rows in their order, where a selection or a shuffle was saved on top of the data."""
    num_rows: int


class SavedDataset:
    """The rows of one split written by `Dataset.save_to_disk`, in the order in which `datasets` gives them."""

    def __init__(self, folder: Path, config: DataConfig) -> None:
        """Map the split that lies in `folder`.

        Raises:
            DataError: A file is missing or damaged, or a column that is wanted is not there.
        """
        self.folder = folder
        self.name = str(folder)
        state, features = (
            _read_json_object(folder / STATE_FILENAME),
            _read_json_object(folder / INFO_FILENAME).get("features") or {},
        )
        self._data_files = _list_files(folder, state, "_data_files")
        self._indices_files = _list_files(folder, state, "_indices_data_files")
        self._file_stats = {path: _size_and_mtime(path) for path in (*self._data_files, *self._indices_files)}
        if not self._data_files:
            raise DataError(f"{folder} was saved without a single row; save a data set that has some")
        with _damage_as_data_error(self._data_files[0]):
            found = _open_stream(self._data_files[0]).schema.names

        pictures = [name for name in found if _feature_type(features, name) == "Image"]
        labels = [name for name in found if _feature_type(features, name) == "ClassLabel"]
        self._image_column = find_image_column(found, folder, config, (*pictures, *IMAGE_COLUMNS))
        self._label_column = labels[0] if len(labels) == 1 else "label" if "label" in labels else None
        self._caption_columns: tuple[str, ...] = ()
        if self._label_column is None or config.caption_columns or not set(CAPTION_COLUMNS).isdisjoint(found):
            self._caption_columns = find_caption_columns(found, folder, config)
        self.classnames = (
            () if self._label_column is None else tuple(features[self._label_column].get("names") or ())
        )
        """What the labels mean; empty without labels."""

        self._table: _MappedTable | None = self._map_files()
        self._num_rows = self._table.num_rows
        sizes = [(path.name, size) for path, (size, _) in self._file_stats.items()]
        told = json.dumps(
            [state.get("_fingerprint"), sizes, self._image_column, self._caption_columns, self._label_column]
        )
        self.digest = hashlib.sha256(told.encode()).hexdigest()
        """sha256 hex over names and sizes of the files, the columns read, and the fingerprint by which `datasets`
        itself tells contents apart; not over times, which a copy on another machine does not keep."""

    def __len__(self) -> int:
        return self._num_rows

    def sample_id(self, index: int) -> str:
        """Return the id of a sample without reading it."""
        return f"{self.folder.name}:{index}"

    def read(self, index: int) -> Record:
        """Read the row that `datasets` calls `index`; the path of an image starts at the folder.

        Raises:
            BadSample: missing image, unreadable file, missing caption (and no label either), caption is not text,
                caption is not UTF-8, empty caption, or NUL character.
            DataError: The files changed since they were opened.
        """
        mapped = self._table = self._table or self._map_files()
        where = self.sample_id(index)
        row = index if mapped.indices is None else mapped.indices[index].as_py()
        try:
            cells = {name: column[row].as_py() for name, column in mapped.columns.items()}
            path, image = parse_image_cell(cells[self._image_column])
            captions = parse_captions(cells, self._caption_columns) if self._caption_columns else ()
        except UnicodeDecodeError as error:  # Arrow does not check its strings
            raise BadSample("caption is not UTF-8", where, str(error)) from error
        except BadSample as bad:
            raise BadSample(bad.reason, where, bad.detail) from None
        label = None if self._label_column is None else cells[self._label_column]
        label = None if label == -1 else label  # how `datasets` writes a label that is kept secret
        if not captions and label is None:
            raise BadSample("missing caption", where, f"and nothing in {self._label_column} either")
        if path is not None:
            image = read_image_bytes(self.folder / path, where)
        assert image is not None
        return Record(where, image, tuple(captions), label)

    def _map_files(self) -> _MappedTable:
        for path, state in self._file_stats.items():
            if _size_and_mtime(path) != state:
                raise DataError(f"{path} changed while it was in use; start again")
        named = (self._image_column, *self._caption_columns, self._label_column)
        columns = [name for name in dict.fromkeys(named) if name is not None]
        table = _concat_streams(self._data_files, columns)
        # A column is taken out of its table once: this costs as much as there are batches, a row does not.
        mapped = {name: table[name] for name in columns}
        if not self._indices_files:
            return _MappedTable(mapped, None, table.num_rows)
        order = _concat_streams(self._indices_files, ["indices"])["indices"]
        if len(order) and not 0 <= pc.min(order).as_py() <= pc.max(order).as_py() < table.num_rows:
            raise DataError(
                f"{self._indices_files[0]} points behind the {table.num_rows:,} rows of the data; save the data set again"
            )
        return _MappedTable(mapped, order, len(order))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": None}


class HubDataset:
    """The Parquet files of one split, one after the other."""

    def __init__(self, files: Sequence[Path], name: str, config: DataConfig) -> None:
        self.name = name
        self.tables = [TableSource(path, config) for path in files]
        self._cumulative_sizes = list(accumulate(map(len, self.tables)))
        digests = "".join(f"{table.path.name} {table.digest}\n" for table in self.tables)
        self.digest = hashlib.sha256(digests.encode()).hexdigest()
        """sha256 hex over all rows."""

    def __len__(self) -> int:
        return self._cumulative_sizes[-1]

    def sample_id(self, index: int) -> str:
        """Return the id of a sample without reading it."""
        table, row = self._find_table(index)
        return table.sample_id(row)

    def read(self, index: int) -> Record:
        """Read one row and its image; BadSample if it cannot be used."""
        table, row = self._find_table(index)
        return table.read(row)

    def _find_table(self, index: int) -> tuple[TableSource, int]:
        number = bisect_right(self._cumulative_sizes, index)
        return self.tables[number], index - (self._cumulative_sizes[number - 1] if number else 0)


def is_saved_dataset(folder: Path) -> bool:
    """Tell whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote a folder."""
    return (folder / SPLITS_FILENAME).is_file() or (
        (folder / STATE_FILENAME).is_file() and (folder / INFO_FILENAME).is_file()
    )


def find_saved_split(folder: Path) -> Path:
    """Return the split that a saved folder is, or the only one in it; DataError if there are several."""
    if not (folder / SPLITS_FILENAME).is_file():
        return folder
    return folder / _require_one_split(
        _read_json_object(folder / SPLITS_FILENAME).get("splits") or [], folder
    )


def find_hub_parquet_files(path: Path) -> list[Path]:
    """List the Parquet files of one split, in order; none if it is no such data set.

    Args:
        path: A folder that holds the files itself or in `data/`, or PATH/SPLIT, where PATH is such a folder. Files
            that are not named by the hub's rule (`train-00000-of-00004.parquet`) are one split without a name.

    Raises:
        DataError: There are several splits, or some of the files that the names count are missing.
    """
    folder, split = (path, None) if path.is_dir() else (path.parent, path.name)
    files = sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))
    parts = [match for file in files if (match := _PARQUET_NAME.fullmatch(file.name))]
    if len(parts) < len(files) or not files:
        return files if split is None else []
    split = split or _require_one_split(sorted({part[1] for part in parts}), folder)
    chosen = [file for file, part in zip(files, parts, strict=True) if part[1] == split]
    totals = {int(part[2]) for part in parts if part[1] == split}
    if chosen and totals != {len(chosen)}:
        raise DataError(
            f"{chosen[0].parent} holds {len(chosen)} files of {split}, but their names count "
            f"{' and '.join(map(str, sorted(totals)))}; download what is missing, or move what is not part of it"
        )
    return chosen


def _require_one_split(splits: Sequence[str], folder: Path) -> str:
    if not splits:
        raise DataError(f"{folder} names no split; save the data set again")
    if len(splits) > 1:
        raise DataError(
            f"{folder} holds {len(splits)} splits: {', '.join(splits)}; name one of them: {folder / splits[0]}"
        )
    return splits[0]


def _concat_streams(paths: Sequence[Path], columns: Sequence[str]) -> pa.Table:
    """Map streams one after the other, and prove that they are whole.

    Arrow follows the offsets in a file wherever they lead, so they are checked; the text itself is not, and read
    as bytes here, because one caption that is not UTF-8 is a bad sample and no damaged file.
    """
    tables = []
    for path in paths:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - len(END_OF_STREAM)))
            if file.read() != END_OF_STREAM:
                raise DataError(f"{path} is cut off: its end mark is missing; copy the data set again")
        with _damage_as_data_error(path):
            table = _open_stream(path).read_all().select(columns)
            opaque = [field.with_type(_text_as_binary(field.type)) for field in table.schema]
            table.cast(pa.schema(opaque)).validate(full=True)
        tables.append(table)
    with _damage_as_data_error(paths[0].parent):
        return pa.concat_tables(tables)


def _open_stream(path: Path) -> pa.ipc.RecordBatchStreamReader:
    return pa.ipc.open_stream(pa.memory_map(str(path)))


@contextmanager
def _damage_as_data_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path} is damaged ({error}); copy the data set again") from error


def _text_as_binary(data_type: pa.DataType) -> pa.DataType:
    """Return the same type with bytes in the place of text."""
    if pa.types.is_string(data_type):
        return pa.binary()
    if pa.types.is_large_string(data_type):
        return pa.large_binary()
    if pa.types.is_list(data_type):
        return pa.list_(_text_as_binary(data_type.value_type))
    if pa.types.is_struct(data_type):
        return pa.struct([field.with_type(_text_as_binary(field.type)) for field in data_type])
    return data_type


def _list_files(folder: Path, state: dict[str, Any], key: str) -> list[Path]:
    try:
        paths = [folder / entry["filename"] for entry in state.get(key) or ()]
    except (TypeError, LookupError) as error:
        raise DataError(
            f"{folder / STATE_FILENAME}: {key} is no list of files ({error!r}); save the data set again"
        ) from error
    absent = [path.name for path in paths if not path.is_file()]
    if absent:
        raise DataError(
            f"{folder} lacks {len(absent)} of the {len(paths)} files that {STATE_FILENAME} lists, first {absent[0]}; "
            "copy the data set again"
        )
    return paths


def _feature_type(features: dict[str, Any], name: str) -> str | None:
    feature = features.get(name)
    return feature.get("_type") if isinstance(feature, dict) else None


def _read_json_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); save the data set again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no object; save the data set again")
    return value


def _size_and_mtime(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
