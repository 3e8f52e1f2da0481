"""Parquet files as the Hugging Face hub stores them."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from zebra.config.data import DataConfig
from zebra.data.ignored import Ignored
from zebra.data.locations import ImageRef
from zebra.data.split_names import select_split_files
from zebra.data.tables import TableSource
from zebra.values import Record


class HubDataset:
    """The concatenated Parquet files of one split."""

    def __init__(
        self,
        files: Sequence[Path],
        name: str,
        config: DataConfig,
        ignored: tuple[Ignored, ...] = (),
        split: str | None = None,
    ) -> None:
        """Open the tables.

        Args:
            files: The Parquet files, in order.
            name: Name of the dataset.
            config: Columns.
            ignored: Other files of the folder.
            split: Value of the column `split` of the rows to use; by default all.
        """
        self.name = name
        self.ignored = ignored
        """Other files of the folder."""
        self.tables = [TableSource(path, config, split) for path in files]

    @property
    def columns(self) -> pa.Schema:
        """Names and types of the extra columns."""
        return self.tables[0].columns

    @property
    def available_columns(self) -> pa.Schema:
        """Names and types of the columns that `select_columns` accepts."""
        return self.tables[0].available_columns

    def select_columns(self, columns: Sequence[str] | pa.Schema) -> None:
        """Choose the extra columns of `scan`; ConfigError if one is missing."""
        self.tables[0].select_columns(columns)
        for table in self.tables[1:]:
            table.select_columns(self.columns)

    def list_splits(self) -> list[str]:
        """Return the values of the column `split`; [] without that column."""
        return sorted({split for table in self.tables for split in table.list_splits()})

    @cached_property
    def digest(self) -> str:
        """SHA-256 in hex over all rows."""
        digests = "".join(f"{table.path.name} {table.digest}\n" for table in self.tables)
        return hashlib.sha256(digests.encode()).hexdigest()

    def num_images(self) -> int:
        """Return the number of rows."""
        return sum(table.num_images() for table in self.tables)

    def scan(self) -> Iterator[ImageRef]:
        """Yield all rows, file by file."""
        for table in self.tables:
            yield from table.scan()

    @cached_property
    def _cumulative_sizes(self) -> list[int]:
        return list(accumulate(map(len, self.tables)))

    def __len__(self) -> int:
        return self._cumulative_sizes[-1]

    def sample_id(self, index: int) -> str:
        """Return the ID of a sample without reading it."""
        table, row = self._find_table(index)
        return table.sample_id(row)

    def read(self, index: int) -> Record:
        """Read one row and its image; raise BadSample if it cannot be used."""
        table, row = self._find_table(index)
        return table.read(row)

    def _find_table(self, index: int) -> tuple[TableSource, int]:
        table_index = bisect_right(self._cumulative_sizes, index)
        return self.tables[table_index], index - (self._cumulative_sizes[table_index - 1] if table_index else 0)


def find_hub_parquet_files(folder: Path, split: str | None = None) -> list[Path]:
    """Return the Parquet files of one split, in order; [] if there are none.

    Args:
        folder: A folder with the files in it or in `data/`.
        split: The split to select; None if the folder has only one. A file name has the hub's pattern
            (`train-00000-of-00004.parquet`, older ones with a digest at the end) or contains a split name.

    Raises:
        DataError: There are several splits, or files are missing according to the file names.
    """
    for parent in (folder, folder / "data"):
        names = sorted(path.name for path in parent.glob("*.parquet") if not path.name.startswith("."))
        if names:
            # The argument of the error is FOLDER/SPLIT, without data/.
            return [parent / name for name in select_split_files(names, str(folder), split, suggest_pattern=False)]
    return []
