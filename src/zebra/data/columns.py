"""The columns of a table in, those that hold images and captions out; and what a cell of them says."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zebra.config.data import DataConfig
from zebra.errors import BadSample, DataError, nearest

IMAGE_COLUMNS = ("path", "image", "filepath", "file_name")
CAPTION_COLUMNS = ("caption", "text", "title")


def image_column(
    found: Sequence[str], table: Path, config: DataConfig, known: Sequence[str] = IMAGE_COLUMNS
) -> str:
    """Return the column that the config names, else the first of those known; DataError if it is not there."""
    names = [name for name in known if name in found]
    chosen = names[:1] if config.image_column is None else [config.image_column]
    return _require(chosen, found, table, f"image column ({', '.join(known)})", "image-column")[0]


def caption_columns(found: Sequence[str], table: Path, config: DataConfig) -> tuple[str, ...]:
    """Return the columns that the config names, else all that are known; DataError if one is not there."""
    chosen = config.caption_columns or tuple(name for name in CAPTION_COLUMNS if name in found)
    return _require(chosen, found, table, f"caption column ({', '.join(CAPTION_COLUMNS)})", "caption-columns")


def _require(
    chosen: Sequence[str], found: Sequence[str], table: Path, what: str, flag: str
) -> tuple[str, ...]:
    rest = f"Its columns are: {', '.join(found)}. Name the right one with --data-options.{flag}"
    if not chosen:
        raise DataError(f"{table} has no {what}. {rest}")
    for name in chosen:
        if name not in found:
            raise DataError(f"{table} has no column {name!r}.{nearest(name, found)} {rest}")
    return tuple(chosen)


def image_of(cell: Any) -> tuple[str | None, bytes | None]:
    """Return a path or the bytes of a cell; Hugging Face writes a struct of both.

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
    return _text(str(value).strip(), "image path"), None


def captions_of(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """Return all captions of a row; a cell holds one, a list of them, or nothing.

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
                texts.append(_text(text, "caption"))
    if not texts:
        raise BadSample("empty caption", "", f"nothing in {', '.join(columns)}")
    return texts


def printable(text: str) -> str:
    """Show what cannot be encoded as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _text(value: str, what: str) -> str:
    if "\0" in value:
        raise BadSample("NUL character", "", f"in the {what} {value[:40]!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadSample(f"{what} is not UTF-8", "", printable(value[:40])) from None
    return value
