"""Image cells of a table: a path, bytes, or an image in base64."""

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from zebra.data.columns import validate_text
from zebra.data.regular_files import read_image_bytes
from zebra.errors import BadSample, list_names
from zebra.images.formats import IMAGE_SUFFIXES

MAX_PATH_CHARS = 4096
BASE64_PREFIXES = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR")
"""The first characters of JPEG, PNG, GIF and WebP files in base64."""
MIN_BASE64_CHARS = 64
_DATA_URI = re.compile(r"data:[^,;]*(?:;[^,;]*)*,", re.IGNORECASE)
_FILE_URI = re.compile(r"^file://(localhost(?=/))?", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_WINDOWS_PATH = re.compile(r"[a-z]:[\\/]|\\\\", re.IGNORECASE)


def parse_image_cell(cell: Any) -> tuple[str | None, bytes | None]:
    """Return the path or the bytes in a cell; Hugging Face writes a struct of both.

    Raises:
        BadSample: missing image, image is a URL, broken base64, NUL character, or image path is not UTF-8.
    """
    value = cell.get("bytes") or cell.get("path") if isinstance(cell, Mapping) else cell
    if isinstance(value, bytes) and value:
        return None, value
    if not isinstance(value, str | bytes | None):
        raise BadSample("missing image", "", f"neither a path nor bytes: {str(value)[:40]!r}")
    if not value or not value.strip():
        is_other = isinstance(cell, Mapping) and not {"bytes", "path"} & cell.keys()
        keys = f"its keys are {list_names(list(map(str, cell)))}, not bytes or path" if is_other else ""
        raise BadSample("missing image", "", keys or "the image column is empty")
    return _parse_image_text(str(value).strip())


def _parse_image_text(text: str) -> tuple[str | None, bytes | None]:
    if len(text) >= MIN_BASE64_CHARS and text.startswith(BASE64_PREFIXES) and "." not in text:
        return None, _decode_base64(text)
    if ":" in text and (match := _DATA_URI.match(text)):
        if not match[0].lower().endswith(";base64,"):
            raise BadSample("broken base64", "", f"a data URI without base64: {text[:40]!r}")
        return None, _decode_base64(text[match.end() :])
    if len(text) > MAX_PATH_CHARS:
        raise BadSample("unreadable file", "", f"{text[:40]!r}… has {len(text):,} characters, too many for a path")
    name = validate_text(text, "image path")
    if ":" not in name:
        return name, None
    name = _FILE_URI.sub("", name)
    if _URL.match(name):
        raise BadSample("image is a URL", "", f"{name}; download the images first, for instance with img2dataset")
    return name, None


def _decode_base64(text: str) -> bytes:
    try:
        image = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSample("broken base64", "", f"{text[:40]!r}…: {error}") from error
    if not image:
        raise BadSample("missing image", "", "an empty data URI")
    return image


def read_table_image(folder: Path, name: str, where: str) -> bytes:
    """Return the bytes of the image file that a cell names.

    Args:
        folder: The folder of the table; a relative path is resolved against it.
        name: The path in the cell.
        where: ID of the row.

    Raises:
        BadSample: The file cannot be read; the message says what exists instead.
    """
    try:
        return read_image_bytes(folder / name, where)
    except BadSample as bad:
        if _is_file(folder / name):
            raise
        path = resolve_image_path(folder, name)
        if path != folder / name:
            return read_image_bytes(path, where)
        detail = _explain_missing_file(folder, name) or bad.detail
        raise BadSample(bad.reason, where, detail) from bad


def resolve_image_path(folder: Path, name: str) -> Path:
    """Return the path of an image file; if there is none, the same name in another spelling that exists.

    Other spellings have slashes for backslashes, characters for percent escapes, the home directory for `~`, and
    accented letters in the other Unicode normalization.
    """
    path = folder / name
    if _is_file(path):
        return path
    return next((other for spelling in _spellings(name) if _is_file(other := folder / spelling)), path)


def _spellings(name: str) -> list[str]:
    """Return the other spellings of a path."""
    slashed = name.replace("\\", "/")
    spellings: dict[str, None] = {}
    for unescaped in (slashed, unquote(slashed)):
        expanded = str(Path.home() / unescaped[2:]) if unescaped.startswith("~/") else unescaped
        for normalized in (expanded, unicodedata.normalize("NFC", expanded), unicodedata.normalize("NFD", expanded)):
            spellings[normalized] = None
    spellings.pop(name, None)
    return list(spellings)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # the name is too long, or a folder cannot be searched
        return False


def _explain_missing_file(folder: Path, name: str) -> str | None:
    """Return what is wrong with a path; None if nothing else than that the file cannot be read is known."""
    path = folder / name
    if near := next((other for other in _iter_near_paths(folder, name) if _is_file(other)), None):
        return f"{path}: No such file, but {near} exists. Paths are relative to the folder of the table"
    if _WINDOWS_PATH.match(name):
        return f"{name} is a path of a Windows computer. Write paths relative to the folder of the table"
    if "\\" in name:
        return f"{path}: No such file, with backslashes or with slashes"
    return None


def _iter_near_paths(folder: Path, name: str) -> Iterator[Path]:
    """Yield files that the user may mean, although the path in the cell says otherwise."""
    relative = Path(name.replace("\\", "/").lstrip("/"))
    if not relative.name:
        return
    yield from (parent / relative for parent in (folder, folder.absolute().parent, Path.cwd()))
    yield folder / relative.name
    yield from (folder / "images" / relative, folder / relative.parent / relative.name.lower())
    yield folder / relative.with_suffix(relative.suffix.swapcase())
    if relative.suffix.lower() not in IMAGE_SUFFIXES:
        yield from (folder / f"{relative}{suffix}" for suffix in IMAGE_SUFFIXES)
