"""File formats of a table of scores."""

from pathlib import Path

from zebra.errors import ConfigError

SCORE_TABLE_SUFFIXES = (".csv", ".md", ".tex")


def validate_table_path(path: str | None) -> None:
    """Raise ConfigError if the suffix of --table names no format."""
    if path is not None and Path(path).suffix.lower() not in SCORE_TABLE_SUFFIXES:
        raise ConfigError(
            f"--table {path} has no known suffix, which decides the format. Name a file with one of "
            f"{', '.join(SCORE_TABLE_SUFFIXES)}"
        )
