"""Settings of `zebra columns`."""

from dataclasses import dataclass
from typing import Literal

from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnsConfig:
    """Settings for listing, joining or removing the columns of a store."""

    store: str
    """A store written by `zebra embed`."""
    table: str = ""
    """A CSV, TSV, JSONL or Parquet table whose columns are joined to the images."""
    on: Literal["auto", "id", "path"] = "auto"
    """Join by the store's ids, or by the path of the image; auto takes what matches more rows."""
    columns: tuple[str, ...] = ()
    """Columns of the table to join; by default all that a store can have."""
    drop: tuple[str, ...] = ()
    """Columns of the store to remove, with their values."""

    def __post_init__(self) -> None:
        if self.columns and not self.table:
            raise ConfigError("--columns names columns of a table; give the table")
        if self.table and self.drop:
            raise ConfigError("a table and --drop exclude each other; run the command twice")
