"""Text lines, JSON documents and JSON records of annotation files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zebra.errors import DataError

CHUNK_CHARS = 1 << 20
"""Characters that are read at once from a JSON array, which may have gigabytes."""
MAX_ITEM_CHARS = 1 << 24


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file, or of the array in a `.json` file, of which only a part is in memory.

    Raises:
        DataError: The file cannot be read, or an entry is no JSON object.
    """
    for number, record in enumerate(_read_array(path) if path.suffix == ".json" else _read_lines(path), start=1):
        if not isinstance(record, dict):
            raise DataError(f"{path}, record {number}: expected an object; got {str(record)[:60]!r}")
        yield record


def read_json(path: Path) -> Any:
    """Read a JSON document; raise DataError if it cannot be read."""
    try:
        return json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: invalid JSON ({error.msg}). Download the file again") from error


def read_text_lines(path: Path) -> list[str]:
    """Return the lines of a text file. Only line feeds separate lines: captions may contain other separators.

    Raises:
        DataError: The file cannot be read.
    """
    lines = _read_text(path).split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def _read_lines(path: Path) -> Iterator[Any]:
    for number, line in enumerate(read_text_lines(path), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}:{number}: invalid JSON ({error.msg}). Download the file again") from error


def _read_array(path: Path) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    try:
        with path.open(encoding="utf-8-sig") as file:
            text, position = file.read(CHUNK_CHARS).lstrip(), 1
            if not text.startswith("["):
                raise DataError(f"{path}: expected a JSON array. Download the file again")
            while True:
                while position < len(text) and text[position] in " \t\r\n,":
                    position += 1
                if text.startswith("]", position):
                    return
                try:
                    item, position = decoder.raw_decode(text, position)
                except json.JSONDecodeError as error:  # wrong, or continued in the next chunk
                    chunk = file.read(CHUNK_CHARS)
                    if not chunk or len(text) - position > MAX_ITEM_CHARS:
                        message = f"{path}: invalid or truncated JSON ({error.msg}). Download the file again"
                        raise DataError(message) from error
                    text, position = text[position:] + chunk, 0
                    continue
                yield item
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _read_text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
