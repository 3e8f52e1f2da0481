"""Delimiter of a CSV file, detected from its header line."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zebra.data.columns import KNOWN_COLUMNS, normalize_name
from zebra.data.text_lines import MAX_LINE_CHARS, LineTooLong, TextLines, open_text_lines
from zebra.errors import DataError

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
"""Delimiters that are detected, with their names."""
HEADER_ADVICE = "The first line of a CSV or TSV must name its columns, such as path,caption"
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""The first line that Excel reads, and some programs write."""


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """How the fields of a CSV file are separated."""

    delimiter: str
    skips_blanks: bool = False
    """Whether blanks after a delimiter do not belong to the field, as in the header `path, caption`."""
    num_skipped_lines: int = 0
    """Lines before the header: 1 with a line `sep=;`."""

    def reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        """Return a strict reader. It rejects an unclosed quote, which would silently swallow the following rows."""
        return csv.reader(lines, delimiter=self.delimiter, strict=True, skipinitialspace=self.skips_blanks)


def detect_dialect(path: Path, default: str) -> CsvDialect:
    """Detect how a file is separated.

    The delimiter is that of a line `sep=;`, else the only one that divides the header. If several divide it, it is the
    one that gives the most known column names.

    Args:
        path: A text file.
        default: The delimiter that the suffix of the file stands for.

    Raises:
        DataError: The header does not tell the delimiter, or the file is no text.
    """
    with open_text_lines(path) as lines:
        try:
            first_line = next(lines, "")
        except LineTooLong:
            raise DataError(
                f"{path} has a first line of more than {MAX_LINE_CHARS:,} characters. {HEADER_ADVICE}"
            ) from None
    if match := _SEPARATOR_LINE.fullmatch(first_line):
        return _with_blanks(path, CsvDialect(match[1], num_skipped_lines=1))
    headers = {delimiter: _read_header(path, CsvDialect(delimiter, skips_blanks=True)) for delimiter in DELIMITERS}
    candidates = [delimiter for delimiter, header in headers.items() if len(header) > 1] or [default]
    num_known = {
        delimiter: sum(normalize_name(name) in KNOWN_COLUMNS for name in headers[delimiter]) for delimiter in candidates
    }
    best = [delimiter for delimiter in candidates if num_known[delimiter] == max(num_known.values())]
    if len(best) > 1 and (default not in best or num_known[default]):
        names = " or ".join(DELIMITERS[delimiter] for delimiter in best)
        raise DataError(
            f"{path} may be separated by {names}: its header has both. Quote the column names that contain them"
        )
    return _with_blanks(path, CsvDialect(default if default in best else best[0]))


def _with_blanks(path: Path, dialect: CsvDialect) -> CsvDialect:
    others = _read_header(path, dialect)[1:]
    skips_blanks = bool(others) and all(name.startswith(" ") for name in others)
    return CsvDialect(dialect.delimiter, skips_blanks, dialect.num_skipped_lines)


def _read_header(path: Path, dialect: CsvDialect) -> list[str]:
    """Return the first record that is not blank; [] if there is none, or it cannot be read so."""
    with open_text_lines(path) as lines:
        skip_lines(lines, dialect.num_skipped_lines)
        try:
            return next((fields for fields in dialect.reader(lines) if fields), [])
        except (csv.Error, LineTooLong):
            return []


def skip_lines(lines: TextLines, count: int) -> None:
    """Skip the first lines of a file."""
    for _ in range(count):
        next(lines, None)
