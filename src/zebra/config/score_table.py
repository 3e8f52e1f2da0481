"""Formats of a table of scores."""

from pathlib import Path
from typing import Literal, get_args

from zebra.errors import ConfigError

ScoreTableFormat = Literal["csv", "markdown", "latex", "hf-card"]
FORMAT_BY_SUFFIX: dict[str, ScoreTableFormat] = {".csv": "csv", ".md": "markdown", ".tex": "latex"}


def find_table_format(path: str, format_: ScoreTableFormat | None) -> ScoreTableFormat:
    """Return the format of --table, which --format or the suffix decides; ConfigError if neither does."""
    found = format_ or FORMAT_BY_SUFFIX.get(Path(path).suffix.lower())
    if found is None:
        raise ConfigError(
            f"--table {path} has no known suffix, which decides the format. Name a file with one of "
            f"{', '.join(FORMAT_BY_SUFFIX)}, or add --format {'|'.join(get_args(ScoreTableFormat))}."
        )
    return found


def validate_table_path(path: str | None, format_: ScoreTableFormat | None) -> None:
    """Raise ConfigError if nothing decides the format of --table."""
    if path is not None:
        find_table_format(path, format_)
