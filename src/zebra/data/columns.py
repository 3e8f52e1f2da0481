"""Find and parse the columns of a table."""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from zebra.config.data import DataConfig
from zebra.errors import BadSample, ConfigError, DataError, escape_unencodable, list_names, suggest_name
from zebra.images.formats import IMAGE_SUFFIXES

IMAGE_COLUMNS = ("path", "image", "filepath", "file_name", "img", "filename", "image_path", "image_name")
CAPTION_COLUMNS = ("caption", "text", "title")
LABEL_COLUMNS = ("label", "class", "cls", "target", "category")
SPLIT_COLUMN = "split"
KNOWN_COLUMNS = frozenset((*IMAGE_COLUMNS, *CAPTION_COLUMNS, *LABEL_COLUMNS, SPLIT_COLUMN))
"""The column names that every command recognizes, in any letter case and with blanks around them."""
URL_COLUMNS = ("url", "image_url", "img_url", "uri")
INFERRED_TYPES = (pa.bool_(), pa.int64(), pa.float64(), pa.timestamp("us"))
"""Types of extra columns, besides text."""
_DATE_PATTERN = re.compile(r"\s*\d{4}-\d{2}-\d{2}(?!\d)")
MAX_CAPTION_CHARS = 1 << 20
"""Longest caption that is used; a tokenizer needs many times its size in memory."""
IMAGE_FLAG, CAPTION_FLAG = "--data-options.image-column", "--data-options.caption-columns"


def normalize_name(name: str) -> str:
    """Return the name by which columns are compared.

    >>> normalize_name(" Path")
    'path'
    """
    return name.strip().casefold()


def find_image_column(
    columns: Sequence[str],
    path: Path,
    config: DataConfig,
    candidates: Sequence[str] = IMAGE_COLUMNS,
    *,
    advice: str = f"Name the right one with {IMAGE_FLAG}",
) -> str:
    """Return the column that the config names, else the first candidate, with a warning if there are several.

    Args:
        columns: All columns of the table.
        path: The table, for messages.
        config: May name the column.
        candidates: Columns to look for, most likely first.
        advice: What to do if there is no such column.

    Raises:
        DataError: There is no such column, or several of the same name.
    """
    if config.image_column is not None:
        return _require_column(config.image_column, columns, path, advice)
    found = [column for name in candidates if (column := match_column(name, columns, path))]
    if not found:
        raise DataError(_describe_missing_column("image", candidates, columns, path, advice))
    if len(found) > 1:
        others = ", ".join(map(repr, found[1:]))
        warnings.warn(f"{path}: the images are from the column {found[0]!r}, not from {others}. {advice}", stacklevel=1)
    return found[0]


def find_caption_columns(columns: Sequence[str], path: Path, config: DataConfig) -> tuple[str, ...]:
    """Return the columns that the config names, else all of CAPTION_COLUMNS.

    Raises:
        DataError: There is no such column, or several of the same name.
    """
    advice = f"Name the right one with {CAPTION_FLAG}"
    if config.caption_columns:
        return tuple(_require_column(name, columns, path, advice) for name in config.caption_columns)
    found = find_optional_caption_columns(columns, path, config)
    if not found:
        raise DataError(_describe_missing_column("caption", CAPTION_COLUMNS, columns, path, advice))
    return found


def find_optional_caption_columns(columns: Sequence[str], path: Path, config: DataConfig) -> tuple[str, ...]:
    """Return the caption columns as `find_caption_columns`, or () if the config names none and there are none."""
    if config.caption_columns:
        return find_caption_columns(columns, path, config)
    return tuple(column for name in CAPTION_COLUMNS if (column := match_column(name, columns, path)))


def find_group_column(columns: Sequence[str], path: Path, config: DataConfig) -> str | None:
    """Return the column of groups that the config names; None if it names none.

    Raises:
        DataError: There is no such column, or several of the same name.
    """
    if config.group_column is None:
        return None
    return _require_column(config.group_column, columns, path, "Name the right one with --data-options.group-column")


def find_negatives_column(columns: Sequence[str], path: Path, config: DataConfig) -> str | None:
    """Return the column of wrong captions that the config names; None if it names none.

    Raises:
        DataError: There is no such column, or several of the same name.
    """
    if config.negatives_column is None:
        return None
    return _require_column(
        config.negatives_column, columns, path, "Name the right one with --data-options.negatives-column"
    )


