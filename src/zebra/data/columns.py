"""Find and parse the columns of a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from zebra.config.data import DataConfig
from zebra.errors import BadSample, DataError, suggest_name

IMAGE_COLUMNS = ("path", "image", "filepath", "file_name")
CAPTION_COLUMNS = ("caption", "text", "title")


def find_image_column(
    columns: Sequence[str], path: Path, config: DataConfig, candidates: Sequence[str] = IMAGE_COLUMNS
) -> str:
    """Return the column that the config names, else the first candidate; raise DataError if it is missing."""
    names = [name for name in candidates if name in columns]
    chosen = names[:1] if config.image_column is None else [config.image_column]
    return _require_columns(chosen, columns, path, f"image column ({', '.join(candidates)})", "image-column")[0]


def find_caption_columns(columns: Sequence[str], path: Path, config: DataConfig) -> tuple[str, ...]:
    """Return the columns that the config names, else all of CAPTION_COLUMNS; raise DataError if one is missing."""
    chosen = config.caption_columns or tuple(name for name in CAPTION_COLUMNS if name in columns)
    return _require_columns(chosen, columns, path, f"caption column ({', '.join(CAPTION_COLUMNS)})", "caption-columns")


def _require_columns(
    chosen: Sequence[str], columns: Sequence[str], path: Path, kind: str, flag: str
) -> tuple[str, ...]:
    advice = f"Its columns are: {', '.join(columns)}. Name the right one with --data-options.{flag}"
    if not chosen:
        raise DataError(f"{path} has no {kind}. {advice}")
    for name in chosen:
        if name not in columns:
            raise DataError(f"{path} has no column {name!r}.{suggest_name(name, columns)} {advice}")
    return tuple(chosen)


def parse_image_cell(cell: Any) -> tuple[str | None, bytes | None]:
    """Return the path or the bytes in a cell; Hugging Face writes a struct of both.

    Raises:
        BadSample: missing image, NUL character, or image path is not UTF-8.
    """
    value = cell.get("bytes") or cell.get("path") if isinstance(cell, Mapping) else cell
    if isinstance(value, bytes) and value:
        return None, value
    if not isinstance(value, str | bytes | None):
        raise BadSample("missing image", "", f"neither a path nor bytes: {str(value)[:40]!r}")
    if not value or not value.strip():
        raise BadSample("missing image", "", "the image column is empty")
    return _validate_text(str(value).strip(), "image path"), None


def parse_captions(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """Return all captions of a row; a cell contains one caption, a list of them, or nothing.

    Raises:
        BadSample: caption is not text, empty caption, NUL character, or caption is not UTF-8.
    """
    texts: list[str] = []
    for column in columns:
        value = row.get(column)
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str | None):
                raise BadSample("caption is not text", "", f"{column} is {str(text)[:40]!r}")
            if text and text.strip():
                texts.append(_validate_text(text, "caption"))
    if not texts:
        raise BadSample("empty caption", "", f"nothing in {', '.join(columns)}")
    return texts


def infer_column_type(cells: Sequence[Any]) -> pa.DataType:
    """Return the first of int64, float64 and string that all cells can be converted to; CSV contains only text."""
    for data_type in (pa.int64(), pa.float64()):
        try:
            values = [_convert(cell, data_type) for cell in cells]
        except (ValueError, TypeError):
            continue
        if any(value is not None for value in values):
            return data_type
    return pa.string()


def convert_cell(value: Any, field: pa.Field) -> Any:
    """Convert a cell to the type of its column; raise BadSample if that is impossible."""
    try:
        return _convert(value, field.type)
    except (ValueError, TypeError) as error:
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
        return int(value) if isinstance(value, str) else _to_int(value)
    if pa.types.is_floating(data_type) and isinstance(value, str):
        return float(value)
    return value


def _to_int(value: float) -> int:
    if value != int(value):
        raise ValueError(f"{value} is not an integer")
    return int(value)


def escape_unencodable(text: str) -> str:
    """Replace characters that UTF-8 cannot encode, such as undecodable bytes of a file name, by escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _validate_text(value: str, kind: str) -> str:
    if "\0" in value:
        raise BadSample("NUL character", "", f"in the {kind} {value[:40]!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadSample(f"{kind} is not UTF-8", "", escape_unencodable(value[:40])) from None
    return value
