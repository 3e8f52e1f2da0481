"""Files of tables with a row per image."""

from pathlib import PurePath

from zebra.errors import ConfigError

ROW_TABLE_SUFFIXES = (".csv", ".parquet")


def require_row_table(path: str) -> None:
    """Raise ConfigError unless a path is empty or has the suffix of a table that can be written."""
    if path and PurePath(path).suffix.lower() not in ROW_TABLE_SUFFIXES:
        raise ConfigError(f"cannot write --out {path}: unknown suffix. Use {' or '.join(ROW_TABLE_SUFFIXES)}")