def match_column(name: str, columns: Sequence[str], path: Path) -> str | None:
    """Return the column of a known name, in any letter case and with blanks around it; None if there is none.

    Raises:
        DataError: Several columns have this name.
    """
    matches = [column for column in columns if normalize_name(column) == normalize_name(name)]
    if len(matches) > 1:
        spellings = f" ({list_names([repr(match) for match in matches])})" if len(set(matches)) > 1 else ""
        raise DataError(
            f"{path} has {len(matches)} columns named {name!r}{spellings}. Give each column a name of its own"
        )
    return matches[0] if matches else None


def _require_column(name: str, columns: Sequence[str], path: Path, advice: str) -> str:
    """Return the column that the user has named: exactly so, else in another letter case or with blanks around it."""
    if columns.count(name) == 1:
        return name
    column = match_column(name, columns, path)
    if column is None:
        raise DataError(f"{path} has no column {name!r}.{suggest_name(name, columns)} {advice}")
    return column


def _describe_missing_column(
    kind: str, candidates: Sequence[str], columns: Sequence[str], path: Path, advice: str
) -> str:
    """Return the message for a table without a column, with the likely cause."""
    if path.suffix.lower() in (".csv", ".tsv") and any(name.lower().endswith(IMAGE_SUFFIXES) for name in columns):
        return (
            f"{path} has no header: its first line is a row ({list_names(columns)}). Insert a line with the names of "
            "the columns, such as path,caption"
        )
    if len(columns) == 1 and path.suffix.lower() in (".csv", ".tsv"):
        advice += ". If another character separates them, write it into a line before the header, such as sep=^"
    if any(escape_unencodable(name) != name for name in columns):
        advice += ". The names are not UTF-8: save the file as UTF-8"
    if kind == "image" and (urls := [name for name in columns if normalize_name(name) in URL_COLUMNS]):
        advice += (
            f". Images at the addresses in {urls[0]!r} are not downloaded here: `zebra curate` downloads those of a "
            "table (Parquet, CSV, JSONL; a saved Hugging Face dataset is written as one by its to_parquet)"
        )
    return f"{path} has no {kind} column ({', '.join(candidates)}). Its columns are: {list_names(columns)}. {advice}"


def parse_captions(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """Return all captions of a row; a cell contains one caption, a list of them, or nothing.

    Raises:
        BadSample: caption is not text, empty caption, caption is too long, NUL character, or caption is not UTF-8.
    """
    texts = [text for column in columns for text in _parse_caption_cell(row.get(column), column)]
    if not texts:
        raise BadSample("empty caption", "", f"nothing in {', '.join(columns)}")
    return texts


def parse_negatives(row: Mapping[str, Any], column: str) -> list[str]:
    """Return the wrong captions of a row; a cell contains one, a list of them, or nothing.

    Raises:
        BadSample: caption is not text, caption is too long, NUL character, or caption is not UTF-8.
    """
    return _parse_caption_cell(row.get(column), column)


def count_captions(row: Mapping[str, Any], columns: Sequence[str]) -> list[int]:
    """Return the number of captions in each column of a row that `parse_captions` accepts."""
    return [len(_parse_caption_cell(row.get(column), column)) for column in columns]


def caption_probabilities(counts: Sequence[int], weights: Sequence[float]) -> tuple[float, ...]:
    """Return how likely each caption of a row is chosen; columns without captions leave their weight to the others.

    Args:
        counts: Number of captions in each column; not all 0.
        weights: Weight of each column, which its captions share; empty for equally likely captions.

    >>> caption_probabilities([1, 0, 2], [3, 5, 1])
    (0.75, 0.125, 0.125)
    """
    if not weights:
        return ()
    total = sum(weight for count, weight in zip(counts, weights, strict=True) if count)
    return tuple(weight / total / count for count, weight in zip(counts, weights, strict=True) for _ in range(count))


def _parse_caption_cell(value: Any, column: str) -> list[str]:
    texts: list[str] = []
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str | None):
            raise BadSample("caption is not text", "", f"{column} is {str(text)[:40]!r}")
        if text and text.strip():
            texts.append(validate_caption(text))
    return texts


def parse_group(row: Mapping[str, Any], column: str) -> str | None:
    """Return the group of a row; None for an empty cell or NaN, as pandas writes it.

    Raises:
        BadSample: group is not text, NUL character, or group is not UTF-8.
    """
    value = row.get(column)
    if isinstance(value, list | dict | bytes):
        raise BadSample("group is not text", "", f"{column} is {str(value)[:40]!r}; give a text or a number")
    is_nan = isinstance(value, float) and math.isnan(value)
    if value is None or is_nan or not str(value).strip():
        return None
    return validate_text(str(value), "group")


def choose_columns(columns: Sequence[str] | pa.Schema, available: pa.Schema, name: str) -> pa.Schema:
    """Return names and types of the chosen columns; types are looked up in `available` unless they are given.

    Raises:
        ConfigError: A column is missing.
    """
    for column in columns.names if isinstance(columns, pa.Schema) else columns:
        if column not in available.names:
            choices = f" Its columns are: {list_names(available.names)}" if len(available) else ""
            raise ConfigError(f"{name} has no column {column!r}.{suggest_name(column, available.names)}{choices}")
    return columns if isinstance(columns, pa.Schema) else pa.schema([available.field(column) for column in columns])


def is_scalar(data_type: pa.DataType) -> bool:
    """Return whether cells of a type hold one value, not bytes, a list or a struct."""
    is_bytes = pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type)
    return not (pa.types.is_nested(data_type) or is_bytes)


def infer_column_type(cells: Sequence[Any]) -> pa.DataType:
    """Return the first of INFERRED_TYPES that all cells can be converted to; CSV contains only text."""
    for data_type in INFERRED_TYPES:
        try:
            values = [_convert(cell, data_type) for cell in cells]
        except (ValueError, TypeError, OverflowError):
            continue
        if any(value is not None for value in values):
            return data_type
    return pa.string()


def convert_cell(value: Any, field: pa.Field) -> Any:
    """Convert a cell to the type of its column; raise BadSample if that is impossible."""
    try:
        return _convert(value, field.type)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadSample("column of another type", "", f"{field.name}: {error}") from error


def _convert(value: Any, data_type: pa.DataType) -> Any:
    if value is None or value == "":
        return None
    if pa.types.is_string(data_type):
        text = value if isinstance(value, str) else str(value)
        text.encode()  # fails for an undecodable byte of a CSV file
        return text
    if isinstance(value, bool) and not pa.types.is_boolean(data_type):
        raise TypeError(f"{value!r} is not a number")
    if pa.types.is_integer(data_type) and isinstance(value, str | float):
        value = int(value) if isinstance(value, str) else _to_int(value)
    elif pa.types.is_floating(data_type) and isinstance(value, str):
        value = float(value)
    elif pa.types.is_timestamp(data_type) and isinstance(value, str):
        value = _parse_date(value)
    pa.scalar(value, data_type)  # fails if the value is out of range, or has another type
    return value


def _to_int(value: float) -> int:
    if value != int(value):
        raise ValueError(f"{value} is not an integer")
    return int(value)


def _parse_date(text: str) -> datetime:
    """Parse an ISO date with an optional time; one with a time zone is converted to UTC."""
    if not _DATE_PATTERN.match(text):
        raise ValueError(f"{text!r} is not a date such as 2021-05-03 or 2021-05-03T12:30:00")
    date = datetime.fromisoformat(text)
    return date if date.tzinfo is None else date.astimezone(UTC).replace(tzinfo=None)


def validate_caption(text: str) -> str:
    """Return a caption; raise BadSample if it is too long, has a NUL character or is not UTF-8."""
    if len(text) > MAX_CAPTION_CHARS:
        raise BadSample(
            "caption is too long", "", f"{len(text):,} characters; at most {MAX_CAPTION_CHARS:,} are allowed"
        )
    return validate_text(text, "caption")


def validate_text(value: str, kind: str) -> str:
    """Return a text; raise BadSample if it has a NUL character or is not UTF-8."""
    if "\0" in value:
        raise BadSample("NUL character", "", f"in the {kind} {value[:40]!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadSample(f"{kind} is not UTF-8", "", f"{_show_bytes(value)}; save the file as UTF-8") from None
    return value


def _show_bytes(text: str) -> str:
    """Return the text around its first undecodable byte, with such bytes escaped."""
    position = next(index for index, character in enumerate(text) if "\ud800" <= character <= "\udfff")
    excerpt = text[max(0, position - 20) : position + 20]
    try:
        return repr(excerpt.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
    except UnicodeEncodeError:  # a surrogate of a JSON escape is no byte
        return ascii(excerpt)
